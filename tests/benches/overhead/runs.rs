//! The kernel's own statistics of this process's eBPF programs.

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use tests::bench::Report;

/// The kernel counts and times the runs of all programs as long as this is kept; no setting of the machine is changed.
pub struct Runs(#[expect(dead_code, reason = "kept open")] OwnedFd);

impl Runs {
    /// Begins to count.
    pub fn begin() -> Result<Self> {
        enable_stats(Stats::RunTime).map(Self).context("switch the statistics of eBPF programs on")
    }

    /// Adds the mean time of a run of each program that this process has attached since.
    pub fn report(&self, report: &mut Report, when: &str) -> Result<()> {
        let ours = attached()?;
        let mut sums = BTreeMap::<String, (u64, f64)>::new();
        for program in loaded_programs() {
            let program = program.context("read about an eBPF program")?;
            if ours.contains(&program.id()) && program.run_count() > 0 {
                let name = program.name_as_str().context("a program's name")?.to_owned();
                let sum = sums.entry(name).or_default();
                sum.0 += program.run_count();
                sum.1 += program.run_time().as_nanos() as f64;
            }
        }
        ensure!(!sums.is_empty(), "none of the programs {ours:?} has run");
        for (name, (runs, nanoseconds)) in sums {
            println!("{name} {when}: {runs} runs");
            report.row(format!("a run of {name} {when}, ns"), nanoseconds / runs as f64, None);
        }
        Ok(())
    }
}

/// The numbers of the programs that this process's links run (proc_pid_fdinfo(5)).
fn attached() -> Result<Vec<u32>> {
    let mut programs = Vec::new();
    for file in fs::read_dir("/proc/self/fdinfo")? {
        // The descriptor of the folder itself is gone by now.
        let Ok(text) = fs::read_to_string(file?.path()) else { continue };
        let number = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        programs.extend(number.map(|number| number.trim().parse::<u32>()).transpose()?);
    }
    Ok(programs)
}
