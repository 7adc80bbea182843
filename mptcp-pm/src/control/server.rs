//! Serves the control socket: reads requests within bounds, hands them to the daemon, writes its replies.
//!
//! ```text
//! client ─┐
//! client ─┼─> Server::serve, one task for each client ── Call (bounded channel) ──> daemon loop
//! client ─┘                                           <── Reply (oneshot) ─────────┘
//!           └─ those that monitor <── Feed (broadcast channel) ── daemon loop
//! ```
//! A client can hold its own task, for ten seconds without a request; one that monitors as long as it reads what it is
//! told. Without clients there is no timer, nor while those that monitor have nothing to be told.
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::feed::{Feed, MAX_LISTENERS};
use super::protocol::{Failure, MAX_REQUEST, Peer, Reply, Request};
use crate::config::Control;
use crate::socket_file::{ACCEPT_REST, Error, SocketFile};

/// How many clients are served at once.
pub const MAX_CLIENTS: usize = 16;
/// How long a client may take to send one request or to take one reply, and the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that the daemon must answer.
#[derive(Debug)]
pub struct Call {
    /// What is wanted; its [`Peer`] may have it.
    pub request: Request,
    /// Who wants it.
    pub peer: Peer,
    /// Where the answer goes; dropping it tells the client that the daemon is stopping.
    pub reply: oneshot::Sender<Reply>,
}

/// The server of the control socket; the socket's file goes with it.
#[derive(Debug)]
pub struct Server {
    socket: UnixListener,
    _file: SocketFile,
}

impl Server {
    /// Binds the socket. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Those of [`SocketFile::bind`].
    pub fn bind(control: &Control) -> Result<Self, Error> {
        let file = SocketFile::bind(&control.socket, &control.group)?;
        let socket = file.socket().and_then(UnixListener::from_std).map_err(|source| Error::Io {
            operation: "register",
            path: control.socket.clone(),
            source,
        })?;
        Ok(Self { socket, _file: file })
    }

    /// Serves for ever; dropping the future ends all clients and removes the socket.
    pub async fn serve(self, calls: mpsc::Sender<Call>, feed: Feed) {
        let mut clients = JoinSet::new();
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => admit(stream, &mut clients, &calls, &feed),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

fn admit(stream: UnixStream, clients: &mut JoinSet<()>, calls: &mpsc::Sender<Call>, feed: &Feed) {
    while clients.try_join_next().is_some() {}
    if clients.len() < MAX_CLIENTS {
        clients.spawn(session(stream, calls.clone(), feed.clone()));
    } else {
        let failure = Failure::new(format!("{MAX_CLIENTS} clients are served already"), "try again later");
        // The buffer of a new socket has room for one line; if not, the client only sees the end.
        let _ = stream.try_write(&line(&Reply::Error(failure)));
    }
}

/// One client, until it ends or is not understood.
async fn session(stream: UnixStream, calls: mpsc::Sender<Call>, feed: Feed) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid() };
    let mut stream = BufReader::new(stream);
    loop {
        let (reply, last) = match next_request(&mut stream).await {
            Ok(None) => return,
            Ok(Some(Request::Monitor {})) => return monitor(stream, peer, &calls, &feed).await,
            Ok(Some(request)) => (answer(request, peer, &calls).await, false),
            Err(failure) => (Reply::Error(failure), true),
        };
        if !send(&mut stream, &line(&reply)).await || last {
            return;
        }
    }
}

/// Tells a client what happens, until it goes or does not read.
async fn monitor(mut stream: BufReader<UnixStream>, peer: Peer, calls: &mpsc::Sender<Call>, feed: &Feed) {
    // Listens before the reply says so: nothing that happens after it is missed.
    let Some(mut events) = feed.listen() else {
        let failure = Failure::new(format!("{MAX_LISTENERS} clients monitor already"), "try again later");
        send(&mut stream, &line(&Reply::Error(failure))).await;
        return;
    };
    let reply = answer(Request::Monitor {}, peer, calls).await;
    let mut goes_on = send(&mut stream, &line(&reply)).await && matches!(reply, Reply::Ok(_));
    while goes_on {
        tokio::select! {
            event = events.next() => goes_on = send(&mut stream, event.as_bytes()).await,
            _ = stream.fill_buf() => goes_on = false,
        }
    }
}

/// Whether a client has taken this in time.
async fn send(stream: &mut BufReader<UnixStream>, bytes: &[u8]) -> bool {
    matches!(timeout(PATIENCE, stream.write_all(bytes)).await, Ok(Ok(())))
}

/// The next request; none when the client has ended.
async fn next_request(stream: &mut BufReader<UnixStream>) -> Result<Option<Request>, Failure> {
    match timeout(PATIENCE, read_line(stream)).await {
        Err(_) => Err(Failure::new("no request within 10 s", "connect again")),
        Ok(Err(_)) => Ok(None),
        Ok(Ok(line)) if line.is_empty() => Ok(None),
        Ok(Ok(line)) if line.len() > MAX_REQUEST => {
            Err(Failure::new(format!("request longer than {MAX_REQUEST} bytes"), "send a shorter one"))
        }
        Ok(Ok(line)) => Request::parse(&line).map(Some),
    }
}

/// Reads to the end of a line, or of the stream, or to one byte more than is allowed.
async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(MAX_REQUEST as u64 + 1).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// Has the daemon answer what somebody may ask for, however it came here.
pub async fn answer(request: Request, peer: Peer, calls: &mpsc::Sender<Call>) -> Reply {
    // Who runs the daemon may change it anyway: by signals.
    let may_change = peer.uid == 0 || peer.uid == geteuid().as_raw();
    if request.changes() && !may_change {
        return Reply::Error(Failure::new("only root may change something", "run it as root, or with sudo"));
    }
    match timeout(PATIENCE, ask(request, peer, calls)).await {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::Error(Failure::new("the daemon is stopping", "start it again")),
        Err(_) => Reply::Error(Failure::new("the daemon is busy", "try again; if it stays so, see its log")),
    }
}

async fn ask(request: Request, peer: Peer, calls: &mpsc::Sender<Call>) -> Option<Reply> {
    let (reply, answered) = oneshot::channel();
    calls.send(Call { request, peer, reply }).await.ok()?;
    answered.await.ok()
}

fn line(reply: &Reply) -> Vec<u8> {
    let mut line = serde_json::to_vec(reply).unwrap_or_default();
    line.push(b'\n');
    line
}
