//! Loaded into programs by `mptcp-pm exec`: the C library's `socket` asks for MPTCP where the program asks for TCP.
//!
//! Where the kernel refuses, the program gets what it asked for: it never fails for our sake.
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// `socket` of `sys/socket.h`.
type SocketFn = unsafe extern "C" fn(c_int, c_int, c_int) -> c_int;

/// Stands in for the C library's: socket(2).
///
/// # Safety
/// None is needed: any numbers may be asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if is_tcp(domain, kind, protocol) {
        let made = next_socket(domain, kind, libc::IPPROTO_MPTCP);
        if made >= 0 {
            return made;
        }
    }
    next_socket(domain, kind, protocol)
}

/// As `update_socket_protocol` sees it in the object `mptcpify`.
const fn is_tcp(domain: c_int, kind: c_int, protocol: c_int) -> bool {
    /// What is not a type is a flag (include/linux/net.h).
    const SOCK_TYPE_MASK: c_int = 0xf;
    matches!(domain, libc::AF_INET | libc::AF_INET6)
        && kind & SOCK_TYPE_MASK == libc::SOCK_STREAM
        && matches!(protocol, 0 | libc::IPPROTO_TCP)
}

/// The `socket` that comes after this one: that of another library that is loaded like this, or the C library's.
fn next_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        // SAFETY: the name ends with a zero byte. Two threads that ask at once get the same answer.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"socket".as_ptr()) };
        NEXT.store(next, Ordering::Relaxed);
    }
    if next.is_null() {
        // SAFETY: the system call takes three numbers, whatever they are.
        return unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) as c_int };
    }
    // SAFETY: what has this name is the C library's function or stands in for it, so it has its type.
    let next = unsafe { transmute::<*mut c_void, SocketFn>(next) };
    // SAFETY: it takes any numbers.
    unsafe { next(domain, kind, protocol) }
}
