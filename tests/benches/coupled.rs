//! What coupled congestion control does to others and to itself, each figure beside the kernel's uncoupled Reno and CUBIC
//! from the same run: the scenarios of RFC 6356 section 2 and of Khalili et al. (CoNEXT 2012), small.
//!
//! Bottlenecks have CoDel, so that flows share them by what they do, not by how they happen to meet in a queue. Beside what
//! is measured stands what the formulas alone give (`coupled/model.rs`). Traffic and emulator run at real-time priority.
//!
//! ```text
//! cargo xtask bench coupled                                       all scenarios
//! cargo xtask bench coupled fairness --only olia --rounds 1       a part
//! cargo xtask bench coupled fairness --rounds 1 --go-on           one more round, added to what was measured before
//! cargo xtask bench coupled --help
//! ```

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
#[path = "coupled/model.rs"]
mod model;
#[path = "coupled/network.rs"]
mod network;
#[path = "coupled/options.rs"]
mod options;
#[path = "coupled/pooling.rs"]
mod pooling;
#[path = "coupled/record.rs"]
mod record;
#[path = "coupled/response.rs"]
mod response;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::coupled::{Algorithm, Coupled};
use options::{Options, Scenario};
use record::Record;
use std::fs;

fn main() -> Result<()> {
    let options = Options::parse();
    let controls = options.controls()?;
    let mut record = if options.goes_on() { Record::load()? } else { Record::default() };
    tests::keep_time();
    let _turn = tests::congestion::turn()?;
    let coupled = Coupled::register(&Kernel::default()).context("register the congestion controls")?;
    for scenario in options.scenarios() {
        let rounds = options.rounds(scenario);
        println!("{scenario:?}, {rounds} rounds …");
        measure(scenario, &controls, rounds, &mut record)?;
        record.save()?;
        flows::await_end_of_all(&coupled)?;
    }
    record.add("windows that were put right, in a part", coupled.mended()? as f64);
    drop(coupled);
    let left = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    let is_left = |algorithm: &Algorithm| left.split_whitespace().any(|name| name == algorithm.name());
    ensure!(!Algorithm::ALL.iter().any(is_left), "still registered: {left}");
    let load = fs::read_to_string("/proc/loadavg")?;
    let lately = load.split_whitespace().next().and_then(|load| load.parse().ok());
    record.add("load of the machine over a minute, at the end of a part", lately.context("/proc/loadavg")?);
    record.save()?;
    record.report().finish()
}

fn measure(scenario: Scenario, controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    match scenario {
        Scenario::Fairness => fairness::measure(controls, rounds, record),
        Scenario::Pooling => pooling::measure(controls, rounds, record),
        Scenario::Harm => harm::measure(controls, rounds, record),
        Scenario::Response => response::measure(controls, rounds, record),
        Scenario::Cost => cost::measure(controls, rounds, record),
        Scenario::Crowd => crowd::measure(record),
    }
}
