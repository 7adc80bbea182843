//! Unshaped transfers with the programs and without.

use crate::runs::Runs;
use anyhow::{Result, anyhow};
use std::thread;
use std::time::Duration;
use tests::bench::Report;
use tests::flood::flood;
use tests::observer::Observer;
use tests::{Family, Lab, Scenario};

/// How long each transfer sends.
const LENGTH: Duration = Duration::from_secs(2);
/// How often the figures are read while the programs are timed: as often as the daemon does while a transfer may become long.
const READING: Duration = Duration::from_millis(50);

/// Compares so many pairs, then times the programs.
pub fn compare(report: &mut Report, pairs: usize) -> Result<()> {
    let lab = Lab::start(&Scenario::load(super::NETWORK)?, Family::V4)?;
    let hosts = ["client", "server"].map(|name| lab.host(name));
    let transfer = || flood(hosts, LENGTH).map(|flood| flood.rate);
    let with = || {
        let _attached = [Observer::attach(hosts[0])?, Observer::attach(hosts[1])?];
        transfer()
    };
    // The first transfer of all finds cold caches.
    transfer()?;
    let mut rates = Vec::new();
    for number in 0..pairs {
        rates.push(if number % 2 == 0 {
            let ours = with()?;
            [ours, transfer()?]
        } else {
            let bare = transfer()?;
            [with()?, bare]
        });
    }
    let [ours, bare] = [0, 1].map(|side| sorted(rates.iter().map(|pair| pair[side])));
    let ratios = sorted(rates.iter().map(|pair| pair[0] / pair[1]));
    let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    report.row("goodput, Gbit/s, median", at(&ours, 0.5) / 1e9, Some(at(&bare, 0.5) / 1e9));
    for (what, share) in [
        ("least", 0.0),
        ("lower quartile", 0.25),
        ("median", 0.5),
        ("upper quartile", 0.75),
        ("greatest", 1.0),
    ] {
        report.row(format!("goodput ratio of a pair, {what}"), at(&ratios, share), None);
    }
    let runs = Runs::begin()?;
    let attached = [Observer::attach(hosts[0])?, Observer::attach(hosts[1])?];
    thread::scope(|scope| {
        let sending = scope.spawn(transfer);
        while !sending.is_finished() {
            thread::sleep(READING);
            attached.iter().try_for_each(|observer| observer.stats().read(|_| {}))?;
        }
        sending.join().map_err(|_| anyhow!("the transfer panicked"))?
    })?;
    runs.report(report, "in a transfer")
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
