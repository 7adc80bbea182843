//! No harm to oneself. A connection alone on two idle ways of unequal rate and round-trip time: RFC 6356
//! section 2, goal 1, wants at least what TCP gets on the better one; both together are there to be had.
use crate::flows::{Flow, rates};
use crate::network::{Way, join, two_ways};
use crate::record::Record;
use anyhow::Result;
use std::time::Duration;

const WAYS: [Way; 2] = [Way { mbit: 40.0, round_trip_ms: 20.0 }, Way { mbit: 10.0, round_trip_ms: 60.0 }];
const SETTLE: Duration = Duration::from_secs(3);
const TIME: Duration = Duration::from_secs(6);

pub fn measure(controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    for _ in 0..rounds {
        round(controls, record)?;
    }
    Ok(())
}

fn round(controls: &[&'static str], record: &mut Record) -> Result<()> {
    let lab = two_ways(WAYS, false)?;
    let alone = |interface| anyhow::Ok(rates(&lab, &[Flow::tcp(Some(interface))], SETTLE, TIME)?[0] / 1e6);
    let tcp = [alone("wifi0")?, alone("lte0")?];
    join(&lab)?;
    for control in controls {
        let ours = rates(&lab, &[Flow::mptcp(control)], SETTLE, TIME)?[0] / 1e6;
        let (best, both) = (tcp[0].max(tcp[1]), tcp[0] + tcp[1]);
        record.add_beside(format!("harm: {control}, Mbit/s"), ours, ("TCP on the better", best));
        record.add(format!("harm: {control}, of TCP on both together"), ours / both);
    }
    Ok(())
}
