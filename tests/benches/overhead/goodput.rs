//! Unshaped transfers with the programs and without.

use crate::runs::Runs;
use anyhow::{Context, Result, anyhow, bail};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::Report;
use tests::kernel::counter;
use tests::observer::Observer;
use tests::{Family, Host, Lab, Scenario};

/// How long each transfer sends.
const LENGTH: Duration = Duration::from_secs(2);
/// Bytes of one call.
const CHUNK: usize = 256 << 10;

/// Compares so many pairs, then times the programs.
pub fn compare(report: &mut Report, pairs: usize) -> Result<()> {
    let lab = Lab::start(&Scenario::parse(super::NETWORK)?, Family::V4)?;
    let hosts = ["client", "server"].map(|name| lab.host(name));
    let with = || {
        let _attached = [Observer::attach(hosts[0])?, Observer::attach(hosts[1])?];
        transfer(hosts)
    };
    // The first transfer of all finds cold caches.
    transfer(hosts)?;
    let mut rates = Vec::new();
    for number in 0..pairs {
        rates.push(if number % 2 == 0 {
            let ours = with()?;
            [ours, transfer(hosts)?]
        } else {
            let bare = transfer(hosts)?;
            [with()?, bare]
        });
    }
    let [ours, bare] = [0, 1].map(|side| sorted(rates.iter().map(|pair| pair[side])));
    let ratios = sorted(rates.iter().map(|pair| pair[0] / pair[1]));
    let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    report.row("goodput, Gbit/s, median", at(&ours, 0.5) / 1e9, Some(at(&bare, 0.5) / 1e9));
    for (what, share) in [
        ("least", 0.0),
        ("lower quartile", 0.25),
        ("median", 0.5),
        ("upper quartile", 0.75),
        ("greatest", 1.0),
    ] {
        report.row(format!("goodput ratio of a pair, {what}"), at(&ratios, share), None);
    }
    let runs = Runs::begin()?;
    let attached = [Observer::attach(hosts[0])?, Observer::attach(hosts[1])?];
    transfer(hosts)?;
    runs.report(report, "in a transfer")?;
    drop(attached);
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Bits per second of payload that arrives.
///
/// Now and then, over links without any delay, a connection of this kernel stands still again and again, until its own
/// timer sends something (`MPTCPRetrans`), with the programs and without: such a transfer is repeated.
fn transfer(hosts: [&Arc<Host>; 2]) -> Result<f64> {
    const TRIES: usize = 20;
    for _ in 0..TRIES {
        let before = counter(hosts[0], "MPTCPRetrans")?;
        let rate = attempt(hosts)?;
        if counter(hosts[0], "MPTCPRetrans")? <= before + 1 {
            return Ok(rate);
        }
    }
    bail!("{TRIES} connections in a row stood still")
}

fn attempt([client, server]: [&Arc<Host>; 2]) -> Result<f64> {
    let listener: TcpListener = server.run(|| {
        let socket = mptcp()?;
        socket.bind(&SocketAddr::from(([10, 1, 0, 1], 0)).into())?;
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
            0 => break,
            read => bytes += read,
        }
        let elapsed = begin.elapsed();
        if elapsed >= TIME {
            rates.push(bytes as f64 * 8.0 / elapsed.as_secs_f64());
            (begin, bytes) = (Instant::now(), 0);
        }
    }
    let rates = sorted(rates.into_iter());
    rates.get(rates.len() / 2).copied().context("nothing arrived")
}

fn mptcp() -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")?;
    // What this kernel uses by default, and others do not.
    socket.set_tcp_congestion(b"cubic").context("use CUBIC")?;
    Ok(socket)
}
