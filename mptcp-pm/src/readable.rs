//! Waits until there is something to read, for descriptors that nix owns.
use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::unix::AsyncFd;

/// A descriptor that is waited for, and what owns it.
#[derive(Debug)]
pub struct Owned<T>(pub T);

impl<T: AsFd> AsRawFd for Owned<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Lets it be waited for. Needs a tokio runtime around it.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn watch<T: AsFd>(inner: T) -> std::io::Result<AsyncFd<Owned<T>>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the descriptor is owned, and closed after it is deregistered"
    )]
    AsyncFd::new(Owned(inner))
}
