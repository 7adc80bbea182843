//! Many MPTCP connections at once, each with a little traffic; both ends take one thread each.

use crate::Host;
use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

const PORT: u16 = 4711;

/// What each connection carries: messages, and an answer of the same length to each.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    /// Bytes of a message.
    pub message: usize,
    /// Messages that are sent at once.
    pub in_a_row: usize,
    /// From the beginning of one exchange to that of the next; the next waits for the answers.
    pub interval: Duration,
    /// Between the beginnings of two connections, so that they talk one after the other; zero lets all talk at once.
    pub gap: Duration,
}

/// The connections, and the threads of both ends.
pub struct Crowd {
    stop: watch::Sender<bool>,
    ends: [JoinHandle<Result<()>>; 2],
    mark: Arc<Mark>,
}

/// A moment, and when each connection was first answered after it.
struct Mark {
    at: OnceLock<(Instant, Duration)>,
    answered: Vec<OnceLock<Duration>>,
}

impl Crowd {
    /// Opens so many connections from the first host to the first address of the second.
    ///
    /// # Errors
    /// When the process may not have so many files, or no thread or socket can be made.
    pub fn start([client, server]: [&Arc<Host>; 2], connections: usize, talk: Talk) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let needed = 2 * connections as u64 + 200;
        ensure!(most >= needed, "{needed} open files are needed, and no more than {most} are allowed");
        setrlimit(Resource::RLIMIT_NOFILE, needed, most)?;
        let (stop, stopped) = watch::channel(false);
        let to = SocketAddr::new(first_address(server)?, PORT);
        let listener = server.run(|| {
            let socket = mptcp()?;
            socket.bind(&to.into())?;
            socket.listen(1024)?;
            anyhow::Ok(std::net::TcpListener::from(socket))
        })?;
        let answered = (0..connections).map(|_| OnceLock::new()).collect();
        let mark = Arc::new(Mark { at: OnceLock::new(), answered });
        let talking = mark.clone();
        let ends = [
            in_a_runtime(server.clone(), stopped.clone(), move || serve(listener, talk)),
            in_a_runtime(client.clone(), stopped, move || all_talk(to, talk, talking)),
        ];
        Ok(Self { stop, ends, mark })
    }

    /// Notes, from now on, when each connection is answered for the first time; not within `grace`, in which answers
    /// may be read that had arrived before. Only the first call counts.
    pub fn mark(&self, grace: Duration) {
        self.mark.at.get_or_init(|| (Instant::now(), grace));
    }

    /// Of each connection that was answered since the mark: when, first.
    pub fn answered(&self) -> Vec<Duration> {
        self.mark.answered.iter().filter_map(|first| first.get().copied()).collect()
    }

    /// Breaks all connections off.
    ///
    /// # Errors
    /// With what ended one of them before.
    pub fn end(self) -> Result<()> {
        self.stop.send(true).context("stop the connections")?;
        let ended = self.ends.map(|end| end.join().map_err(|_| anyhow!("an end panicked"))?);
        ended.into_iter().collect()
    }
}

impl Mark {
    fn answer(&self, connection: usize) {
        if let Some((at, grace)) = self.at.get()
            && at.elapsed() >= *grace
        {
            self.answered[connection].get_or_init(|| at.elapsed());
        }
    }
}

fn first_address(host: &Host) -> Result<IpAddr> {
    let addresses = host.addresses()?;
    let v4 = addresses.iter().map(|address| address.net.addr()).find(IpAddr::is_ipv4);
    v4.with_context(|| format!("{} has no IPv4 address", host.name()))
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

async fn serve(listener: std::net::TcpListener, talk: Talk) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await.context("accept")?;
        tokio::spawn(async move {
            let mut message = vec![0; talk.message];
            while stream.read_exact(&mut message).await.is_ok() && stream.write_all(&message).await.is_ok() {}
        });
    }
}

async fn all_talk(to: SocketAddr, talk: Talk, mark: Arc<Mark>) -> Result<()> {
    let mut talkers = tokio::task::JoinSet::new();
    for connection in 0..mark.answered.len() {
        talkers.spawn(exchange(to, talk, mark.clone(), connection));
        // The server's turn, and that of those who talk already.
        tokio::task::yield_now().await;
        if !talk.gap.is_zero() {
            tokio::time::sleep(talk.gap).await;
        }
    }
    match talkers.join_next().await {
        Some(ended) => ended.context("a connection")?.context("a connection that was to go on"),
        None => Ok(()),
    }
}

async fn exchange(to: SocketAddr, talk: Talk, mark: Arc<Mark>, connection: usize) -> Result<()> {
    let mut stream = connect(to).await.context("connect")?;
    let mut turns = tokio::time::interval(talk.interval);
    if !talk.gap.is_zero() {
        // Those that an outage has held up do not talk at once after it.
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    }
    let (message, mut answers) = (vec![7; talk.message], vec![0; talk.in_a_row * talk.message]);
    loop {
        turns.tick().await;
        for _ in 0..talk.in_a_row {
            stream.write_all(&message).await.context("send")?;
        }
        stream.read_exact(&mut answers).await.context("receive")?;
        mark.answer(connection);
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let socket = mptcp()?;
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()).connect(to).await?)
}

fn mptcp() -> Result<Socket> {
    let socket =
        Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).context("make an MPTCP socket")?;
    // What nearly every machine uses by default.
    socket.set_tcp_congestion(b"cubic").context("use CUBIC")?;
    Ok(socket)
}
