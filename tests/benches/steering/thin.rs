//! Small messages on a connection that began on the slow path.

use crate::network::{Congestion, Make, Network, PAIR, messages};
use crate::options::words as of;
use crate::run::Run;
use anyhow::{Context, Result};
use std::time::Duration;
use tests::bench::{milliseconds, percentile};
use tests::by_hand::Role;
use tests::pair::Begin;
use tests::traffic::{self, Job, Options as Traffic, Protocol, Server};

/// Repetitions, unless an argument says otherwise.
const ROUNDS: usize = 5;
/// The connection goes on for this long; the second subflow comes in its first quarter of a second.
const LENGTH: Duration = Duration::from_secs(5);
/// From the second subflow on, the connection has this long to find the better path.
const GRACE: Duration = Duration::from_millis(300);

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    of::<Congestion>().collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("thin", "ms", ROUNDS);
    for congestion in run.options.pick::<Congestion>() {
        let make = Make { pair: PAIR, begin: Begin::Second, roles: [Role::InUse; 2] };
        let options = run.options.clone();
        let figures = ["median", "99th"];
        run.measure(congestion.0, figures, |side| {
            repetition(&Network::start(side, &make, &options)?, congestion)
        });
    }
    run.end()
}

fn repetition(network: &Network, congestion: Congestion) -> Result<[f64; 2]> {
    let server = Server::start(network.server(), Protocol::Mptcp)?;
    let options = congestion.of(messages(Traffic::duration(LENGTH)));
    let transfer = traffic::start(network.client(), &server, Job::RequestResponse, options)?;
    network.await_subflows(2)?;
    let from = transfer.elapsed() + GRACE;
    let report = transfer.join()?;
    let pairs = report.asked.iter().zip(&report.latencies);
    let counted: Vec<Duration> = pairs.filter(|(asked, _)| **asked >= from).map(|(_, took)| *took).collect();
    let at = |share| percentile(&counted, share).map(milliseconds).context("no messages were counted");
    Ok([at(0.5)?, at(0.99)?])
}
