//! Asks the daemon over its control socket.
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::protocol::{Failure, Reply, Request};

/// Longer than the server ever takes to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A reply is never this long, in bytes.
const MAX_REPLY: u64 = 64 << 20;

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no mptcp-pm daemon at {}: start it with `mptcp-pm run` or `systemctl start mptcp-pm`", .0.display())]
    NoDaemon(PathBuf),
    /// The socket's file is for others.
    #[error("no permission for {}: run it as root, or as a member of the socket's group", .0.display())]
    Denied(PathBuf),
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The daemon ended the conversation.
    #[error("the daemon at {} ended without an answer: see its log", .0.display())]
    NoAnswer(PathBuf),
    /// The answer is not in our language.
    #[error("the daemon at {} gave no answer that is understood: {source}", .path.display())]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The system refuses.
    #[error("cannot talk to the daemon at {}: {source}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon at a socket.
    ///
    /// # Errors
    /// [`Error::NoDaemon`], [`Error::Denied`], and what else the system refuses.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let stream = open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NoDaemon(path.to_owned()),
            ErrorKind::PermissionDenied => Error::Denied(path.to_owned()),
            _ => Error::Io { path: path.to_owned(), source },
        })?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with the daemon's reason, and what goes wrong on the way.
    pub fn request(&mut self, request: &Request) -> Result<Value, Error> {
        let line = self.exchange(request).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        if line.is_empty() {
            return Err(Error::NoAnswer(self.path.clone()));
        }
        match serde_json::from_slice(&line) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(failure)) => Err(failure.into()),
            Err(source) => Err(Error::NotUnderstood { path: self.path.clone(), source }),
        }
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        // A server that is full has answered and closed already: its answer is there to be read.
        if let Err(error) = self.stream.get_mut().write_all(&line)
            && error.kind() != ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        let mut answer = Vec::new();
        self.stream.by_ref().take(MAX_REPLY).read_until(b'\n', &mut answer)?;
        Ok(answer)
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}
