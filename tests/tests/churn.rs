//! Many short connections: every last record comes, and together they are what was sent, to the byte; of what the programs
//! tell, and of what the daemon shows.

use anyhow::{Context, Result, anyhow, ensure};
use mptcp_common::path_stats::{Established, Sample};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::path_stats::{Event, PathStats};
use mptcp_pm::view::paths::Losses;
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::{Family, Lab, Namespace, Rng, Scenario};

/// How many connections there are, one after the other without a pause.
const CONNECTIONS: usize = 50_000;
/// How many there are while nobody reads: more last records than the ring buffer has room for, by far.
const UNREAD: usize = 20_000;
/// How many may have the same port at the other end: the client's own ports rest for a minute.
const AT_A_PORT: usize = 10_000;
/// Each end of a connection sends up to so many bytes.
const MOST: u64 = 3000;
/// Nothing takes that long but a record that never comes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn no_last_record_of_fifty_thousand_connections_is_lost() -> Result<()> {
    tells_all(CONNECTIONS, true)
}

#[test]
fn no_last_record_is_lost_while_the_reader_is_held_up() -> Result<()> {
    tells_all(UNREAD, false)
}

/// Both ends of the connections are told here, while there are some, or when all have been.
fn tells_all(connections: usize, meanwhile: bool) -> Result<()> {
    let namespace = Namespace::new("churn")?;
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "lo", "up"]);
    ensure!(namespace.spawn(ip)?.wait()?.success(), "no loopback interface");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stats = namespace.run(|| {
        let _inside = runtime.enter();
        PathStats::attach(&Kernel::default())
    })?;
    let mut told = Told::default();
    let [up, down] = thread::scope(|scope| {
        let client = scope.spawn(|| namespace.run(|| talk(listen(Ipv4Addr::LOCALHOST)?, connections)));
        let join = |client: thread::ScopedJoinHandle<'_, Result<[u64; 2]>>| {
            client.join().map_err(|_| anyhow!("the client panicked"))?
        };
        let mut drain = || runtime.block_on(drain(&mut stats, &mut told, 2 * connections, meanwhile));
        match meanwhile {
            true => drain().and_then(|()| join(client)),
            false => join(client).and_then(|sent| drain().map(|()| sent)),
        }
    })
    .with_context(|| format!("{:?}", stats.losses()))?;
    told.check(Established::CapableActive, connections, [up, down])?;
    told.check(Established::CapablePassive, connections, [down, up])?;
    ensure!(told.openings.len() == 2 * connections, "{} sockets", told.openings.len());
    ensure!(
        told.shrunk.is_empty(),
        "these had less in the end than in one of {} readings (received, acknowledged; then, and in the end): {:?}",
        told.readings,
        told.shrunk
    );
    ensure!(!meanwhile || told.readings > connections / 10, "only {} readings", told.readings);
    // Where this thread could not run for long, the beginnings of some are left out.
    let untold = told.openings.values().filter(|times| **times != 0).count() as u64;
    ensure!(meanwhile || untold > 0, "the ring buffer was never full");
    let losses = Losses { openings: untold, ..Losses::default() };
    ensure!(stats.losses()? == losses, "{untold} beginnings not told, {:?}", stats.losses()?);
    ensure!(stats.counts()?.capable_active == connections as u64, "{:?}", stats.counts()?);
    Ok(())
}

#[test]
#[ignore = "CI has the daemon's own connections, which are more work for it: run by name"]
fn the_daemon_accounts_for_fifty_thousand_connections_of_the_kernel() -> Result<()> {
    accounts_for_all("kernel", CONNECTIONS, false)
}

#[test]
fn the_daemon_accounts_for_fifty_thousand_connections_of_its_own() -> Result<()> {
    accounts_for_all("daemon", CONNECTIONS, false)
}

#[test]
fn a_daemon_that_is_stopped_accounts_for_all_connections_when_it_goes_on() -> Result<()> {
    accounts_for_all("daemon", UNREAD, true)
}

/// The same beside a daemon, which has other things to do than to read the ring buffer. While it lags, or is stopped, the
/// beginning of a connection may go untold, which is counted; the last figures of none, nor a byte.
fn accounts_for_all(manager: &str, connections: usize, stopped: bool) -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-cables")?, Family::V4)?;
    let [client, server] = ["client", "server"].map(|name| lab.host(name));
    // One cable is enough.
    let config =
        format!("manager = \"{manager}\"\n[[uplink]]\nmatch = {{ name = \"eth1\" }}\nrole = \"off\"\n");
    // What it logs for debugging would be most of its work.
    let way = ["env", "RUST_LOG=info"];
    let daemon = match manager {
        "daemon" => Daemon::start_in_charge(client, &config, &way)?,
        _ => Daemon::start_through(client, &config, &way)?,
    };
    let figures = |status: &Value| status["paths"]["uplinks"][0]["figures"].clone();
    if stopped {
        daemon.signal(Signal::SIGSTOP)?;
    }
    let (mut up, mut down) = (0, 0);
    for _ in 0..connections / AT_A_PORT {
        let listener = server.run(|| listen(Ipv4Addr::new(10, 1, 0, 1)))?;
        let sent = client.run(|| talk(listener, AT_A_PORT))?;
        (up, down) = (up + sent[0], down + sent[1]);
    }
    if stopped {
        daemon.signal(Signal::SIGCONT)?;
    }
    let ended = |status: &Value| figures(status)["closed_subflows"] == connections;
    let status = daemon.await_that("the end of all", || daemon.status(), ended)?;
    let (found, lost) = (figures(&status), &status["paths"]["lost"]);
    println!("{manager} manages; lost: {lost}");
    ensure!(status["paths"]["uplinks"].as_array().map(Vec::len) == Some(1), "{:#}", status["paths"]);
    ensure!(found["opened_subflows"] == connections, "{found:#}");
    ensure!(
        found["acknowledged_bytes"] == up && found["received_bytes"] == down,
        "{up} up, {down} down, {found:#}"
    );
    ensure!(lost["closings"] == 0 && lost["subflows"] == 0, "{lost}");
    ensure!(!stopped || lost["openings"].as_u64() > Some(0), "the ring buffer was never full: {lost}");
    daemon.stop()
}

/// What was told of all connections.
#[derive(Default)]
struct Told {
    /// Of each socket how often it was told to have begun, less how often to have ended.
    openings: HashMap<u64, i32>,
    ended: HashMap<u32, Ended>,
    /// The greatest figures that were read of each socket that lives: bytes received, and acknowledged.
    read: HashMap<u64, [u64; 2]>,
    readings: usize,
    /// Those that had less in the end: what was read, and the end.
    shrunk: Vec<[[u64; 2]; 2]>,
}

/// The sums of the last records of one kind.
#[derive(Default)]
struct Ended {
    number: usize,
    sent: u64,
    acked: u64,
    received: u64,
}

impl Told {
    fn open(&mut self, first: &Sample) {
        *self.openings.entry(first.kept.cookie).or_default() += 1;
    }

    fn read(&mut self, now: &Sample) {
        let greatest = self.read.entry(now.kept.cookie).or_default();
        *greatest = [greatest[0].max(now.live.bytes_received), greatest[1].max(now.live.bytes_acked)];
        self.readings += 1;
    }

    fn close(&mut self, last: &Sample) {
        let read = self.read.remove(&last.kept.cookie).unwrap_or_default();
        let end = [last.live.bytes_received, last.live.bytes_acked];
        if read[0] > end[0] || read[1] > end[1] {
            self.shrunk.push([read, end]);
        }
        *self.openings.entry(last.kept.cookie).or_default() -= 1;
        let ended = self.ended.entry(last.kept.way).or_default();
        ended.number += 1;
        ended.sent += last.live.bytes_sent - last.live.bytes_retransmitted;
        ended.acked += last.live.bytes_acked;
        ended.received += last.live.bytes_received;
    }

    fn number(&self) -> usize {
        self.ended.values().map(|ended| ended.number).sum()
    }

    fn check(&self, way: Established, connections: usize, [sent, received]: [u64; 2]) -> Result<()> {
        let ended = self.ended.get(&way.index()).context("none has ended")?;
        let sums = [ended.sent, ended.acked, ended.received];
        ensure!(ended.number == connections, "{way:?}: {} last records", ended.number);
        ensure!(sums == [sent, sent, received], "{way:?}: {sums:?}, of {sent} sent and {received} received");
        Ok(())
    }
}

/// Takes what is told as the daemon does, until so many ends have been told; and reads those that live all the time, if that
/// is wanted.
async fn drain(stats: &mut PathStats, told: &mut Told, ends: usize, reads: bool) -> Result<()> {
    while told.number() < ends {
        if reads {
            stats.read(|sample| told.read(sample))?;
        }
        let event = tokio::time::timeout(PATIENCE, stats.next()).await;
        match event.with_context(|| format!("only {} have ended", told.number()))?? {
            Event::Opened(sample) => told.open(&sample),
            Event::Closed(sample) => told.close(&sample),
            Event::Timeout(_) | Event::Awake | Event::Read(_) => {}
        }
    }
    Ok(())
}

/// Listens in the network namespace of this thread.
fn listen(address: Ipv4Addr) -> Result<Socket> {
    let listener = socket()?;
    listener.bind(&SocketAddr::from((address, 0)).into())?;
    listener.listen(16)?;
    Ok(listener)
}

/// The connections with one server, one after the other: bytes sent by the client, and by the server.
fn talk(listener: Socket, connections: usize) -> Result<[u64; 2]> {
    let to = listener.local_addr()?;
    let server = thread::spawn(move || serve(&listener.into(), Rng::new(2), connections));
    let mut rng = Rng::new(1);
    let mut sums = [0, 0];
    for _ in 0..connections {
        let client = socket()?;
        client.connect(&to).context("connect")?;
        let mut client = TcpStream::from(client);
        sums[0] += send(&mut client, &mut rng)?;
        client.shutdown(Shutdown::Write)?;
        sums[1] += receive(&mut client)?;
    }
    let received = server.join().map_err(|_| anyhow!("a server panicked"))??;
    ensure!(received == sums, "server: {received:?}, client: {sums:?}");
    Ok(sums)
}

fn serve(listener: &TcpListener, mut rng: Rng, connections: usize) -> Result<[u64; 2]> {
    let mut sums = [0, 0];
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().context("accept")?;
        sums[0] += receive(&mut stream)?;
        sums[1] += send(&mut stream, &mut rng)?;
    }
    Ok(sums)
}

fn send(stream: &mut TcpStream, rng: &mut Rng) -> Result<u64> {
    let size = 1 + rng.bits() % MOST;
    stream.write_all(&[7; MOST as usize][..size as usize]).context("send")?;
    Ok(size)
}

fn receive(stream: &mut TcpStream) -> Result<u64> {
    Ok(stream.read_to_end(&mut Vec::new()).context("receive")? as u64)
}

fn socket() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")
}
