//! Many connections with two subflows each, all of which move data, and what reader and daemon take beside them.

use crate::runs::Runs;
use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tests::bench::{Report, milliseconds, percentile};
use tests::daemon::{Daemon, await_that};
use tests::footprint::Footprint;
use tests::observer::Observer;
use tests::{Family, Host, Lab, Scenario};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long reader and daemon are measured, a look each second.
const LOOKS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// Bytes of a message.
const MESSAGE: usize = 100;

/// Opens the connections beside the daemon, then looks each second.
pub fn measure(report: &mut Report, connections: usize) -> Result<()> {
    let lab = Lab::start(&Scenario::parse(super::NETWORK)?, Family::V4)?;
    let client = lab.host("client");
    let daemon = Daemon::start_through(client, "profile = \"heavy\"\n", &["env", "RUST_LOG=info"])?;
    // Once asked, it has all that asking takes.
    daemon.status()?;
    let empty = Footprint::of(daemon.id())?;
    let observer = Observer::attach(client)?;
    let crowd = Crowd::start(client, lab.host("server"), connections)?;
    let subflows = 2 * connections;
    await_that(&format!("{subflows} subflows"), || Ok(observer.living()?.len()), |seen| *seen == subflows)?;
    reader(report, &observer, subflows)?;
    drop(observer);
    collector(report, &daemon, &empty, subflows)?;
    crowd.end()
}

/// What one look at all subflows takes, and what they moved between two.
fn reader(report: &mut Report, observer: &Observer, subflows: usize) -> Result<()> {
    let (mut whole, mut moving) = (Vec::new(), Vec::new());
    let mut before = HashMap::new();
    each_second(|| {
        let begin = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let mut now = HashMap::with_capacity(subflows);
        observer.stats().read(|sample| {
            now.insert(sample.kept.cookie, sample.live.bytes_sent + sample.live.bytes_received);
        })?;
        whole.push(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - begin));
        let moved = |(cookie, bytes): &(&u64, &u64)| before.get(*cookie).is_some_and(|was| was < *bytes);
        moving.push(now.iter().filter(moved).count());
        before = now;
        Ok(())
    })?;
    moving.sort_unstable();
    report.row("subflows that move data in a second", moving[moving.len() / 2] as f64, Some(subflows as f64));
    for (what, share) in [("median", 0.5), ("longest", 1.0)] {
        let took = percentile(&whole, share).context("no looks")?;
        report.row(format!("a look at all subflows, ms of CPU, {what}"), milliseconds(took), None);
    }
    let runs = Runs::begin()?;
    observer.living()?;
    thread::sleep(SECOND);
    runs.report(report, "in the crowd")
}

/// What the daemon takes while nobody asks, and while it is asked once a second.
fn collector(report: &mut Report, daemon: &Daemon, empty: &Footprint, subflows: usize) -> Result<()> {
    let unasked = processor(daemon, || Ok(()))?;
    report.row("the daemon's CPU, unasked, per cent of a core", 100.0 * unasked, None);
    let asked = processor(daemon, || scrape(daemon))?;
    report.row("the daemon's CPU, one scrape a second, per cent of a core", 100.0 * asked, None);
    let after = Footprint::of(daemon.id())?;
    let grown = (after.anonymous - empty.anonymous) / subflows as f64;
    report.row("the daemon's memory, bytes a subflow", grown, None);
    report.row(
        "the daemon's resident memory, MB; peer: before",
        after.resident / 1e6,
        Some(empty.resident / 1e6),
    );
    Ok(())
}

/// What Prometheus would get.
fn scrape(daemon: &Daemon) -> Result<()> {
    let output = daemon.command(&["metrics"])?.output().context("ask for the metrics")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("mptcp_pm_uplink_sent_bytes_total{"), "no uplink is measured: {text}");
    Ok(())
}

/// The share of a processor that the daemon takes while something is done once a second.
fn processor(daemon: &Daemon, ask: impl FnMut() -> Result<()>) -> Result<f64> {
    let (before, begin) = (Footprint::of(daemon.id())?, Instant::now());
    each_second(ask)?;
    Ok((Footprint::of(daemon.id())?.processor - before.processor) / begin.elapsed().as_secs_f64())
}

fn each_second(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    for look in 0..LOOKS {
        thread::sleep((begin + look * SECOND).saturating_duration_since(Instant::now()));
        work()?;
    }
    Ok(())
}

/// The connections, and the threads of both ends.
struct Crowd {
    stop: watch::Sender<bool>,
    ends: [JoinHandle<Result<()>>; 2],
}

impl Crowd {
    fn start(client: &Arc<Host>, server: &Arc<Host>, connections: usize) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let needed = 2 * connections as u64 + 200;
        ensure!(most >= needed, "{needed} open files are needed, and no more than {most} are allowed");
        setrlimit(Resource::RLIMIT_NOFILE, needed, most)?;
        let (stop, stopped) = watch::channel(false);
        let address = SocketAddr::from(([10, 1, 0, 1], 4711));
        let listener = server.run(|| {
            let socket = mptcp()?;
            socket.bind(&address.into())?;
            socket.listen(1024)?;
            anyhow::Ok(std::net::TcpListener::from(socket))
        })?;
        let answering = in_a_runtime(server.clone(), stopped.clone(), move || serve(listener));
        let talking = in_a_runtime(client.clone(), stopped, move || talk(address, connections));
        Ok(Self { stop, ends: [answering, talking] })
    }

    fn end(self) -> Result<()> {
        self.stop.send(true).context("stop the connections")?;
        let ended = self.ends.map(|end| end.join().map_err(|_| anyhow!("an end panicked"))?);
        ended.into_iter().collect()
    }
}

/// Runs one end in a thread of its own until it fails or is stopped.
fn in_a_runtime<F: Future<Output = Result<()>>>(
    host: Arc<Host>,
    mut stopped: watch::Receiver<bool>,
    end: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<Result<()>> {
    thread::spawn(move || {
        host.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    ended = end() => ended,
                    _ = stopped.changed() => Ok(()),
                }
            })
        })
    })
}

async fn serve(listener: std::net::TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await.context("accept")?;
        tokio::spawn(async move {
            let mut message = [0; MESSAGE];
            while stream.read_exact(&mut message).await.is_ok() && stream.write_all(&message).await.is_ok() {}
        });
    }
}

async fn talk(address: SocketAddr, connections: usize) -> Result<()> {
    let mut talkers = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let socket = mptcp()?;
        socket.connect(&address.into()).context("connect")?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from_std(socket.into())?;
        talkers.spawn(exchange(stream));
        // The server's turn, and that of those who talk already.
        tokio::task::yield_now().await;
    }
    match talkers.join_next().await {
        Some(ended) => ended.context("a connection")?.context("a connection that was to go on"),
        None => Ok(()),
    }
}

/// Two messages in a row each second: while the first is not acknowledged, the kernel prefers the other subflow.
async fn exchange(mut stream: TcpStream) -> Result<()> {
    let mut turns = tokio::time::interval(SECOND);
    let mut answers = [0; 2 * MESSAGE];
    loop {
        turns.tick().await;
        stream.write_all(&[7; MESSAGE]).await.context("send")?;
        stream.write_all(&[7; MESSAGE]).await.context("send")?;
        stream.read_exact(&mut answers).await.context("receive")?;
    }
}

fn mptcp() -> Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")
}
