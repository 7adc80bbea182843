//! What coupled congestion control does to others and to itself, each figure beside the kernel's uncoupled Reno and CUBIC
//! from the same run: the scenarios of RFC 6356 section 2 and of Khalili et al. (CoNEXT 2012), small.
//!
//! 1. A shared bottleneck: connections with two and with four subflows against as many TCP flows.
//! 2. Resource pooling: a free bottleneck and a crowded one.
//! 3. No harm to oneself: two idle paths, unequal.
//! 4. Responsiveness: the rate of a path changes; its charts are `target/bench/coupled-NAME.svg`.
//! 5. Cost: nanoseconds for an acknowledgement, goodput over cables without a limit.
//! 6. A thousand connections come and go.
//!
//! Bottlenecks have CoDel, so that flows share them by what they do, not by how they happen to meet in a queue.
//! Arguments: how often each scenario is run, then the numbers of those to be run; by default as often as fits into a
//! quarter of an hour, and all. `10` repeats all of them ten times, which takes more than an hour.

#[path = "coupled/chart.rs"]
mod chart;
#[path = "coupled/cost.rs"]
mod cost;
#[path = "coupled/crowd.rs"]
mod crowd;
#[path = "coupled/fairness.rs"]
mod fairness;
#[path = "coupled/flows.rs"]
mod flows;
#[path = "coupled/harm.rs"]
mod harm;
#[path = "coupled/network.rs"]
mod network;
#[path = "coupled/pooling.rs"]
mod pooling;
#[path = "coupled/response.rs"]
mod response;
#[path = "coupled/spread.rs"]
mod spread;

use anyhow::{Context, Result, ensure};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use std::fs;
use tests::bench::Report;

/// A scenario, and how often it is run unless an argument says otherwise.
type Scenario = (usize, fn(&mut Report, usize) -> Result<()>);

const SCENARIOS: [Scenario; 6] = [
    (2, fairness::measure),
    (2, pooling::measure),
    (2, harm::measure),
    (1, response::measure),
    (6, cost::measure),
    (1, crowd::measure),
];

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let numbers = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let numbers: Vec<usize> =
        numbers.map(|number| number.parse()).collect::<Result<_, _>>().context("read the arguments")?;
    let (times, chosen) = (numbers.first(), numbers.get(1..).unwrap_or_default());
    tests::keep_time();
    let _turn = tests::congestion::turn()?;
    let coupled = Coupled::register(&Kernel::default()).context("register the congestion controls")?;
    let mut report = Report::new("coupled", "see each case");
    for (number, (usual, measure)) in (1..).zip(SCENARIOS) {
        if chosen.is_empty() || chosen.contains(&number) {
            println!("scenario {number} …");
            measure(&mut report, times.copied().unwrap_or(usual))?;
            flows::await_end_of_all(&coupled)?;
        }
    }
    drop(coupled);
    let left = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    let is_left = |algorithm: &Algorithm| left.split_whitespace().any(|name| name == algorithm.name());
    ensure!(!Algorithm::ALL.iter().any(is_left), "still registered: {left}");
    let load = fs::read_to_string("/proc/loadavg")?;
    println!("load of this machine over 1, 5 and 15 minutes: {}", load.trim());
    report.finish()
}

/// The congestion controls that are compared, those that are not coupled first.
fn controls() -> impl Iterator<Item = &'static str> {
    ["reno", "cubic"].into_iter().chain(Algorithm::ALL.map(Algorithm::name))
}
