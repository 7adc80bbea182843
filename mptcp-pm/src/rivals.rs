//! Finds other programs that manage MPTCP paths in this network namespace.
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::geteuid;

/// The process of mptcpd in our network namespace.
pub fn mptcpd() -> Option<u32> {
    process_in_our_namespace("mptcpd")
}

/// The process of NetworkManager in our network namespace.
pub fn network_manager() -> Option<u32> {
    process_in_our_namespace("NetworkManager")
}

/// Whether NetworkManager's configuration says what to do about MPTCP endpoints (`connection.mptcp-flags`).
pub fn network_manager_is_told() -> bool {
    let folders = ["/etc", "/run", "/usr/lib"].map(|root| format!("{root}/NetworkManager/conf.d"));
    let files = folders.iter().flat_map(fs::read_dir).flatten().flatten().map(|file| file.path());
    files
        .chain(["/etc/NetworkManager/NetworkManager.conf".into()])
        .filter_map(|file| fs::read_to_string(file).ok())
        .any(|text| text.lines().any(|line| line.trim_start().starts_with("connection.mptcp-flags")))
}

/// Whether a user may be one that paths are managed as: root, we, or a user of the system's (0 to 999, and 61184 to 65519 for
/// services that get one when they start: uid-gid(7) of systemd). A person's process cannot manage paths here, whatever its name.
pub fn is_credible(uid: u32) -> bool {
    uid == geteuid().as_raw() || matches!(uid, 0..=999 | 61_184..=65_519)
}

/// The first process with this name (`comm`, at most 15 characters) in our network namespace.
fn process_in_our_namespace(name: &str) -> Option<u32> {
    let ours = fs::read_link("/proc/self/ns/net").ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        if !is_named(&entry.path(), name) || !entry.metadata().is_ok_and(|of| is_credible(of.uid())) {
            return None;
        }
        // Who has more privileges than we have may not be looked at; its sockets are seen all the same.
        let is_here = match fs::read_link(entry.path().join("ns/net")) {
            Ok(namespace) => namespace == ours,
            Err(_) => speaks_netlink(pid),
        };
        is_here.then_some(pid)
    })
}

fn is_named(process: &Path, name: &str) -> bool {
    fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
}

/// Whether a netlink socket of our network namespace has the number of a process: its first one has (`netlink_autobind`,
/// net/netlink/af_netlink.c).
fn speaks_netlink(pid: u32) -> bool {
    let sockets = fs::read_to_string("/proc/self/net/netlink").unwrap_or_default();
    // sk, protocol, port, …
    sockets.lines().any(|line| line.split_whitespace().nth(2) == Some(&pid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

    /// Greater than any process's: `PID_MAX_LIMIT` is less.
    const NOBODY: u32 = 5_000_000;

    #[test]
    fn who_speaks_netlink_here_is_seen_without_privilege() {
        let mut socket = Socket::new(NETLINK_GENERIC).expect("opens");
        socket.bind(&SocketAddr::new(NOBODY, 0)).expect("binds");
        assert!(speaks_netlink(NOBODY));
        drop(socket);
        assert!(!speaks_netlink(NOBODY));
    }
}
