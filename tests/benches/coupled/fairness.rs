//! A shared bottleneck: ten connections and ten TCP flows. RFC 6356 section 2, goal 2: a connection takes no more of it than
//! a TCP flow would.
use crate::flows::{Flow, mean, rates};
use crate::model::{Connection, packets};
use crate::network;
use crate::record::Record;
use anyhow::Result;
use std::thread;
use std::time::Duration;
use tests::Lab;

const EACH: usize = 10;
/// What the increases of coupled windows need to find to each other.
const SETTLE: Duration = Duration::from_secs(8);
const TIME: Duration = Duration::from_secs(12);

pub fn measure(controls: &[&'static str], rounds: usize, record: &mut Record) -> Result<()> {
    let labs = [2, 4].map(|subflows| anyhow::Ok((subflows, network::one_bottleneck(subflows)?)));
    let labs = labs.into_iter().collect::<Result<Vec<_>>>()?;
    for round in 0..rounds {
        for control in controls {
            // A processor each.
            let shares = thread::scope(|scope| {
                let runs: Vec<_> = labs.iter().map(|(_, lab)| scope.spawn(|| share(lab, control))).collect();
                runs.into_iter().map(|run| run.join().expect("a run")).collect::<Result<Vec<_>>>()
            })?;
            for ((subflows, _), share) in labs.iter().zip(shares) {
                let case = format!("fairness: share of TCP's, {subflows} subflows, {control}");
                match model(control, *subflows, round as u64) {
                    Some(model) => record.add_beside(case, share, ("model", model)),
                    None => record.add(case, share),
                }
            }
        }
    }
    Ok(())
}

fn share(lab: &Lab, control: &'static str) -> Result<f64> {
    tests::keep_time();
    let flows = [vec![Flow::mptcp(control); EACH], vec![Flow::tcp(None); EACH]].concat();
    let rates = rates(lab, &flows, SETTLE, TIME)?;
    let (ours, theirs) = rates.split_at(EACH);
    Ok(mean(ours) / mean(theirs))
}

/// What the formulas give.
fn model(control: &'static str, subflows: usize, seed: u64) -> Option<f64> {
    let ways = vec![0; subflows];
    let ours = Connection::several(EACH, control, &ways)?;
    let theirs = Connection::several(EACH, "reno", &[0])?;
    let ways = [network::BOTTLENECK.settings(true)];
    let rates = packets(&ways, [ours, theirs].into_iter().flatten().collect(), seed, SETTLE, TIME);
    let (ours, theirs) = rates.split_at(EACH);
    Some(mean(ours) / mean(theirs))
}
