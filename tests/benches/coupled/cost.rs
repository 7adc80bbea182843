//! What an acknowledgement costs, and what of it is seen in a transfer that only the processors limit.
use crate::record::{Record, median};
use anyhow::{Context, Result, anyhow, bail};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tests::kernel::counter;
use tests::{Family, Lab, Scenario};

const LENGTH: Duration = Duration::from_millis(1500);
/// Bytes of one call.
const CHUNK: usize = 256 << 10;
const TRIES: usize = 20;

pub fn measure(controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-cables")?, Family::V4)?;
    lab.host("server").ip("mptcp endpoint add 10.2.0.1 dev eth1 signal")?;
    lab.host("client").ip("mptcp limits set subflow 2 add_addr_accepted 2")?;
    // The first transfer of all finds cold caches.
    transfer(&lab, "reno")?;
    for round in 0..rounds {
        for control in controls.iter().filter(|control| **control != "reno") {
            // What else this machine does changes from second to second: before and after.
            let before = transfer(&lab, "reno")?;
            let ours = transfer(&lab, control)?;
            let ratio = 2.0 * ours / (before + transfer(&lab, "reno")?);
            record.add(format!("cost: goodput without limit, {control}, of Reno's"), ratio);
            if round % 2 == 0 && *control != "cubic" {
                record.add(format!("cost: {control}, ns for an acknowledgement"), cost(&lab, control)?);
            }
        }
    }
    Ok(())
}

/// The mean time of all programs of a congestion control, for each acknowledgement.
fn cost(lab: &Lab, control: &str) -> Result<f64> {
    let _counting = enable_stats(Stats::RunTime).context("switch the statistics of eBPF programs on")?;
    let before = runs(control)?;
    transfer(lab, control)?;
    let after = runs(control)?;
    anyhow::ensure!(after.0 > before.0 + 100, "{control}: no more than {} runs", after.0 - before.0);
    Ok((after.1 - before.1) / (after.0 - before.0) as f64)
}

/// How often its program for acknowledgements has run, and the nanoseconds of that and of those that it shares.
fn runs(control: &str) -> Result<(u64, f64)> {
    let (avoid, shared) =
        (format!("{control}_avoid"), ["begin", "end", "undo", "state", "halve", "balia_reduce"]);
    let (mut runs, mut time) = (0, 0.0);
    for program in loaded_programs() {
        // One that has gone in between is of no interest.
        let Ok(program) = program else { continue };
        let Some(name) = program.name_as_str() else { continue };
        if name == avoid || shared.contains(&name) {
            time += program.run_time().as_nanos() as f64;
        }
        if name == avoid {
            runs += program.run_count();
        }
    }
    Ok((runs, time))
}

/// Bytes per second that arrive.
///
/// Now and then, over links without any delay, a connection of this kernel stands still again and again, until its own
/// timer sends something (`MPTCPRetrans`), whatever its congestion control: such a transfer is repeated.
fn transfer(lab: &Lab, control: &str) -> Result<f64> {
    for _ in 0..TRIES {
        let stood_still = || counter(lab.host("client"), "MPTCPRetrans");
        let before = stood_still()?;
        let rate = attempt(lab, control)?;
        if stood_still()? <= before + 1 {
            return Ok(rate);
        }
    }
    bail!("{TRIES} connections in a row stood still")
}

fn attempt(lab: &Lab, control: &str) -> Result<f64> {
    let listener: TcpListener = lab.host("server").run(|| {
        let socket = mptcp(control)?;
        socket.bind(&SocketAddr::from(([10, 1, 0, 1], 0)).into())?;
        socket.listen(1)?;
        anyhow::Ok(socket.into())
    })?;
    let to = listener.local_addr()?;
    let receiver = thread::spawn(move || receive(&listener));
    let mut stream: TcpStream = lab.host("client").run(|| {
        let socket = mptcp(control)?;
        socket.connect(&to.into()).context("connect")?;
        anyhow::Ok(socket.into())
    })?;
    let (chunk, begin) = (vec![7; CHUNK], Instant::now());
    while begin.elapsed() < LENGTH {
        stream.write_all(&chunk).context("send")?;
    }
    drop(stream);
    receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
}

/// The median over short times.
fn receive(listener: &TcpListener) -> Result<f64> {
    const TIME: Duration = Duration::from_millis(20);
    let (mut stream, _) = listener.accept().context("accept")?;
    let (mut chunk, mut rates) = (vec![0; CHUNK], Vec::new());
    let (mut begin, mut bytes) = (Instant::now(), 0);
    loop {
        match stream.read(&mut chunk).context("receive")? {
            0 => return Ok(median(&rates)),
            read => bytes += read,
        }
        let elapsed = begin.elapsed();
        if elapsed >= TIME {
            rates.push(bytes as f64 / elapsed.as_secs_f64());
            (begin, bytes) = (Instant::now(), 0);
        }
    }
}

fn mptcp(control: &str) -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")?;
    socket.set_tcp_congestion(control.as_bytes()).with_context(|| format!("use {control}"))?;
    Ok(socket)
}
