//! Accepts the clients of the metrics endpoint, and gives each its bounds.
use std::io;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Scrape, http};
use crate::socket_file::ACCEPT_REST;

/// How many clients are served at once.
pub(super) const MAX_CLIENTS: usize = 8;
/// How long a client may take for everything: its request, the daemon's answer, taking it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// Where clients come from.
pub(super) trait Listening {
    /// A client's connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next client.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listening for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listening for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves for ever; dropping the future ends all clients.
pub(super) async fn serve(listener: impl Listening, scrapes: mpsc::Sender<Scrape>) {
    let mut clients = JoinSet::new();
    loop {
        match listener.next().await {
            Ok(stream) => {
                while clients.try_join_next().is_some() {}
                // One more than that sees its connection closed, and comes back at its next scrape.
                if clients.len() < MAX_CLIENTS {
                    clients.spawn(session(stream, scrapes.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the metrics endpoint");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// One client with its one request.
async fn session(stream: impl AsyncRead + AsyncWrite + Unpin, scrapes: mpsc::Sender<Scrape>) {
    let mut http = http1::Builder::new();
    // A connection that waits for its next request would need a timer.
    http.keep_alive(false).half_close(true).max_header_size(MAX_HEAD).max_buf_size(2 * MAX_HEAD);
    let answer = service_fn(|request| http::answer(request, &scrapes));
    match timeout(PATIENCE, http.serve_connection(TokioIo::new(stream), answer)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics endpoint"),
        Err(_) => tracing::debug!("a client of the metrics endpoint took too long"),
    }
}
