//! Finds other programs that manage MPTCP paths in this network namespace.
use std::fs;
use std::path::Path;

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

/// The first process with this name (`comm`, at most 15 characters) in our network namespace. Of the processes of
/// others nothing is known without privilege.
fn process_in_our_namespace(name: &str) -> Option<u32> {
    let ours = fs::read_link("/proc/self/ns/net").ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let is_it = is_named(&entry.path(), name) && fs::read_link(entry.path().join("ns/net")).ok()? == ours;
        is_it.then_some(pid)
    })
}

fn is_named(process: &Path, name: &str) -> bool {
    fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
}
