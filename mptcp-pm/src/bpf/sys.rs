//! The system calls that no crate offers safely: the daemon's only unsafe code.
#![expect(unsafe_code, reason = "system calls without a safe wrapper, each with its reason")]

pub mod memory;
pub mod program;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::{errno::Errno, libc};
use tokio::io::{Interest, unix::AsyncFd};

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

/// `BPF_LINK_CREATE` and `BPF_ITER_CREATE` of `enum bpf_cmd`, `BPF_TRACE_ITER` of `enum bpf_attach_type`
/// (include/uapi/linux/bpf.h).
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// `union bpf_attr`, as far as `BPF_LINK_CREATE` uses it.
#[repr(C)]
struct CreateLink {
    what: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_length: u32,
    padding: u32,
}

/// `union bpf_attr`, as far as `BPF_ITER_CREATE` uses it.
#[repr(C)]
struct CreateIterator {
    link: u32,
    flags: u32,
}

/// Attaches an iterator program: to a map, whose elements it will visit, or to what its type says. aya cannot name the
/// map.
///
/// # Errors
/// Those of `BPF_LINK_CREATE` in bpf(2).
pub fn attach_iterator(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Errno> {
    link(program, BPF_TRACE_ITER, map)
}

/// Attaches a program, or registers the structure in a map. Only an iterator has a map to go over.
fn link(what: BorrowedFd<'_>, attach_type: u32, over: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Errno> {
    // `union bpf_iter_link_info` is no more than the map's descriptor here.
    let info = over.map(|map| map.as_raw_fd() as u32);
    let attributes = CreateLink {
        what: what.as_raw_fd() as u32,
        target: 0,
        attach_type,
        flags: 0,
        info: info.as_ref().map_or(0, |info| (&raw const *info).addr() as u64),
        info_length: info.as_ref().map_or(0, |info| size_of_val(info) as u32),
        padding: 0,
    };
    // SAFETY: the attributes are those of the command, which makes a descriptor; `info`, to which they refer, outlives
    // the call.
    unsafe { make(BPF_LINK_CREATE, &attributes) }
}

/// Begins an iteration, whose output the file is.
///
/// # Errors
/// Those of `BPF_ITER_CREATE` in bpf(2).
pub fn open_iterator(link: BorrowedFd<'_>) -> Result<File, Errno> {
    let attributes = CreateIterator { link: link.as_raw_fd() as u32, flags: 0 };
    // SAFETY: the attributes are those of the command, which makes a descriptor.
    unsafe { make(BPF_ITER_CREATE, &attributes) }.map(File::from)
}

/// bpf(2) with a command that makes a descriptor.
///
/// # Safety
/// The command must be one of those, and the rest as with [`bpf`].
unsafe fn make<T>(command: libc::c_int, attributes: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, attributes)? };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2).
///
/// # Safety
/// The attributes must be those of the command, and what they refer to must be there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> Result<RawFd, Errno> {
    // SAFETY: the kernel reads no more than the size that it is told; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>() as libc::c_uint)
    };
    Errno::result(result).map(|fd| fd as RawFd)
}

/// Lets something be waited for that can be read from. Needs a tokio runtime around it.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn watch<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` promises that the descriptor is open as long as `inner` is there. aya's ring buffers and its logger,
    // which are watched here, never exchange it for another.
    let watched = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    watched.map_err(io::Error::from)
}
