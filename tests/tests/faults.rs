//! The daemon over netlink sockets that answer late, wrongly, twice or not at all: the right state in the end, nothing left
//! behind, and words for what went wrong.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::daemon::{Daemon, PATIENCE, WITHOUT_PROGRAMS, await_that};
use tests::faults::{Fault, SPENT};
use tests::flaps::flap;
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::traffic::{Protocol, Server};
use tests::{Family, Host, Lab, Rng, Scenario};

const CONFIGS: [&str; 2] = ["profile = \"heavy\"\n", "profile = \"heavy\"\nmanager = \"daemon\"\n"];
const ENDPOINTS: [&str; 2] = ["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"];

#[test]
fn each_kind_of_fault_ends_in_the_right_state() -> Result<()> {
    let mut lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    for (seed, kind) in Fault::ALL.into_iter().enumerate() {
        // Each answer that never comes is waited for five seconds.
        let budget = if kind == Fault::Lost { 1 } else { 8 };
        let faults = Faults { seed, percent: 20, budget, kind: &format!("{kind:?}") };
        lab = faults.meet(lab).with_context(|| format!("{kind:?}"))?;
    }
    Ok(())
}

/// Those that went wrong once: with messages that come late, the kernel's own losses in the midst of a resynchronization.
#[test]
fn storms_of_faults_that_were_hard_end_in_the_right_state() -> Result<()> {
    storms([28, 78])
}

#[test]
#[ignore = "takes eight minutes: run it by name"]
fn a_hundred_storms_of_faults_end_in_the_right_state() -> Result<()> {
    storms(0..100)
}

fn storms(seeds: impl IntoIterator<Item = usize>) -> Result<()> {
    let mut lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    for seed in seeds {
        let faults = Faults { seed, percent: 10, budget: 40, kind: "all" };
        let client = Arc::clone(lab.host("client"));
        let there = || format!("seed {seed}, with {:#?}", kernel::dump(&client));
        lab = faults.meet(lab).with_context(there)?;
    }
    Ok(())
}

#[test]
fn a_stop_among_faults_ends_and_a_cleanup_removes_what_is_left() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let before = kernel::dump(client)?;
    for seed in 0..2 {
        let faults = Faults { seed, percent: 15, budget: 100_000, kind: "all" };
        let Some(daemon) = faults.start(client, CONFIGS[seed % 2])? else { continue };
        if let Err(error) = daemon.stop() {
            let error = format!("{error:#}");
            ensure!(error.contains("something of ours is left"), "{error}");
            let output = Daemon::cleanup(client)?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        await_same(client, &before).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// What goes wrong in one life of a daemon.
struct Faults<'a> {
    seed: usize,
    percent: u64,
    budget: u64,
    kind: &'a str,
}

impl Faults<'_> {
    /// Starts a daemon that meets them. One that cannot start says why, and none is returned.
    fn start(&self, client: &Arc<Host>, config: &str) -> Result<Option<Daemon>> {
        let words = [self.seed as u64, self.percent, self.budget].map(|number| number.to_string());
        let faulty = [env!("CARGO_BIN_EXE_faulty"), &words[0], &words[1], &words[2], self.kind];
        let way = [&WITHOUT_PROGRAMS[..], &faulty].concat();
        match Daemon::start_through(client, config, &way) {
            Ok(daemon) => Ok(Some(daemon)),
            Err(error) => {
                let error = format!("{error:#}");
                let last = error.lines().last().unwrap_or_default();
                let clear = last.starts_with("mptcp-pm: ")
                    && (last.contains("netlink") || last.contains("no answer"));
                ensure!(error.contains("ended with exit status: 1") && clear, "{error}");
                Ok(None)
            }
        }
    }

    /// The life of a daemon: uplinks come and go until all faults have happened, and then all is as it should be.
    fn meet(&self, lab: Lab) -> Result<Lab> {
        let client = Arc::clone(lab.host("client"));
        let before = kernel::dump(&client)?;
        let Some(daemon) = self.start(&client, CONFIGS[self.seed % 2])? else {
            // What it had made by then its successor removes.
            Daemon::start(&client, "")?.stop()?;
            await_same(&client, &before)?;
            return Ok(lab);
        };
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let run = Running { daemon, server, lab };
        let (mut rng, begun) = (Rng::new(self.seed as u64), Instant::now());
        while !run.daemon.log().contains(SPENT) {
            ensure!(begun.elapsed() < 4 * PATIENCE, "the faults do not end:\n{}", run.daemon.log());
            flap(&client, &mut rng, Duration::from_millis(40))?;
        }
        run.await_endpoints(&ENDPOINTS)?;
        run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
        run.await_endpoints(&ENDPOINTS)?;
        let talk = run.talk()?;
        run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
        goes_on(&talk)?;
        drop(talk);
        let Running { daemon, lab, .. } = run;
        daemon.stop()?;
        await_same(&client, &before)?;
        Ok(lab)
    }
}

/// Waits until there is in the kernel what there was before; IPv6 takes a moment for its link-local addresses.
fn await_same(client: &Host, before: &BTreeMap<String, Vec<String>>) -> Result<()> {
    let look = || {
        let after = kernel::dump(client)?;
        let differ = |(name, lines): &(&String, &Vec<String>)| before.get(*name) != Some(*lines);
        Ok(after.iter().filter(differ).map(|(n, l)| (n.clone(), l.clone())).collect::<Vec<_>>())
    };
    await_that("nothing left behind", look, Vec::is_empty).map(drop)
}
