//! The ends of a subflow, as the kernel's record has them.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mptcp_common::path_stats::Kept;

const AF_INET: u16 = 2;

/// The local end. An IPv4 address that an IPv6 socket uses (::ffff:a.b.c.d) is an IPv4 address.
pub fn local(kept: &Kept) -> SocketAddr {
    address(kept.family, kept.local, kept.local_port)
}

/// The remote end, likewise.
pub fn remote(kept: &Kept) -> SocketAddr {
    address(kept.family, kept.remote, kept.remote_port)
}

/// An end of an address family (`AF_INET` or `AF_INET6`), likewise.
pub fn address(family: u16, bytes: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(ip(family, bytes), port)
}

/// The same end without the detour over IPv6.
pub(super) fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

fn ip(family: u16, bytes: [u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = bytes;
    if family == AF_INET { Ipv4Addr::new(a, b, c, d).into() } else { Ipv6Addr::from(bytes).to_canonical() }
}
