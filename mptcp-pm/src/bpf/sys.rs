//! The system calls that no crate offers safely: the daemon's only unsafe code.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, each with its reason")]

use std::os::fd::{AsFd, AsRawFd};

use nix::{errno::Errno, libc};

/// `SO_NETNS_COOKIE` of `include/uapi/asm-generic/socket.h`, which libc does not have yet.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the network namespace that a socket lives in.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn netns_cookie(socket: &impl AsFd) -> Result<u64, Errno> {
    let mut cookie = 0u64;
    let mut length = size_of_val(&cookie) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, and both outlive the call.
    let done = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    Errno::result(done).map(|_| cookie)
}

/// Gives memory that was freed back to the kernel, also from below what is still in use; only glibc keeps it that long
/// (malloc_trim(3)).
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no arguments that could be wrong, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
