//! The path in use fails in the middle of a transfer, and comes back.
//!
//! Stalls are times without progress at the receiver (of messages: from one response to the next). A path is back in use
//! when it has carried a certain amount in the direction of the content since a subflow was established there again: the
//! socket of one that was closed while the path was away goes on when it returns, with content that nobody waits for.

use crate::network::{Congestion, Make, Network, PAIR, messages};
use crate::options::{Words, words as of};
use crate::run::Run;
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::milliseconds;
use tests::by_hand::Role;
use tests::pair::{ADDRESSES, Begin, LINKS};
use tests::traffic::{self, Job, Options as Traffic, Protocol, Server};
use tests::{Lab, Outage, kernel};

/// Repetitions, unless an argument says otherwise: so that the whole takes less than half an hour.
const ROUNDS: usize = 3;
/// The transfer flows for this long before.
const BEFORE: Duration = Duration::from_secs(2);
/// The path is away for this long.
const AWAY: Duration = Duration::from_secs(3);
/// What begins later than this is not of the loss: whatever fills the other path's queue loses packets there now and then.
const AT_LOSS: Duration = Duration::from_millis(500);
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
                    run.measure(&words.join(", "), ["stall", "at loss", "at return", "back"], |side| {
                        repetition(&Network::start(side, &make, &options)?, job, congestion, outage)
                    });
                }
            }
        }
    }
    run.end()
}

/// The longest stall while the path is away, that which its loss begins, the longest after its return, and the time from
/// return to use.
fn repetition(network: &Network, job: Job, congestion: Congestion, outage: Outage) -> Result<[f64; 4]> {
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
    link.outage(Outage::None)?;
    let back = back_in_use(network, job)?;
    thread::sleep(AFTER);
    network.goes_on(&transfer)?;
    let stall = |from, to| milliseconds(transfer.progress().longest_gap(from, to).length);
    let (away, loss) = (stall(lost, returned), stall(lost, lost + AT_LOSS));
    Ok([away, loss, stall(returned, transfer.elapsed()), milliseconds(back)])
}

/// Bytes that the first link has delivered in the direction of the content.
fn carried(lab: &Lab, job: Job) -> u64 {
    let counters = lab.link(LINKS[0]).counters();
    if job == Job::BulkDown { counters.down.delivered.bytes } else { counters.up.delivered.bytes }
}

/// Until a subflow over it has carried more than what probes and retransmissions of a few packets are.
fn back_in_use(network: &Network, job: Job) -> Result<Duration> {
    let begin = Instant::now();
    let is_there = || -> Result<bool> {
        let subflows = kernel::subflows(network.client())?;
        Ok(subflows.iter().any(|subflow| subflow.local.ip() == ADDRESSES[0]))
    };
    while !is_there()? && begin.elapsed() < PATIENCE {}
    let enough = carried(&network.lab, job) + if job == Job::RequestResponse { 5_000 } else { 65_536 };
    while carried(&network.lab, job) < enough && begin.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    Ok(begin.elapsed().min(PATIENCE))
}
