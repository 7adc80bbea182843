//! Many short connections: every last record comes, and together they are what was sent, to the byte.

use anyhow::{Context, Result, anyhow, ensure};
use mptcp_common::path_stats::{Established, Sample};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::path_stats::{Event, PathStats};
use mptcp_pm::view::paths::Losses;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;
use tests::{Namespace, Rng};

/// How many connections there are, with how many servers, one after the other: who reads has to get its turn, also on a
/// machine that is busy with something else.
const CONNECTIONS: usize = 50_000;
const SERVERS: usize = 4;
/// Each end of a connection sends up to so many bytes.
const MOST: u64 = 3000;
/// Nothing takes that long but a record that never comes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn no_last_record_of_fifty_thousand_connections_is_lost() -> Result<()> {
    let namespace = Namespace::new("churn")?;
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "lo", "up"]);
    ensure!(namespace.spawn(ip)?.wait()?.success(), "no loopback interface");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut stats = namespace.run(|| {
        let _inside = runtime.enter();
        PathStats::attach(&Kernel::default())
    })?;
    let (told, sent) = thread::scope(|scope| {
        let client =
            scope.spawn(|| namespace.run(|| (0..SERVERS).map(talk).collect::<Result<Vec<[u64; 2]>>>()));
        let told = runtime.block_on(drain(&mut stats));
        let sent = client.join().map_err(|_| anyhow!("the client panicked"))?;
        anyhow::Ok((told.with_context(|| format!("{:?}", stats.losses()))?, sent?))
    })?;
    let [up, down] = [0, 1].map(|way| sent.iter().map(|sums| sums[way]).sum::<u64>());
    told.check(Established::CapableActive, up, down)?;
    told.check(Established::CapablePassive, down, up)?;
    ensure!(told.openings.values().all(|times| *times == 0), "not every subflow is told of twice");
    ensure!(told.openings.len() == 2 * CONNECTIONS, "{} sockets", told.openings.len());
    ensure!(stats.losses()? == Losses::default(), "{:?}", stats.losses()?);
    ensure!(stats.counts()?.capable_active == CONNECTIONS as u64, "{:?}", stats.counts()?);
    Ok(())
}

/// What was told of all connections.
#[derive(Default)]
struct Told {
    /// Of each socket how often it was told to have begun, less how often to have ended.
    openings: HashMap<u64, i32>,
    ended: HashMap<u32, Ended>,
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

    fn close(&mut self, last: &Sample) {
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

    fn check(&self, way: Established, sent: u64, received: u64) -> Result<()> {
        let ended = self.ended.get(&way.index()).context("none has ended")?;
        let sums = [ended.sent, ended.acked, ended.received];
        ensure!(ended.number == CONNECTIONS, "{way:?}: {} last records", ended.number);
        ensure!(sums == [sent, sent, received], "{way:?}: {sums:?}, of {sent} sent and {received} received");
        Ok(())
    }
}

/// Takes what is told as the daemon does, until both ends of all connections have ended.
async fn drain(stats: &mut PathStats) -> Result<Told> {
    let mut told = Told::default();
    while told.number() < 2 * CONNECTIONS {
        let event = tokio::time::timeout(PATIENCE, stats.next()).await;
        match event.with_context(|| format!("only {} have ended", told.number()))?? {
            Event::Opened(sample) => told.open(&sample),
            Event::Closed(sample) => told.close(&sample),
            Event::Timeout(_) | Event::Awake => {}
        }
    }
    Ok(told)
}

/// The connections with one server, one after the other: bytes sent by the client, and by the server.
fn talk(number: usize) -> Result<[u64; 2]> {
    // With one server alone, the client's ports would not be enough until they may be used again.
    let address = Ipv4Addr::new(127, 0, 1, number as u8 + 1);
    let listener = socket()?;
    listener.bind(&SocketAddr::from((address, 0)).into())?;
    listener.listen(16)?;
    let to = listener.local_addr()?;
    let server = thread::spawn(move || serve(&listener.into(), Rng::new(!(number as u64))));
    let mut rng = Rng::new(number as u64);
    let mut sums = [0, 0];
    for _ in 0..CONNECTIONS / SERVERS {
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

fn serve(listener: &TcpListener, mut rng: Rng) -> Result<[u64; 2]> {
    let mut sums = [0, 0];
    for _ in 0..CONNECTIONS / SERVERS {
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
