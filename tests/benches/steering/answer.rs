//! From an alarm in the kernel to the first command that it leads to: a question to the other end, or a change.
//!
//! Counted is the time from when the kernel's program has noticed (its own clock) until the daemon has carried out the first
//! thing since, the kernel's answer included. Alarms that come together are answered together.

use crate::network::{Make, Network, PAIR};
use crate::options::Side;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use std::thread;
use std::time::Duration;
use tests::Outage;
use tests::bench::percentile;
use tests::by_hand::Role;
use tests::crowd::{Crowd, Talk};
use tests::pair::{Begin, LINKS};

/// Outages, unless an argument says otherwise.
const ROUNDS: usize = 15;
const CONNECTIONS: usize = 20;
const TALK: Talk =
    Talk { message: 100, in_a_row: 1, interval: Duration::from_millis(50), gap: Duration::from_millis(1) };
const BEFORE: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_millis(800);
/// What the daemon logs of it, and how that begins.
const LOG: &str = "debug";
const ANSWERED: &str = "alarm answered micros=";

/// Runs it: there is nothing to compare.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("answer", "ms", ROUNDS);
    let mut options = run.options.clone();
    options.log = Some(LOG);
    let make = Make { pair: PAIR, begin: Begin::First, roles: [Role::InUse; 2] };
    let mut all = Vec::new();
    for _ in 0..run.options.rounds(ROUNDS) {
        all.extend(repetition(&Network::start(Side::Ours, &make, &options)?)?);
    }
    eprintln!("  {} alarms", all.len());
    for (name, share) in [("median", 0.5), ("99th", 0.99)] {
        run.row(name, percentile(&all, share).map(tests::bench::milliseconds), None);
    }
    run.end()
}

fn repetition(network: &Network) -> Result<Vec<Duration>> {
    let crowd = Crowd::start([network.client(), network.server()], CONNECTIONS, TALK)?;
    network.await_subflows(2 * CONNECTIONS)?;
    thread::sleep(BEFORE);
    network.lab.link(LINKS[0]).outage(Outage::Silent)?;
    thread::sleep(AWAY);
    crowd.end().context("a connection has ended")?;
    let log = network.log();
    let micros = log.lines().filter_map(|line| line.split_once(ANSWERED)?.1.trim().parse().ok());
    let found: Vec<Duration> = micros.map(Duration::from_micros).collect();
    ensure!(!found.is_empty(), "no alarm was answered; {log}");
    Ok(found)
}
