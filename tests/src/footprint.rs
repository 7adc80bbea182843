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
    /// Seconds of one processor, in user space and in the kernel, to a hundredth (proc_pid_stat(5)).
    pub processor: f64,
}

impl Footprint {
    /// What a process has taken so far.
    ///
    /// # Errors
    /// When it has ended.
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
        Ok(Self {
            resident: bytes("VmRSS")?,
            anonymous: bytes("RssAnon")?,
            switches,
            processor: processor(&process)?,
        })
    }
}

fn processor(process: &Path) -> Result<f64> {
    // `sysconf(_SC_CLK_TCK)` is 100 on every Linux that user space gets to see.
    const TICKS: f64 = 100.0;
    let stat = read(&process.join("stat"))?;
    // The name, in parentheses, may have blanks; user time and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>();
    Ok(ticks.with_context(|| format!("read {stat:?}"))? as f64 / TICKS)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

fn field(status: &str, name: &str) -> Result<u64> {
    let value =
        |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok();
    status.lines().find_map(value).with_context(|| format!("find {name} in a process's status"))
}
