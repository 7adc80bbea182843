//! What steering costs where there is nothing to steer: the processor's time of a transfer that nothing else limits.
//!
//! Two namespaces, joined by one or two cables; sender and receiver share the processors. All that the transfer takes in
//! this process counts (both ends, and nearly all of what the kernel does for them), and the daemon's own time; beside it
//! what the whole machine took, which only means something where nothing else runs. Nothing has real-time priority here.

use crate::options::{Side, Words, words as of};
use crate::run::Run;
use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;
use tests::bench::median;
use tests::by_hand::{self, Role};
use tests::daemon::Daemon;
use tests::flood::flood;
use tests::{Family, Lab, Scenario};

/// Pairs, unless an argument says otherwise.
const ROUNDS: usize = 10;
/// How long each transfer sends.
const LENGTH: Duration = Duration::from_secs(3);
const GIGABYTE: f64 = 1e9;
/// `sysconf(_SC_CLK_TCK)` is 100 on every Linux that user space gets to see.
const TICKS: f64 = 100.0;

/// How many cables there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cables {
    One,
    Two,
}

impl Words for Cables {
    const ALL: &'static [(&'static str, Self)] = &[("one", Self::One), ("two", Self::Two)];
}

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    of::<Cables>().collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("cost", "see each case", ROUNDS);
    for cables in run.options.pick::<Cables>() {
        let figures = ["CPU ms/GB", "of it the daemon, CPU ms/GB", "whole machine, CPU ms/GB", "Gbit/s"];
        let ours = run.options.ours.clone().unwrap_or_else(|| "service = \"aggregate\"".to_owned());
        let mut all = [Vec::new(), Vec::new()];
        run.measure(cables.word(), figures, |side| {
            let result = repetition(side, cables, &ours)?;
            all[usize::from(side != Side::Ours)].push(result[0]);
            Ok(result)
        });
        let ratios: Vec<f64> = all[0].iter().zip(&all[1]).map(|(ours, stock)| ours / stock).collect();
        run.row(&format!("{}, CPU ms/GB, ratio of a pair", cables.word()), median(&ratios), None);
    }
    run.end()
}

fn repetition(side: Side, cables: Cables, ours: &str) -> Result<[f64; 4]> {
    let mut scenario = Scenario::load("two-cables")?;
    if cables == Cables::One {
        scenario.cables.truncate(1);
    }
    let lab = Lab::start(&scenario, Family::V4)?;
    let hosts = ["client", "server"].map(|name| lab.host(name));
    let daemon = if side == Side::Ours {
        let config = format!("manager = \"daemon\"\n{ours}\n");
        Some(Daemon::start_in_charge(hosts[0], &config, &["env", "RUST_LOG=info"])?)
    } else {
        let interfaces = ["eth0", "eth1"].into_iter().take(scenario.cables.len());
        let roles: Vec<_> = interfaces.map(|interface| (interface, Role::InUse)).collect();
        by_hand::set_up(hosts[0], &roles)?;
        None
    };
    let own = || daemon.as_ref().map_or(Ok(0.0), |daemon| processor(daemon.id()));
    let (before, whole) = (own()?, busy()?);
    let flood = flood(hosts, LENGTH)?;
    let (took, whole) = (own()? - before, busy()? - whole);
    let each = |seconds: f64| seconds * 1e3 / (flood.bytes as f64 / GIGABYTE);
    Ok([each(flood.processor + took), each(took), each(whole), flood.rate / 1e9])
}

/// Seconds of processor that a process has taken.
fn processor(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).context("find the daemon's clock")?;
    let time = clock_gettime(clock).context("read the daemon's clock")?;
    Ok(Duration::from(time).as_secs_f64())
}

/// Seconds of processor that this machine has not been idle (proc_stat(5)): user, nice, system, irq, softirq.
fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("read the machine's time")?;
    let first = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> = first.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let of = |at: usize| fields.get(at).copied().context("understand the machine's time");
    Ok((of(0)? + of(1)? + of(2)? + of(5)? + of(6)?) / TICKS)
}
