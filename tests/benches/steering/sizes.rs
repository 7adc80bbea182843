//! How long transfers of different sizes take, beside what they could have been on one path.
//!
//! Timed at the receiver, until the last byte: "ready" from the word to begin on a connection whose second subflow is
//! up, "connect" from before the connection. "Kept" is stock MPTCP with the other path as backup: kept on the better
//! path, or on that where it began when timed from connect(). "TCP" is plain TCP over that path.

use crate::network::{Congestion, Make, Network, roles as give};
use crate::options::{Side, Words, words as of};
use crate::run::Run;
use anyhow::{Context, Result};
use std::thread;
use std::time::Duration;
use tests::bench::milliseconds;
use tests::by_hand::Role;
use tests::pair::{Begin, INTERFACES, Pair, Path};
use tests::traffic::{self, Job, Options as Traffic, Protocol, Server};

/// Repetitions, unless an argument says otherwise: so that the default subset takes about a quarter of an hour.
const ROUNDS: usize = 3;
/// The slowest transfer, 100 MB over 5 Mbit/s, and half as much again.
const DEADLINE: Duration = Duration::from_secs(240);
/// Until the server may use the second subflow too, and priorities have been told.
const SETTLE: Duration = Duration::from_millis(200);
/// From this size on, the share of both paths' payload rate is shown.
const LONG: u64 = 30_000_000;
/// Payload of a full packet of 1500 bytes: without the headers of IPv4 and TCP, a timestamp and a data sequence signal.
const PAYLOAD: f64 = (1500.0 - 20.0 - 20.0 - 12.0 - 20.0) / 1500.0;

const DEFAULT_PAIR: Pair = Pair([Path::new(50.0, 20.0), Path::new(20.0, 80.0)]);
const DEFAULT_SIZES: [Size; 5] =
    [Size(100_000), Size(1_000_000), Size(3_000_000), Size(10_000_000), Size(30_000_000)];

/// From when it is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Timed {
    Ready,
    Connect,
}

/// Bytes of content.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size(u64);

impl Words for Size {
    const ALL: &'static [(&'static str, Self)] = &[
        ("20KB", Self(20_000)),
        ("100KB", Self(100_000)),
        ("500KB", Self(500_000)),
        ("1MB", Self(1_000_000)),
        ("3MB", Self(3_000_000)),
        ("10MB", Self(10_000_000)),
        ("30MB", Self(30_000_000)),
        ("100MB", Self(100_000_000)),
    ];
}

impl Words for Pair {
    const ALL: &'static [(&'static str, Self)] = &[
        ("50/20+20/80", DEFAULT_PAIR),
        ("30/30+10/60", Self([Path::new(30.0, 30.0), Path::new(10.0, 60.0)])),
        ("100/10+5/100", Self([Path::new(100.0, 10.0), Path::new(5.0, 100.0)])),
        ("20/40+20/40", Self([Path::new(20.0, 40.0), Path::new(20.0, 40.0)])),
        // Those that answer as quickly and deliver less.
        ("50/20+5/20", Self([Path::new(50.0, 20.0), Path::new(5.0, 20.0)])),
        ("50/20+20/20", Self([Path::new(50.0, 20.0), Path::new(20.0, 20.0)])),
        // One that hardly helps and can hold up the other.
        ("50/20+0.5/100", Self([Path::new(50.0, 20.0), Path::new(0.5, 100.0)])),
        ("50/20/0.5%+20/80", Self([Path::new(50.0, 20.0).with_loss(0.5), Path::new(20.0, 80.0)])),
    ];
}

impl Words for Begin {
    const ALL: &'static [(&'static str, Self)] = &[("first", Self::First), ("second", Self::Second)];
}

impl Words for Timed {
    const ALL: &'static [(&'static str, Self)] = &[("ready", Self::Ready), ("connect", Self::Connect)];
}

/// One sub-cell.
#[derive(Clone, Copy)]
struct Case {
    job: Job,
    size: Size,
    begin: Begin,
    timed: Timed,
    congestion: Congestion,
}

/// The two networks of a pair: one in which the daemon steers, one for all others in turn.
struct Networks {
    ours: Option<Network>,
    others: Network,
}

/// The words of the sub-cells.
pub fn words() -> Vec<&'static str> {
    let network = of::<Pair>().chain(of::<Begin>()).chain(of::<Congestion>());
    network
        .chain(of::<Job>().filter(|word| *word != Job::RequestResponse.word()))
        .chain(of::<Size>())
        .chain(of::<Timed>())
        .collect()
}

/// Runs the chosen sub-cells.
pub fn play(run: &mut Run) -> Result<()> {
    for pair in run.options.pick_or(&[DEFAULT_PAIR]) {
        run.begin(&format!("sizes {}", pair.word()), "ms", ROUNDS);
        for begin in run.options.pick::<Begin>() {
            let networks = Networks::start(run, pair, begin)?;
            for case in cases(run, begin) {
                compare(run, &networks, pair, case);
            }
        }
        run.end()?;
    }
    Ok(())
}

fn cases(run: &Run, begin: Begin) -> Vec<Case> {
    let options = &run.options;
    let mut cases = Vec::new();
    for congestion in options.pick_or(&[Congestion("cubic")]) {
        for job in options.pick::<Job>().into_iter().filter(|job| *job != Job::RequestResponse) {
            for size in options.pick_or(&DEFAULT_SIZES) {
                let timed = options.pick::<Timed>().into_iter();
                cases.extend(timed.map(|timed| Case { job, size, begin, timed, congestion }));
            }
        }
    }
    cases
}

fn compare(run: &mut Run, networks: &Networks, pair: Pair, case: Case) {
    let name =
        [case.job.word(), case.size.word(), case.begin.word(), case.timed.word(), case.congestion.word()];
    let name = name.join(" ");
    let sides: Vec<Side> = run
        .options
        .sides()
        .into_iter()
        .flat_map(
            |side| {
                if side == Side::Ours { vec![side] } else { vec![Side::Stock, Side::Kept, Side::Tcp] }
            },
        )
        .collect();
    let medians =
        run.medians(&name, &sides, |side| networks.transfer(side, case).map(|took| [milliseconds(took)]));
    let of =
        |side| sides.iter().position(|known| *known == side).and_then(|at| medians[at]).map(|[took]| took);
    let ours = of(Side::Ours);
    for peer in [Side::Stock, Side::Kept, Side::Tcp] {
        run.row(&format!("{name}, {}", peer.name()), ours, of(peer));
    }
    if case.size.0 >= LONG {
        let Pair([first, second]) = pair;
        let capacity = (first.rate + second.rate) * 1e6 * PAYLOAD;
        let share = |took: f64| 100.0 * case.size.0 as f64 * 8.0 / (took / 1e3) / capacity;
        run.row(&format!("{name}, % of both, stock"), ours.map(share), of(Side::Stock).map(share));
    }
}

impl Networks {
    fn start(run: &Run, pair: Pair, begin: Begin) -> Result<Self> {
        let make = Make { pair, begin, roles: [Role::InUse; 2] };
        let start = |side| Network::start(side, &make, &run.options);
        let ours = run.options.sides().contains(&Side::Ours).then(|| start(Side::Ours)).transpose()?;
        Ok(Self { ours, others: start(Side::Stock)? })
    }

    /// From the beginning to the last byte at the receiver.
    fn transfer(&self, side: Side, case: Case) -> Result<Duration> {
        let network =
            if side == Side::Ours { self.ours.as_ref().context("ours is not there")? } else { &self.others };
        // Where one path alone is compared: the better one, or the only one that there is at connect().
        let [kept, other] =
            if case.timed == Timed::Ready || case.begin == Begin::First { [0, 1] } else { [1, 0] };
        if side != Side::Ours {
            let mut roles = [Role::InUse; 2];
            if side == Side::Kept {
                roles[other] = Role::Backup;
            }
            give(network.client(), roles)?;
        }
        let protocol = if side == Side::Tcp { Protocol::Tcp } else { Protocol::Mptcp };
        let server = Server::start(network.server(), protocol)?;
        let options = case.congestion.of(Traffic {
            hold: case.timed == Timed::Ready,
            interface: (side == Side::Tcp).then(|| INTERFACES[kept].to_owned()),
            deadline: DEADLINE,
            ..Traffic::bytes(case.size.0)
        });
        let transfer = traffic::start(network.client(), &server, case.job, options)?;
        if case.timed == Timed::Ready {
            if protocol == Protocol::Mptcp {
                network.await_subflows(2)?;
            }
            thread::sleep(SETTLE);
            transfer.go()?;
        }
        let report = transfer.join()?;
        anyhow::ensure!(report.intact(), "the content arrived altered");
        // Until then its end of the connection stays open.
        drop(server);
        network.await_none()?;
        let last = report.progress.samples().last().context("nothing arrived")?.at;
        Ok(last - report.begun)
    }
}
