//! One daemon for each network namespace: the lock that a second one finds taken.
use std::convert::Infallible;
use std::io;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::time::sleep;

use crate::rivals;
use crate::socket_file::{ACCEPT_REST, knock};

/// An abstract Unix socket (unix(7)) belongs to its network namespace, and the kernel gives the name back when the
/// process ends, however it ends.
const NAME: &str = "\0mptcp-pm";

/// What keeps the daemon from being the only one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is there.
    #[error(
        "another mptcp-pm manages this network namespace: stop it first (systemctl stop mptcp-pm, or process {pid}), or use \
         `mptcp-pm status` to talk to it"
    )]
    Taken {
        /// Its process.
        pid: i32,
    },
    /// The lock cannot be made.
    #[error("cannot lock this network namespace: {0}")]
    Io(#[from] io::Error),
}

/// Whether a daemon holds the lock.
pub fn is_claimed() -> bool {
    holder().is_some()
}

/// The process of the daemon that holds the lock. Anybody can take the name before a daemon does; a person's process is none.
fn holder() -> Option<i32> {
    let who = knock(Path::new(NAME)).ok().flatten()?;
    rivals::is_credible(who.uid()).then(|| who.pid())
}

/// The right to manage this network namespace, for as long as it is held.
#[derive(Debug)]
pub struct Instance {
    /// None where somebody who is no daemon has taken the name.
    lock: Option<Socket>,
}

impl Instance {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`Error::Taken`] where another daemon has it.
    pub fn claim() -> Result<Self, Error> {
        let lock = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        match lock.bind(&SockAddr::unix(NAME)?) {
            Ok(()) => {
                lock.listen(64)?;
                Ok(Self { lock: Some(lock) })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder() {
                Some(pid) => Err(Error::Taken { pid }),
                None => {
                    tracing::warn!(
                        "a process that is no mptcp-pm has taken its lock (`ss -xlp | grep @mptcp-pm` names it): a second \
                         daemon would not be noticed here"
                    );
                    Ok(Self { lock: None })
                }
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Holds the lock and lets those go who ask who does, for as long as it is polled. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where the runtime cannot wait for the socket.
    pub fn attend(self) -> io::Result<impl Future<Output = Infallible>> {
        let lock = self.lock.map(|lock| UnixListener::from_std(lock.into())).transpose()?;
        Ok(async move {
            let Some(lock) = lock else { return std::future::pending().await };
            loop {
                // Knowing is all that they came for.
                if lock.accept().await.is_err() {
                    sleep(ACCEPT_REST).await;
                }
            }
        })
    }
}
