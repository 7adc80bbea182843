//! The metrics endpoint: OpenMetrics over HTTP/1.1, on a Unix socket or a loopback address, only where configured.
//!
//! ```text
//! client ─┐
//! client ─┼─> server, one task for each client ── Scrape (bounded channel) ──> daemon loop
//! client ─┘                                   <── Exposition (oneshot) ───────┘
//! ```
//! `GET /metrics` is answered, everything else refused with a sentence. Each connection serves one request and is
//! closed: after 10 s in any case, for the ninth client at once, and after 16 KiB of headers. Without clients there is
//! no timer.
mod http;
mod server;

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::config::{Listen, Metrics};
use crate::socket_file::{self, SocketFile};
use crate::view::openmetrics::Exposition;

/// A client wants the metrics; the daemon must answer.
#[derive(Debug)]
pub struct Scrape {
    /// Where the answer goes; dropping it tells the client that the daemon is stopping.
    pub reply: oneshot::Sender<Exposition>,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Unix socket cannot be made.
    #[error("cannot open the metrics endpoint: {0}")]
    Socket(#[from] socket_file::Error),
    /// The address cannot be had.
    #[error("cannot open the metrics endpoint at {addr}: {source}: use another port for listen in [metrics]")]
    Address {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// The endpoint as the configuration wants it, which may be none.
#[derive(Debug)]
pub struct Endpoint {
    scrapes: mpsc::Sender<Scrape>,
    open: Option<Open>,
}

/// An endpoint that listens; dropping it ends all clients and removes the socket's file.
#[derive(Debug)]
struct Open {
    config: Metrics,
    file: Option<SocketFile>,
    _task: JoinSet<()>,
}

impl Endpoint {
    /// Listens nowhere yet; `scrapes` is where clients' wishes go.
    pub fn new(scrapes: mpsc::Sender<Scrape>) -> Self {
        Self { scrapes, open: None }
    }

    /// Whether a scrape shows connections and subflows too.
    pub fn shows_subflows(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.config.subflows)
    }

    /// Listens where it is wanted, and nowhere else. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where that cannot be: then the endpoint stays whole as it was.
    pub fn set(&mut self, wanted: Option<&Metrics>) -> Result<(), Error> {
        let Some(wanted) = wanted else {
            self.open = None;
            return Ok(());
        };
        match &mut self.open {
            Some(open) if open.config.listen == wanted.listen => open.change(wanted),
            open => {
                *open = Some(Open::bind(wanted, &self.scrapes)?);
                tracing::info!(at = %wanted.listen, "metrics");
                Ok(())
            }
        }
    }
}

impl Open {
    fn bind(config: &Metrics, scrapes: &mpsc::Sender<Scrape>) -> Result<Self, Error> {
        let scrapes = scrapes.clone();
        let mut task = JoinSet::new();
        let file = match &config.listen {
            Listen::Loopback(addr) => {
                let listener = listen(*addr).map_err(|source| Error::Address { addr: *addr, source })?;
                task.spawn(server::serve(listener, scrapes));
                None
            }
            Listen::Unix(path) => {
                let file = SocketFile::bind(path, &config.group)?;
                let listener = file.socket().and_then(UnixListener::from_std).map_err(|source| {
                    socket_file::Error::Io { operation: "register", path: path.clone(), source }
                })?;
                task.spawn(server::serve(listener, scrapes));
                Some(file)
            }
        };
        Ok(Self { config: config.clone(), file, _task: task })
    }

    /// Changes everything but the place.
    fn change(&mut self, wanted: &Metrics) -> Result<(), Error> {
        if let Some(file) = self.file.as_ref().filter(|_| self.config.group != wanted.group) {
            file.set_group(&wanted.group)?;
        }
        self.config = wanted.clone();
        Ok(())
    }
}

/// At once: binding a numeric address does not wait.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
