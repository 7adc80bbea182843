//! Resource pooling. Five connections have a bottleneck for themselves and share another with five TCP flows
//! (scenario C of Khalili et al.): the less of the shared one they take, the better.
use crate::flows::{Flow, mean, rates};
use crate::model::{Connection, packets};
use crate::network::{Way, join, two_ways};
use crate::record::Record;
use anyhow::Result;
use std::time::Duration;
use tests::Lab;

const EACH: usize = 5;
/// For each connection on the one way, and for each TCP flow on the other, Mbit/s.
const SHARE: f64 = 8.0;
const SETTLE: Duration = Duration::from_secs(6);
const TIME: Duration = Duration::from_secs(11);
const WAY: Way = Way { mbit: SHARE * EACH as f64, round_trip_ms: 40.0 };

pub fn measure(controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    let lab = two_ways([WAY; 2], true)?;
    join(&lab)?;
    for round in 0..rounds {
        for control in controls {
            run(&lab, control, round as u64, record)?;
        }
    }
    Ok(())
}

fn run(lab: &Lab, control: &'static str, seed: u64, record: &mut Record) -> Result<()> {
    let flows = [vec![Flow::mptcp(control); EACH], vec![Flow::tcp(Some("lte0")); EACH]].concat();
    let rates = rates(lab, &flows, SETTLE, TIME)?;
    let share = SHARE * 1e6 * PAYLOAD;
    let (ours, theirs) = (mean(&rates[..EACH]) / share, mean(&rates[EACH..]) / share);
    let (case, rest) =
        (format!("pooling: {control}, of a way's share"), format!("pooling: TCP beside {control}"));
    match equilibrium(control) {
        Some(paper) => {
            record.add_beside(case, ours, ("the paper's", paper));
            record.add_beside(rest, theirs, ("the paper's", 2.0 - paper));
        }
        None => {
            record.add(case, ours);
            record.add(rest, theirs);
        }
    }
    if let Some(model) = modelled(control, seed) {
        record.add_beside(format!("pooling: {control}, by its formula"), ours, ("model", model));
    }
    Ok(())
}

/// What the formulas give connections whose windows rise and fall, in place of an equilibrium.
fn modelled(control: &'static str, seed: u64) -> Option<f64> {
    let ours = Connection::several(EACH, control, &[0, 1])?;
    let theirs = Connection::several(EACH, "reno", &[1])?;
    let ways = [WAY.settings(true), WAY.settings(true)];
    let packets = packets(&ways, [ours, theirs].into_iter().flatten().collect(), seed, SETTLE, TIME);
    Some(mean(&packets[..EACH]) * 1500.0 * 8.0 / TIME.as_secs_f64() / (SHARE * 1e6))
}

/// How much of a packet of 1500 bytes is payload: 20 bytes are of IP, 20 of TCP, 12 of timestamps, and MPTCP has at most
/// 20 itself.
const PAYLOAD: f64 = 1440.0 / 1500.0;

/// What a connection gets in equilibrium, of the share of one way, when both have the same round-trip time and the TCP
/// flows get `y` with `y = sqrt(2 / p) / rtt` and `x + y = 1` on the crowded way.
///
/// - Uncoupled: as much there as a TCP flow has: 1.5.
/// - LIA (Khalili et al., section 3.3): windows are as `1 / p`, in sum as TCP on the better way. With `s = y / (1 + x)`
///   that is `s^3 + s^2 + s = 1` and `x = s^2`.
/// - OLIA: nothing there but what keeps the way known, a packet or two in a round-trip time.
/// - BALIA: from its increase and decrease `p2 / p1 = (1 + a)(4 + a) / 15` with `a = 1 / x > 1.5`, and
///   `1 - x = (1 + x) / sqrt(p2 / p1)`.
fn equilibrium(control: &str) -> Option<f64> {
    let crowded = match control {
        "reno" => 0.5,
        "lia" => solve(|x| x.sqrt() * (1.0 + x) + x - 1.0),
        "olia" => 0.0,
        "balia" => solve(|x| (1.0 + x) / ((1.0 + 1.0 / x) * (4.0 + 1.0 / x) / 15.0).sqrt() - (1.0 - x)),
        _ => return None,
    };
    Some(1.0 + crowded)
}

/// Where a function that grows is 0, between 0 and 1.
fn solve(function: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (1e-9, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if function(middle) < 0.0 { low = middle } else { high = middle }
    }
    low
}
