//! Paths that are worse than others and yet must not be given up: steering may cost nothing there.
//!
//! Changes are priorities told to the server, addresses withdrawn from it, and subflows opened anew, counted by the kernel
//! of the client and of the server after the transfer has begun.

use crate::network::{Congestion, Make, Network, PAIR};
use crate::options::{Words, words as of};
use crate::run::Run;
use anyhow::Result;
use std::thread;
use std::time::{Duration, Instant};
use tests::by_hand::Role;
use tests::kernel::counter;
use tests::pair::{Begin, LINKS};
use tests::traffic::{self, Job, Options as Traffic, Protocol, Server};
use tests::{Lab, Outage};

/// Repetitions, unless an argument says otherwise: so that the default subset takes about a quarter of an hour.
const ROUNDS: usize = 3;
/// Until both subflows are there and slow start is over; not counted.
const BEFORE: Duration = Duration::from_secs(2);
/// Seconds that are counted.
const LENGTH: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// A scan of other channels: each `SCANS` seconds, for so long.
const SCAN: Duration = Duration::from_millis(200);
const SCANS: u32 = 5;

/// What is wrong with the first path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Up to 50 ms of jitter, in order.
    Jitter,
    /// Silent for 200 ms every 5 s, as Wi-Fi is that looks for other access points.
    Scan,
    /// A queue of one second.
    Bloat,
    /// 2 % random loss.
    Loss,
}

impl Words for Weather {
    const ALL: &'static [(&'static str, Self)] =
        &[("jitter", Self::Jitter), ("scan", Self::Scan), ("bloat", Self::Bloat), ("loss", Self::Loss)];
}

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    of::<Weather>().chain(of::<Job>()).chain(of::<Role>()).chain(of::<Congestion>()).collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    run.begin("calm", "see each case", ROUNDS);
    let options = run.options.clone();
    let figures = ["Mbit/s", "changes", "most in a second"];
    for weather in options.pick::<Weather>() {
        for job in options.pick_or(&[Job::BulkUp, Job::BulkDown]) {
            for second in options.pick_or(&[Role::InUse]) {
                for congestion in options.pick_or(&[Congestion("cubic")]) {
                    let make = Make { pair: PAIR, begin: Begin::First, roles: [Role::InUse, second] };
                    let case = [weather.word(), job.word(), second.word(), congestion.word()].join(" ");
                    run.measure(&case, figures, |side| {
                        repetition(&Network::start(side, &make, &options)?, weather, job, congestion)
                    });
                }
            }
        }
    }
    run.end()
}

fn repetition(network: &Network, weather: Weather, job: Job, congestion: Congestion) -> Result<[f64; 3]> {
    weather.begin(&network.lab);
    let server = Server::start(network.server(), Protocol::Mptcp)?;
    let options = congestion.of(crate::network::messages(Traffic::duration(Duration::from_secs(60))));
    let transfer = traffic::start(network.client(), &server, job, options)?;
    network.await_subflows(2)?;
    thread::sleep(BEFORE.saturating_sub(transfer.elapsed()));
    let (begin, from, mut seen) = (Instant::now(), transfer.elapsed(), vec![changes(network)?]);
    for second in 1..=LENGTH {
        if weather == Weather::Scan && second % SCANS == 0 {
            let link = network.lab.link(LINKS[0]);
            link.outage(Outage::Silent)?;
            thread::sleep(SCAN);
            link.outage(Outage::None)?;
        }
        thread::sleep((begin + second * SECOND).saturating_duration_since(Instant::now()));
        seen.push(changes(network)?);
    }
    network.goes_on(&transfer)?;
    let rate = transfer.progress().rate(from, transfer.elapsed()) / 1e6;
    let most = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    Ok([rate, (seen[seen.len() - 1] - seen[0]) as f64, most as f64])
}

/// All changes so far.
fn changes(network: &Network) -> Result<u64> {
    let told = counter(network.client(), "MPPrioTx")?;
    let withdrawn = counter(network.server(), "RmAddr")?;
    Ok(told + withdrawn + counter(network.server(), "MPJoinAckRx")?)
}

impl Weather {
    fn begin(self, lab: &Lab) {
        lab.link(LINKS[0]).set(|settings| match self {
            Self::Jitter => settings.jitter = Duration::from_millis(50),
            Self::Bloat => settings.queue = (settings.rate / 8) as usize,
            Self::Loss => settings.loss = 0.02,
            Self::Scan => {}
        });
    }
}
