//! The cookie by which the kernel tells network namespaces apart.
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Error, sys};

/// The cookie of this thread's network namespace, the one that `bpf_get_netns_cookie` returns for its sockets.
///
/// # Errors
/// `Error::NetnsCookie`, on kernels before 5.14.
pub fn cookie() -> Result<u64, Error> {
    let probe = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    probe.and_then(|socket| sys::netns_cookie(&socket)).map_err(Error::NetnsCookie)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_same_each_time_and_not_zero() {
        let first = super::cookie().unwrap();
        assert_ne!(first, 0);
        assert_eq!(super::cookie().unwrap(), first);
    }
}
