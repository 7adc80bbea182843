//! Finds other programs that manage MPTCP paths in this network namespace.
use std::fs;
use std::path::Path;

/// The process of mptcpd in our network namespace.
pub fn mptcpd() -> Option<u32> {
    process_in_our_namespace("mptcpd")
}

/// The first process with this name (`comm`, at most 15 characters) in our network namespace.
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
