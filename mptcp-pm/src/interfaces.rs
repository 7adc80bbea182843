//! The interfaces and addresses of the calling thread's network namespace, for those who do not follow them.
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;
use nix::sys::socket::SockaddrStorage;

use crate::core::world::IfIndex;

/// Each interface's name, with each of its addresses; an interface without one is there too.
///
/// # Errors
/// What the system refuses.
pub fn addresses() -> nix::Result<Vec<(String, Option<IpAddr>)>> {
    let named = getifaddrs()?.map(|entry| {
        let addr = entry.address.as_ref().and_then(ip);
        // The name of an IPv4 address is its label, which may go on after a colon.
        (entry.interface_name.split(':').next().unwrap_or_default().to_owned(), addr)
    });
    Ok(named.collect())
}

/// The name of an interface; none where there is no such.
pub fn name(index: IfIndex) -> Option<String> {
    // nix 0.31 gives an empty name where there is no such interface.
    if_indextoname(index).ok()?.into_string().ok().filter(|name| !name.is_empty())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
