//! One daemon for each network namespace: the lock that a second one finds taken.
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// An abstract Unix socket (unix(7)) belongs to its network namespace, and the kernel gives the name back when the
/// process ends, however it ends.
const NAME: &str = "mptcp-pm";

/// What keeps the daemon from being the only one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is there.
    #[error(
        "another mptcp-pm manages this network namespace: stop it first (systemctl stop mptcp-pm), or use `mptcp-pm status` to talk to it"
    )]
    Taken,
    /// The lock cannot be made.
    #[error("cannot lock this network namespace: {0}")]
    Io(#[from] io::Error),
}

/// Whether a daemon holds the lock. It is only looked at: a daemon that starts meanwhile is not in the way.
pub fn is_claimed() -> bool {
    let sockets = std::fs::read_to_string("/proc/self/net/unix").unwrap_or_default();
    sockets.lines().any(|line| line.split(' ').next_back() == Some(&format!("@{NAME}")))
}

/// The right to manage this network namespace, for as long as it is held.
#[derive(Debug)]
pub struct Instance {
    _lock: UnixListener,
}

impl Instance {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Error::Taken`] where another daemon has it.
    pub fn claim() -> Result<Self, Error> {
        let address = SocketAddr::from_abstract_name(NAME)?;
        match UnixListener::bind_addr(&address) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::Taken),
            Err(error) => Err(error.into()),
        }
    }
}
