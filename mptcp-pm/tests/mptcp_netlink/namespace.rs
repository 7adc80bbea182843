//! A thread in a network namespace of its own, with loopback up, that runs one test.
use std::{fs, net::SocketAddr, path::Path, time::Duration};

use mptcp_pm::netlink::{
    mptcp::{Events, Notice},
    mptcp_wire::event::Event,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

use crate::common;
pub use crate::common::ip;

/// Runs a test in a new network namespace with loopback up, which ends with it.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    common::run_async(|| {
        ip("link set lo up");
        test()
    });
}

/// Sets a sysctl of the namespace of this thread, below `net.mptcp`.
pub fn set_mptcp(name: &str, value: &str) {
    // procfs looks below `net` in the namespace of the thread that asks.
    let path = format!("/proc/sys/net/mptcp/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("write {value} to {path}: {error}"));
}

/// Leaves new connections to the userspace path manager.
pub fn leave_to_userspace() {
    match Path::new("/proc/sys/net/mptcp/path_manager").exists() {
        true => set_mptcp("path_manager", "userspace"),
        false => set_mptcp("pm_type", "1"),
    }
}

/// Whether this kernel is older than that: what a kernel is known to lack it is not asked for.
pub fn is_before(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().expect("a version"));
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

/// A socket that speaks MPTCP.
pub fn socket(domain: Domain) -> Socket {
    Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)).expect("an MPTCP socket")
}

/// A connection from `local` to a listener at `remote`: the connecting and the accepted end, and the listener.
pub fn connect(local: SocketAddr, remote: SocketAddr) -> (Socket, Socket, Socket) {
    let listener = socket(Domain::for_address(remote));
    listener.bind(&remote.into()).unwrap();
    listener.listen(8).unwrap();
    let client = socket(Domain::for_address(local));
    client.bind(&local.into()).unwrap();
    // A listener on all addresses is reached at the client's own.
    let remote = listener.local_addr().unwrap().as_socket().unwrap();
    let remote =
        if remote.ip().is_unspecified() { SocketAddr::new(local.ip(), remote.port()) } else { remote };
    client.connect(&remote.into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    // Data in both directions and its acknowledgement make the connection fully established.
    exchange(&client, &server);
    exchange(&server, &client);
    (client, server, listener)
}

/// Sends some bytes from one end to the other.
pub fn exchange(from: &Socket, to: &Socket) {
    use std::io::{Read, Write};
    (&*from).write_all(b"twelve bytes").unwrap();
    (&*to).read_exact(&mut [0; 12]).unwrap();
}

/// The next event that a test waits for.
pub async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    let mut passed_over = Vec::new();
    loop {
        let event = timeout(Duration::from_secs(10), next(events))
            .await
            .unwrap_or_else(|_| panic!("no such event among {passed_over:#?}"));
        if wanted(&event) {
            return event;
        }
        passed_over.push(event);
    }
}

/// The next event.
pub async fn next(events: &mut Events) -> Event {
    match events.next().await.unwrap() {
        Notice::Event(event) => event,
        Notice::Lost => panic!("events were lost"),
    }
}
