//! What a process takes: memory, and how often it ran.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Read from `/proc` (proc_pid_status(5)).
pub struct Footprint {
    /// Bytes of memory that are its own or that it shares with others.
    pub resident: f64,
    /// Bytes of memory that are its own and no file's.
    pub anonymous: f64,
    /// How often one of its threads gave up the processor, of its own accord or not: once for each time that one ran.
    pub switches: u64,
}

impl Footprint {
    pub fn of(pid: u32) -> Result<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = read(&process.join("status"))?;
        let mut switches = 0;
        for thread in fs::read_dir(process.join("task"))? {
            let status = read(&thread?.path().join("status"))?;
            switches += field(&status, "voluntary_ctxt_switches")?;
            switches += field(&status, "nonvoluntary_ctxt_switches")?;
        }
        let bytes = |name| field(&status, name).map(|kilobytes| kilobytes as f64 * 1024.0);
        Ok(Self { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")?, switches })
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

fn field(status: &str, name: &str) -> Result<u64> {
    let value =
        |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok();
    status.lines().find_map(value).with_context(|| format!("find {name} in a process's status"))
}
