//! Scenario 1: ten connections and ten TCP flows share a bottleneck. RFC 6356 section 2, goal 2: a connection takes no more
//! of it than a TCP flow would.
use crate::flows::{Flow, mean, rates};
use crate::spread::Spread;
use crate::{controls, network};
use anyhow::Result;
use std::time::Duration;
use tests::bench::Report;

const EACH: usize = 10;
const SETTLE: Duration = Duration::from_secs(4);
const TIME: Duration = Duration::from_secs(9);

pub fn measure(report: &mut Report, times: usize) -> Result<()> {
    for subflows in [2, 4] {
        let lab = network::one_bottleneck(subflows)?;
        for control in controls() {
            let mut ratios = Spread::default();
            for _ in 0..times {
                let flows = [vec![Flow::mptcp(control); EACH], vec![Flow::tcp(None); EACH]].concat();
                let rates = rates(&lab, &flows, SETTLE, TIME)?;
                let (ours, theirs) = rates.split_at(EACH);
                ratios.add(mean(ours) / mean(theirs));
            }
            let case = format!("1: share of TCP's, {subflows} subflows, {control}");
            ratios.report(report, &case, None);
        }
    }
    Ok(())
}
