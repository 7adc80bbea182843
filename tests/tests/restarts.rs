//! A daemon that manages the connections ends at random moments under traffic, in every way: no connection notices, and
//! each has its paths as soon as there is a daemon again.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::daemon::Daemon;
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::traffic::{Job, Options, Protocol, Server, Spoken, Transfer, bulk_down, bulk_up, start};
use tests::{Family, Host, Rng};

const HEAVY: &str = "profile = \"heavy\"\nmanager = \"daemon\"\n";

#[test]
fn four_ends_are_noticed_by_no_connection() -> Result<()> {
    rounds(4, 1)
}

/// As many as the owner's promise is about; takes some minutes.
#[test]
#[ignore = "takes minutes: run it by name"]
fn two_hundred_ends_are_noticed_by_no_connection() -> Result<()> {
    rounds(200, 2)
}

/// What goes on meanwhile.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    round: AtomicUsize,
    uploads: AtomicUsize,
    downloads: AtomicUsize,
    /// Held during a transfer.
    gates: [Mutex<()>; 2],
}

impl Traffic {
    /// One transfer after the other; each begins at some moment of some daemon's life or death.
    fn carry(&self, client: &std::sync::Arc<Host>, server: &Server, up: bool) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let _gate = self.gates[usize::from(up)].lock().unwrap_or_else(PoisonError::into_inner);
            let transfer = if up { bulk_up } else { bulk_down };
            let report = transfer(client, server, Options::bytes(1 << 20)).with_context(|| {
                let round = self.round.load(Ordering::Relaxed);
                format!("in round {round}: {:#?} {:#?}", kernel::dump(client), kernel::subflows(client))
            })?;
            ensure!(report.intact() && report.spoken == Spoken::Mptcp, "{report:?}");
            let count = if up { &self.uploads } else { &self.downloads };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn rounds(count: usize, seed: u64) -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    in_charge(&run)?;
    let talk = start(run.client(), &run.server, Job::RequestResponse, talk())?;
    goes_on(&talk)?;
    let traffic = Traffic::default();
    let server = || Server::start(run.lab.host("server"), Protocol::Mptcp);
    let (one, two) = (server()?, server()?);
    let client = run.client().clone();
    let run = thread::scope(|scope| {
        let (traffic, client) = (&traffic, &client);
        let workers = [(&one, true), (&two, false)]
            .map(|(server, up)| scope.spawn(move || traffic.carry(client, server, up)));
        let outcome = end_again_and_again(run, traffic, &talk, count, seed);
        traffic.stop.store(true, Ordering::Relaxed);
        let ended = workers.map(|worker| worker.join().expect("does not panic"));
        // Without its network a transfer fails too: what failed first is told.
        let run = outcome?;
        ended.into_iter().try_for_each(|ended| ended)?;
        anyhow::Ok(run)
    })?;
    let carried = (traffic.uploads.into_inner(), traffic.downloads.into_inner());
    ensure!(carried.0 > count / 3 && carried.1 > count / 3, "only {carried:?} transfers have ended");
    goes_on(&talk)?;
    run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
    Ok(())
}

fn end_again_and_again(
    mut run: Running,
    traffic: &Traffic,
    talk: &Transfer,
    count: usize,
    seed: u64,
) -> Result<Running> {
    let mut rng = Rng::new(seed);
    for round in 0..count {
        let Running { daemon, server, lab } = run;
        traffic.round.store(round, Ordering::Relaxed);
        // The moment is random: this is no waiting for an event.
        thread::sleep(Duration::from_millis(rng.bits() % 150));
        let signal = [Signal::SIGKILL, Signal::SIGUSR1, Signal::SIGTERM][usize::try_from(rng.bits() % 3)?];
        end(daemon, signal, traffic)?;
        if rng.bits().is_multiple_of(2) {
            // Another one does not get far.
            let daemon = Daemon::launch(lab.host("client"), Some(HEAVY), &[])?;
            thread::sleep(Duration::from_millis(rng.bits() % 60));
            daemon.kill()?;
        }
        let between = Conversation::start(lab.host("client"), lab.host("server"))?;
        run = Running { daemon: Daemon::start(lab.host("client"), HEAVY)?, server, lab };
        in_charge(&run).with_context(|| format!("round {round}"))?;
        let after = Conversation::start(run.client(), run.lab.host("server"))?;
        for conversation in [&between, &after] {
            conversation.has_both_paths(&run).with_context(|| format!("round {round} after {signal}"))?;
            goes_on(&conversation.talk)?;
        }
        goes_on(talk).with_context(|| format!("round {round} after {signal}"))?;
    }
    Ok(run)
}

/// A clean stop deletes the endpoints, and with them the subflows of connections that are the kernel's: those have to
/// have ended. The others go on.
fn end(daemon: Daemon, signal: Signal, traffic: &Traffic) -> Result<()> {
    if signal == Signal::SIGKILL {
        return daemon.kill().map(drop);
    }
    if signal == Signal::SIGTERM {
        let lock = |gate| Mutex::lock(gate).unwrap_or_else(PoisonError::into_inner);
        let _gates = traffic.gates.each_ref().map(lock);
        return daemon.end(signal);
    }
    daemon.end(signal)
}

/// A connection that can be told from all others by its server's port.
struct Conversation {
    talk: Transfer,
    server: Server,
}

impl Conversation {
    fn start(client: &std::sync::Arc<Host>, server: &std::sync::Arc<Host>) -> Result<Self> {
        let server = Server::start(server, Protocol::Mptcp)?;
        let talk = start(client, &server, Job::RequestResponse, talk())?;
        goes_on(&talk)?;
        Ok(Self { talk, server })
    }

    fn has_both_paths(&self, run: &Running) -> Result<()> {
        let look = || {
            let mut seen = kernel::subflows(run.client())?;
            seen.retain(|subflow| subflow.remote.port() == self.server.port());
            Ok(seen.iter().map(|subflow| subflow.local.ip().to_string()).collect::<Vec<_>>())
        };
        run.daemon.await_that("both paths", look, |seen| seen == &["10.1.0.2", "10.2.0.2"]).map(drop)
    }
}

/// Messages for as long as the longest of the tests takes.
fn talk() -> Options {
    Options {
        interval: Duration::from_millis(5),
        deadline: Duration::from_secs(3600),
        ..Options::messages(100_000_000, 200, 200)
    }
}

fn in_charge(run: &Running) -> Result<()> {
    run.await_status("the daemon in charge", |status| status["manager"] == "daemon")?;
    let manager = run.client().run(|| fs::read_to_string("/proc/sys/net/mptcp/path_manager"))?;
    ensure!(manager.trim() == "userspace", "{manager}");
    Ok(())
}
