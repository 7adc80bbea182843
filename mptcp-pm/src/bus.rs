//! A connection to the system's bus, whenever there is one. Where its socket is missing, the folder tells when it comes
//! (inotify(7)); where it is there and nobody answers, it is tried again at growing intervals, and no more after ten.
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep};
use zbus::address::transport::{Transport, UnixSocket};
use zbus::{Address, MessageStream, connection};

use crate::readable::{self, Owned};

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// So many attempts in a row are made before something has to happen.
const ATTEMPTS: u32 = 10;

/// A connection that has lasted so long was a good one.
const LASTING: Duration = Duration::from_secs(60);

/// Connects again and again, as often as that makes sense.
#[derive(Debug, Default)]
pub struct Bus {
    attempts: u32,
    since: Option<Instant>,
    /// What went wrong last: it is logged once.
    error: Option<String>,
}

impl Bus {
    /// Waits until there is a connection; `absent` is called when it has to.
    pub async fn connect(&mut self, absent: impl Fn()) -> MessageStream {
        if self.since.take().is_some_and(|since| since.elapsed() > LASTING) {
            self.attempts = 0;
        }
        loop {
            let socket = Address::system().ok().as_ref().and_then(socket_of);
            // Watched before it is tried: what comes in between is not missed.
            let folder = socket.as_deref().map(Folder::of);
            if socket.as_ref().is_none_or(|socket| socket.exists()) && self.attempts < ATTEMPTS {
                self.pause().await;
                match attempt().await {
                    Ok(stream) => {
                        (self.since, self.error) = (Some(Instant::now()), None);
                        return stream;
                    }
                    Err(error) => self.explain(error.to_string()),
                }
                absent();
                continue;
            }
            absent();
            match folder {
                Some(Ok(folder)) => folder.changed().await,
                // Neither a socket in the file system nor an answer: there is no bus.
                _ => std::future::pending().await,
            }
            self.attempts = 0;
        }
    }

    /// None before the first attempt.
    async fn pause(&mut self) {
        if self.attempts > 0 {
            sleep(FIRST_PAUSE * 2_u32.pow(self.attempts - 1)).await;
        }
        self.attempts += 1;
    }

    fn explain(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::info!(error, "cannot connect to the system's D-Bus");
            self.error = Some(error);
        }
    }
}

async fn attempt() -> zbus::Result<MessageStream> {
    Ok(connection::Builder::system()?.build().await?.into())
}

/// The file of a bus's socket, where it has one.
fn socket_of(address: &Address) -> Option<PathBuf> {
    match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => Some(path.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Where a file is to appear: its folder, or the nearest one above that there is.
struct Folder {
    watch: AsyncFd<Owned<Inotify>>,
    /// What is to appear in it.
    next: PathBuf,
}

impl Folder {
    fn of(file: &Path) -> std::io::Result<Self> {
        let pairs = file.ancestors().zip(file.ancestors().skip(1));
        let found = pairs.map(|(next, folder)| (next.to_owned(), folder)).find(|(_, folder)| folder.is_dir());
        let (next, folder) = found.ok_or(std::io::ErrorKind::NotFound)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self { watch: readable::watch(inotify)?, next })
    }

    /// Waits until what is to appear does.
    async fn changed(&self) {
        let name = self.next.file_name();
        loop {
            let Ok(mut ready) = self.watch.readable().await else { return std::future::pending().await };
            ready.clear_ready();
            let events = self.watch.get_ref().0.read_events().unwrap_or_default();
            if events.iter().any(|event| event.name.as_deref() == name) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_awaited_in_the_nearest_folder_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("dbus/socket");
        let folder = Folder::of(&socket).unwrap();
        assert_eq!(folder.next, dir.path().join("dbus"));
        std::fs::write(dir.path().join("other"), "").unwrap();
        std::fs::create_dir(dir.path().join("dbus")).unwrap();
        folder.changed().await;

        let folder = Folder::of(&socket).unwrap();
        assert_eq!(folder.next, socket);
        std::fs::write(&socket, "").unwrap();
        folder.changed().await;
    }
}
