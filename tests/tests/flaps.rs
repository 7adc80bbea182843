//! Uplinks that come and go by the hundred: the right state in the end, and neither memory, descriptors nor anything in the
//! kernel is left over.
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::daemon::await_that;
use tests::flaps::flap;
use tests::footprint::Footprint;
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::{Family, Lab, Rng, Scenario};

/// How long an access is away at most.
const AWAY: Duration = Duration::from_millis(30);
/// A heap does not stay the same to the byte; what grows with each flap, be it by a hundred bytes, shows in a thousand.
const SLACK: f64 = 96.0 * 1024.0;

#[test]
fn fifty_flaps_leave_nothing_over() -> Result<()> {
    ["kernel", "daemon"].into_iter().try_for_each(|manager| flaps(manager, 20, 50))
}

#[test]
#[ignore = "takes minutes: run it by name"]
fn a_thousand_flaps_leave_nothing_over() -> Result<()> {
    ["kernel", "daemon"].into_iter().try_for_each(|manager| flaps(manager, 100, 1000))
}

/// Compares what there is after the first flaps with what there is after all.
fn flaps(manager: &str, first: usize, all: usize) -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let before = kernel::dump(lab.host("client"))?;
    let run = Running::in_lab(lab, &format!("profile = \"heavy\"\nmanager = \"{manager}\"\n"))?;
    let mut rng = Rng::new(all as u64);
    let mut many = |count: usize| (0..count).try_for_each(|_| flap(run.client(), &mut rng, AWAY));
    many(first)?;
    let early = Taken::at_rest(&run).context("after the first flaps")?;
    many(all - first)?;
    let late = Taken::at_rest(&run).context("after all flaps")?;
    let told = |taken: &Taken| format!("{} descriptors, {} bytes", taken.descriptors, taken.memory);
    println!("{manager}: {}, then {}", told(&early), told(&late));
    ensure!(late.descriptors == early.descriptors, "descriptors: {early:?}, then {late:?}");
    ensure!(late.memory <= early.memory + SLACK, "memory: {early:?}, then {late:?}");
    ensure!(late.kernel == early.kernel, "{early:#?}, then {late:#?}");
    let Running { daemon, lab, .. } = run;
    daemon.stop()?;
    let client = lab.host("client");
    let look = || kernel::dump(client);
    await_that("what there was before", look, |now| *now == before).map(drop)
}

/// What a daemon takes, and has put into the kernel.
#[derive(Debug)]
struct Taken {
    descriptors: usize,
    memory: f64,
    kernel: BTreeMap<String, Vec<String>>,
}

impl Taken {
    /// Once all is as it should be, with a connection over both accesses, which then ends.
    fn at_rest(run: &Running) -> Result<Self> {
        run.await_endpoints(&["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"])?;
        let talk = run.talk()?;
        run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
        goes_on(&talk)?;
        drop(talk);
        let left = || kernel::subflows(run.client());
        await_that("no subflow", left, Vec::is_empty)?;
        run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
        let mut kernel = kernel::dump(run.client())?;
        // Their ids are others.
        kernel.insert("mptcp endpoint".to_owned(), kernel::endpoints(run.client())?);
        let daemon = run.daemon.id();
        let descriptors = fs::read_dir(format!("/proc/{daemon}/fd"))?.count();
        Ok(Self { descriptors, memory: Footprint::of(daemon)?.anonymous, kernel })
    }
}
