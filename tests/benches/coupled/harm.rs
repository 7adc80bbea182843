//! Scenario 3: no harm to oneself. A connection alone on two idle ways of unequal rate and round-trip time: RFC 6356
//! section 2, goal 1, wants at least what TCP gets on the better one; both together are there to be had.
use crate::controls;
use crate::flows::{Flow, rates};
use crate::network::{Way, join, two_ways};
use crate::spread::Spread;
use anyhow::Result;
use std::time::Duration;
use tests::bench::Report;

const WAYS: [Way; 2] = [Way { mbit: 40.0, round_trip_ms: 20.0 }, Way { mbit: 10.0, round_trip_ms: 60.0 }];
const SETTLE: Duration = Duration::from_secs(3);
const TIME: Duration = Duration::from_secs(6);

pub fn measure(report: &mut Report, times: usize) -> Result<()> {
    let lab = two_ways(WAYS, false)?;
    let alone = |interface| {
        let mut spread = Spread::default();
        for _ in 0..times {
            spread.add(rates(&lab, &[Flow::tcp(Some(interface))], SETTLE, TIME)?[0]);
        }
        anyhow::Ok(spread.median())
    };
    let tcp = [alone("wifi0")?, alone("lte0")?];
    join(&lab)?;
    for control in controls() {
        let mut ours = Spread::default();
        for _ in 0..times {
            ours.add(rates(&lab, &[Flow::mptcp(control)], SETTLE, TIME)?[0] / 1e6);
        }
        let best = tcp[0].max(tcp[1]) / 1e6;
        ours.report(report, &format!("3: {control}, Mbit/s"), Some(("TCP on the better", best)));
        let both = (tcp[0] + tcp[1]) / 1e6;
        report.row(format!("3: {control}, Mbit/s; peer: TCP on both"), ours.median(), Some(both));
    }
    Ok(())
}
