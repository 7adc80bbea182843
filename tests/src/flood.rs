//! A transfer that nothing limits but the processors, which sender and receiver share: no content, no hash, no pace.

use crate::Host;
use crate::bench::median;
use crate::kernel::counter;
use anyhow::{Context, Result, anyhow, bail};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Where the server listens: its first address in the scenario `two-cables`.
const SERVER: [u8; 4] = [10, 1, 0, 1];
/// Bytes of one call.
const CHUNK: usize = 256 << 10;

/// What arrived.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Payload, in bytes.
    pub bytes: u64,
    /// Bits per second of payload, the median over short times.
    pub rate: f64,
    /// Seconds of processor that both ends took, in user space and in the kernel.
    pub processor: f64,
}

/// Sends from the first host of the scenario `two-cables` to the second for so long, over MPTCP.
///
/// Now and then, over links without any delay, a connection of this kernel stands still again and again, until its own
/// timer sends something (`MPTCPRetrans`), whatever watches it: such a transfer is repeated.
///
/// # Errors
/// When a transfer fails, or too many in a row stand still.
pub fn flood(hosts: [&Arc<Host>; 2], length: Duration) -> Result<Flood> {
    const TRIES: usize = 20;
    for _ in 0..TRIES {
        let before = counter(hosts[0], "MPTCPRetrans")?;
        let flood = attempt(hosts, length)?;
        if counter(hosts[0], "MPTCPRetrans")? <= before + 1 {
            return Ok(flood);
        }
    }
    bail!("{TRIES} connections in a row stood still")
}

fn attempt([client, server]: [&Arc<Host>; 2], length: Duration) -> Result<Flood> {
    let listener: TcpListener = server.run(|| {
        let socket = mptcp()?;
        socket.bind(&SocketAddr::from((SERVER, 0)).into())?;
        socket.listen(1)?;
        anyhow::Ok(socket.into())
    })?;
    let to = listener.local_addr()?;
    let receiver = thread::spawn(move || receive(&listener));
    let mut stream: TcpStream = client.run(|| {
        let socket = mptcp()?;
        socket.connect(&to.into()).context("connect")?;
        anyhow::Ok(socket.into())
    })?;
    let processor = own_processor()?;
    let (chunk, begin) = (vec![7; CHUNK], Instant::now());
    while begin.elapsed() < length {
        stream.write_all(&chunk).context("send")?;
    }
    drop(stream);
    let (bytes, rate) = receiver.join().map_err(|_| anyhow!("the receiver panicked"))??;
    Ok(Flood { bytes, rate, processor: own_processor()? - processor })
}

/// All bytes, and the rate.
fn receive(listener: &TcpListener) -> Result<(u64, f64)> {
    const TIME: Duration = Duration::from_millis(20);
    let (mut stream, _) = listener.accept().context("accept")?;
    let (mut chunk, mut rates, mut all) = (vec![0; CHUNK], Vec::new(), 0);
    let (mut begin, mut bytes) = (Instant::now(), 0);
    loop {
        match stream.read(&mut chunk).context("receive")? {
            0 => break,
            read => bytes += read,
        }
        let elapsed = begin.elapsed();
        if elapsed >= TIME {
            rates.push(bytes as f64 * 8.0 / elapsed.as_secs_f64());
            all += bytes;
            (begin, bytes) = (Instant::now(), 0);
        }
    }
    Ok(((all + bytes) as u64, median(&rates).context("nothing arrived")?))
}

fn own_processor() -> Result<f64> {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    let time = nix::time::clock_gettime(clock).context("read the processor's time")?;
    Ok(Duration::from(time).as_secs_f64())
}

fn mptcp() -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")?;
    // What this kernel uses by default, and others do not.
    socket.set_tcp_congestion(b"cubic").context("use CUBIC")?;
    Ok(socket)
}
