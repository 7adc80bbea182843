//! Many connections with two subflows each, all of which move data, and what reader and daemon take beside them.

use crate::runs::Runs;
use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};
use tests::bench::{Report, milliseconds, percentile};
use tests::crowd::{Crowd, Talk};
use tests::daemon::{Daemon, await_that};
use tests::footprint::Footprint;
use tests::observer::Observer;
use tests::{Family, Lab, Scenario};

/// How long reader and daemon are measured, a look each second.
const LOOKS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// How long the connections are given to come to rest: while thousands begin, both processors are busy, and what was decided
/// by round-trip times of that time is decided again.
const SETTLE: Duration = Duration::from_secs(20);
/// Two messages in a row each second: while the first is not acknowledged, the kernel prefers the other subflow. The
/// connections talk one after the other: all at once they would keep both processors for a third of a second, in which
/// everything is late, and much of the kernel's work for them would be counted as the daemon's.
const TALK: Talk = Talk { message: 100, in_a_row: 2, interval: SECOND, gap: Duration::from_millis(1) };

/// Opens the connections beside the daemon, whose paths the kernel or the daemon manages, then looks each second.
pub fn measure(report: &mut Report, connections: usize, manager: &str) -> Result<()> {
    let lab = Lab::start(&Scenario::load(super::NETWORK)?, Family::V4)?;
    let client = lab.host("client");
    let (config, way) = (format!("profile = \"heavy\"\nmanager = \"{manager}\"\n"), ["env", "RUST_LOG=info"]);
    let daemon = match manager {
        "daemon" => Daemon::start_in_charge(client, &config, &way)?,
        _ => Daemon::start_through(client, &config, &way)?,
    };
    // Once asked, it has all that asking takes.
    daemon.status()?;
    let empty = Footprint::of(daemon.id())?;
    let observer = Observer::attach(client)?;
    let crowd = Crowd::start([client, lab.host("server")], connections, TALK)?;
    let subflows = 2 * connections;
    for tenth in 1..=10 {
        let so_many = subflows * tenth / 10;
        let what = format!("{so_many} subflows of {subflows}");
        await_that(&what, || Ok(observer.living()?.len()), |seen| *seen >= so_many)?;
    }
    let living = observer.living()?.len();
    ensure!(living == subflows, "{living} subflows live, of {subflows}");
    if manager == "kernel" {
        reader(report, &observer, subflows)?;
    }
    drop(observer);
    thread::sleep(SETTLE);
    let mut found = Report::new(&format!("{manager} manages"), "");
    collector(&mut found, &daemon, &empty, subflows)?;
    report.take(found);
    crowd.end()
}

/// What one look at all subflows takes, and what they moved between two.
fn reader(report: &mut Report, observer: &Observer, subflows: usize) -> Result<()> {
    let (mut whole, mut moving) = (Vec::new(), Vec::new());
    let mut before = HashMap::new();
    each_second(|| {
        let begin = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let mut now = HashMap::with_capacity(subflows);
        observer.stats().read(|sample| {
            now.insert(sample.kept.cookie, sample.live.bytes_sent + sample.live.bytes_received);
        })?;
        whole.push(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - begin));
        let moved = |(cookie, bytes): &(&u64, &u64)| before.get(*cookie).is_some_and(|was| was < *bytes);
        moving.push(now.iter().filter(moved).count());
        before = now;
        Ok(())
    })?;
    moving.sort_unstable();
    report.row("subflows that move data in a second", moving[moving.len() / 2] as f64, Some(subflows as f64));
    for (what, share) in [("median", 0.5), ("longest", 1.0)] {
        let took = percentile(&whole, share).context("no looks")?;
        report.row(format!("a look at all subflows, ms of CPU, {what}"), milliseconds(took), None);
    }
    let runs = Runs::begin()?;
    observer.living()?;
    thread::sleep(SECOND);
    runs.report(report, "in the crowd")
}

/// What the daemon takes while nobody asks, and while it is asked once a second.
fn collector(report: &mut Report, daemon: &Daemon, empty: &Footprint, subflows: usize) -> Result<()> {
    let unasked = processor(daemon, || Ok(()))?;
    report.row("the daemon's CPU, unasked, per cent of a core", 100.0 * unasked, None);
    let asked = processor(daemon, || scrape(daemon))?;
    report.row("the daemon's CPU, one scrape a second, per cent of a core", 100.0 * asked, None);
    let after = Footprint::of(daemon.id())?;
    let grown = (after.anonymous - empty.anonymous) / subflows as f64;
    report.row("the daemon's memory, bytes a subflow", grown, None);
    report.row(
        "the daemon's resident memory, MB; peer: before",
        after.resident / 1e6,
        Some(empty.resident / 1e6),
    );
    Ok(())
}

/// What Prometheus would get.
fn scrape(daemon: &Daemon) -> Result<()> {
    let output = daemon.command(&["metrics"])?.output().context("ask for the metrics")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("mptcp_pm_uplink_sent_bytes_total{"), "no uplink is measured: {text}");
    Ok(())
}

/// The share of a processor that the daemon takes while something is done once a second.
fn processor(daemon: &Daemon, ask: impl FnMut() -> Result<()>) -> Result<f64> {
    let (before, begin) = (Footprint::of(daemon.id())?, Instant::now());
    each_second(ask)?;
    Ok((Footprint::of(daemon.id())?.processor - before.processor) / begin.elapsed().as_secs_f64())
}

fn each_second(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let begin = Instant::now();
    for look in 0..LOOKS {
        thread::sleep((begin + look * SECOND).saturating_duration_since(Instant::now()));
        work()?;
    }
    Ok(())
}
