//! The path in use fails in the middle of a transfer, and comes back.
//!
//! Stalls are times without progress at the receiver (of messages: from one response to the next). A path is back in use
//! when it has carried a certain amount in the direction of the content since its return.

use crate::network::{Congestion, Make, Network, PAIR, messages};
use crate::options::{Words, words as of};
use crate::run::Run;
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::milliseconds;
use tests::by_hand::Role;
use tests::pair::{Begin, LINKS};
use tests::traffic::{self, Job, Options as Traffic, Protocol, Server, Transfer};
use tests::{Lab, Outage};

/// Repetitions, unless an argument says otherwise: so that the whole takes less than half an hour.
const ROUNDS: usize = 3;
/// The transfer flows for this long before.
const BEFORE: Duration = Duration::from_secs(2);
/// The path is away for this long.
const AWAY: Duration = Duration::from_secs(3);
/// For so long it is awaited; a path that is still not used counts as this.
const PATIENCE: Duration = Duration::from_secs(5);
/// What its return does to the transfer is watched for this long after it is used again.
const AFTER: Duration = Duration::from_secs(1);
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(1);

impl Words for Job {
    const ALL: &'static [(&'static str, Self)] =
        &[("messages", Self::RequestResponse), ("upload", Self::BulkUp), ("download", Self::BulkDown)];
}

impl Words for Outage {
    const ALL: &'static [(&'static str, Self)] = &[("silent", Self::Silent), ("down", Self::Down)];
}

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    of::<Job>().chain(of::<Role>()).chain(of::<Congestion>()).chain(of::<Outage>()).collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("outage", "ms", ROUNDS);
    let options = run.options.clone();
    for outage in options.pick::<Outage>() {
        for job in options.pick::<Job>() {
            for second in options.pick::<Role>() {
                for congestion in options.pick::<Congestion>() {
                    let make = Make { pair: PAIR, begin: Begin::First, roles: [Role::InUse, second] };
                    let words = [job.word(), second.word(), congestion.word(), outage.word()];
                    run.measure(&words.join(", "), ["stall", "at return", "back"], |side| {
                        repetition(&Network::start(side, &make, &options)?, job, congestion, outage)
                    });
                }
            }
        }
    }
    run.end()
}

/// The longest stalls after loss and return, and the time from return to use.
fn repetition(network: &Network, job: Job, congestion: Congestion, outage: Outage) -> Result<[f64; 3]> {
    let server = Server::start(network.server(), Protocol::Mptcp)?;
    let endless = congestion.of(messages(Traffic::duration(Duration::from_secs(60))));
    let transfer = traffic::start(network.client(), &server, job, endless)?;
    network.await_subflows(2)?;
    thread::sleep(BEFORE.saturating_sub(transfer.elapsed()));
    let link = network.lab.link(LINKS[0]);
    let lost = transfer.elapsed();
    link.outage(outage)?;
    thread::sleep(AWAY);
    let returned = transfer.elapsed();
    let carried = carried(&network.lab, job);
    link.outage(Outage::None)?;
    let back = back_in_use(&network.lab, job, carried);
    thread::sleep(AFTER);
    network.goes_on(&transfer)?;
    Ok([stall(&transfer, lost, returned), stall(&transfer, returned, transfer.elapsed()), milliseconds(back)])
}

fn stall(transfer: &Transfer, from: Duration, to: Duration) -> f64 {
    milliseconds(transfer.progress().longest_gap(from, to).length)
}

/// Bytes that the first link has delivered in the direction of the content.
fn carried(lab: &Lab, job: Job) -> u64 {
    let counters = lab.link(LINKS[0]).counters();
    if job == Job::BulkDown { counters.down.delivered.bytes } else { counters.up.delivered.bytes }
}

/// Until it has carried more than what probes and retransmissions of a few packets are.
fn back_in_use(lab: &Lab, job: Job, before: u64) -> Duration {
    let enough = before + if job == Job::RequestResponse { 5_000 } else { 65_536 };
    let begin = Instant::now();
    while carried(lab, job) < enough && begin.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    begin.elapsed().min(PATIENCE)
}
