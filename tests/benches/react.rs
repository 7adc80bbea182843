//! How soon an address that appears is used, and what a daemon takes for that, beside mptcpd in the same run.
//!
//! Each daemon has a network of its own, of the same make: a client with an access that is always there and a
//! connection over it, and an interface where an address appears and vanishes. Nothing shapes the traffic: the round
//! trip of the handshake is that of two veth devices. Rounds alternate between the daemons.
//!
//! A round begins just before the request that adds the address goes to the kernel. The default route that makes the
//! interface an uplink for us follows in the same datagram, as a DHCP client sends both in a row; mptcpd needs none for
//! its endpoint, but its subflow does. No event tells of an endpoint, so the kernel is asked for all of them again and
//! again; the second subflow is told of by the kernel's event. Both are measured by the same thread. The kernel answers
//! only when it has dealt with a request, and dealing with a new endpoint includes the handshake where nothing delays
//! it: hence the two figures are nearly the same here. That thread and both daemons run at real-time priority, that
//! thread on a processor of its own where there are two: what else runs on the machine is not measured, nor what a daemon
//! does after the endpoint is there. Rounds begin when the new networks have come to rest.
//!
//! What a daemon takes: its memory after as many changes as an hour with one each second has, and how often it runs in
//! a minute in which nothing happens, not even with the last sockets.
//!
//! Ours is there twice: with the kernel managing the paths of connections, as beside mptcpd, and with the daemon doing so,
//! as it does by default.
//!
//! Arguments: the number of rounds, 0 for none; then `brief`, which leaves out what a daemon takes.

#[path = "react/processor.rs"]
mod processor;
#[path = "react/requests.rs"]
mod requests;
#[path = "react/side.rs"]
mod side;
#[path = "react/silence.rs"]
mod silence;

use anyhow::{Context, Result};
use side::{Round, Side};
use silence::Silence;
use std::time::Duration;
use tests::bench::{Report, milliseconds, percentile};
use tokio::runtime::Runtime;

/// Rounds of each daemon, unless an argument says otherwise.
const ROUNDS: usize = 200;
/// Between rounds: an address appears to a daemon that has come to rest.
const REST: Duration = Duration::from_millis(200);
/// An hour with one change each second.
const CHANGES: usize = 3600;
/// How long the kernel itself goes on after a link has come up (IPv6 looks for routers for as long).
const AFTERMATH: Duration = Duration::from_secs(15);
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// One of the durations of a round.
type Figure = fn(&Round) -> Duration;

fn main() -> Result<()> {
    // Cargo adds an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse());
    let rounds = rounds.context("read the number of rounds")?;
    let brief = arguments.next().is_some_and(|word| word == "brief");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tests::keep_time();
    processor::take(nix::unistd::Pid::from_raw(0), processor::Of::Clock)?;
    let ours = |manager| Side::ours(&runtime, manager);
    let mut sides = [ours("kernel")?, ours("daemon")?, Side::mptcpd(&runtime)?];
    let mut report = Report::new("react", "see each case; peer: mptcpd");
    if rounds > 0 {
        reaction(&mut report, &mut sides, &runtime, rounds)?;
    }
    if !brief {
        footprints(&mut report, &mut sides, &runtime)?;
    }
    report.finish()
}

/// Ours in both ways, and mptcpd.
type Sides = [Side; 3];

/// A row for each of ours, beside the peer.
fn rows(report: &mut Report, case: &str, [kernel, daemon, peer]: [f64; 3]) {
    report.row(case, kernel, Some(peer));
    report.row(format!("{case}; manager = daemon"), daemon, Some(peer));
}

fn reaction(report: &mut Report, sides: &mut Sides, runtime: &Runtime, rounds: usize) -> Result<()> {
    std::thread::sleep(AFTERMATH);
    let mut results = [const { Vec::new() }; 3];
    for number in 0..rounds {
        for (side, results) in sides.iter_mut().zip(&mut results) {
            let round = runtime.block_on(side.round(REST));
            results.push(round.with_context(|| format!("round {number} of {}", side.name()))?);
        }
    }
    let figures: [(&str, Figure); 4] = [
        ("adding address and route itself", |round| round.sent),
        ("address added -> endpoint present", |round| round.endpoint),
        ("address added -> second subflow", |round| round.subflow),
        ("resolution of the former", |round| round.resolution),
    ];
    for (what, figure) in figures {
        for (which, share) in [("median", 0.5), ("99th", 0.99)] {
            let figures = results.each_ref().map(|rounds| {
                let samples: Vec<Duration> = rounds.iter().map(figure).collect();
                percentile(&samples, share).map_or(f64::NAN, milliseconds)
            });
            rows(report, &format!("{what}, {which}, ms"), figures);
        }
    }
    Ok(())
}

fn footprints(report: &mut Report, sides: &mut Sides, runtime: &Runtime) -> Result<()> {
    for _ in 0..CHANGES / side::CHANGES_AT_ONCE {
        sides.iter_mut().try_for_each(|side| runtime.block_on(side.churn()))?;
    }
    sides.iter_mut().try_for_each(Side::rest)?;
    std::thread::sleep(AFTERMATH);
    let silence = each(sides, Side::silence)?;
    let before = each(sides, Side::footprint)?;
    std::thread::sleep(IDLE);
    let after = each(sides, Side::footprint)?;
    silence.iter().try_for_each(Silence::check)?;
    rows(report, "resident memory, MB", before.each_ref().map(|side| side.resident / 1e6));
    rows(report, "of which its own (RssAnon), MB", before.each_ref().map(|side| side.anonymous / 1e6));
    let switches = [0, 1, 2].map(|side| (after[side].switches - before[side].switches) as f64);
    rows(report, "context switches in an idle minute", switches);
    Ok(())
}

fn each<T>(sides: &Sides, look: impl Fn(&Side) -> Result<T>) -> Result<[T; 3]> {
    let [kernel, daemon, peer] = sides;
    Ok([look(kernel)?, look(daemon)?, look(peer)?])
}
