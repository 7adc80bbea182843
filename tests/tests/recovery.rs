//! However the daemon ends, the next one finds its way, and connections do not notice.
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::daemon::Daemon;
use tests::kernel::{self, Subflow};
use tests::running::{Running, goes_on, talk_options};
use tests::traffic::{Job, Options, Protocol, Server, Spoken, start};
use tests::{Family, Lab, Rng, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";

fn ports(subflows: &[Subflow]) -> Vec<SocketAddr> {
    subflows.iter().map(|subflow| subflow.local).collect()
}

/// Lets a daemon end in some way and starts its successor: no subflow may be closed.
fn is_succeeded(family: Family, end: impl FnOnce(Daemon) -> Result<()>) -> Result<()> {
    let Running { daemon, server, lab } = Running::start("two-providers", family, HEAVY)?;
    let run = Running { daemon, server, lab };
    let talk = run.talk()?;
    let client = run.client().clone();
    let look = || kernel::subflows(&client);
    let before = run.daemon.await_that("two subflows", look, |seen| seen.len() == 2)?;
    let dump = kernel::dump(&client)?;
    let closed = kernel::counter(&client, "RmSubflow")?;
    let Running { daemon, server, lab } = run;
    end(daemon)?;
    assert_eq!(kernel::dump(&client)?, dump);
    goes_on(&talk)?;
    let run = Running { daemon: Daemon::start(&client, HEAVY)?, server, lab };
    run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
    assert_eq!(kernel::dump(&client)?, dump);
    assert_eq!(ports(&kernel::subflows(&client)?), ports(&before));
    assert_eq!(kernel::counter(&client, "RmSubflow")?, closed);
    goes_on(&talk)
}

#[test]
fn a_successor_takes_over_without_closing_a_subflow() -> Result<()> {
    is_succeeded(Family::V4, |daemon| daemon.end(Signal::SIGUSR1))
}

#[test]
fn what_a_killed_daemon_left_is_adopted_without_closing_a_subflow() -> Result<()> {
    is_succeeded(Family::V6, |daemon| daemon.kill().map(drop))
}

#[test]
fn a_state_file_that_is_stale_is_corrected() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::Both)?;
    let client = lab.host("client");
    let before = kernel::dump(client)?;
    Daemon::start(client, HEAVY)?.kill()?;
    for line in [
        "mptcp endpoint flush",
        "mptcp limits set subflows 2 add_addr_accepted 0",
        "rule flush protocol 77",
        "address del 10.1.0.2/24 dev wifi0",
        "link del lte0",
    ] {
        client.ip(line)?;
    }
    let changed = kernel::dump(client)?;
    let daemon = Daemon::start(client, HEAVY)?;
    let look = || kernel::endpoints(client);
    daemon.await_that("the one that is left", look, |seen| *seen == ["2001:db8:1::2 subflow dev wifi0"])?;
    daemon.stop()?;
    let tables = |dump: &std::collections::BTreeMap<String, Vec<String>>| {
        ["-4 rule", "mptcp endpoint", "mptcp limits", "sysctls"].map(|list| dump[list].clone())
    };
    assert_eq!(tables(&kernel::dump(client)?), tables(&changed));
    assert_eq!(kernel::dump(client)?["-6 rule"], before["-6 rule"]);
    assert!(!kernel::dump(client)?.values().flatten().any(|line| line.contains("proto 77")));
    Ok(())
}

/// A third of the daemons is killed while it starts, a third while an access flaps, a third at work.
#[test]
fn twenty_killed_daemons_leave_the_connections_alive_and_the_last_one_nothing() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let before = kernel::dump(lab.host("client"))?;
    let run = Running::in_lab(lab, HEAVY)?;
    let talk = run.talk()?;
    let stop = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        let (client, far) = (run.client().clone(), run.lab.host("server").clone());
        let uploads = Server::start(&far, Protocol::Mptcp)?;
        let stop = &stop;
        let uploader = scope.spawn(move || -> Result<usize> {
            let mut intact = 0;
            while !stop.load(Ordering::Relaxed) {
                let transfer = start(&client, &uploads, Job::BulkUp, Options::bytes(2 << 20))?;
                if transfer.wait_for(2 << 20, Duration::from_secs(20)).is_err() && !transfer.is_over() {
                    eprintln!("an upload stands still: {}", picture(&[&client, &far])?);
                }
                let report = match transfer.join() {
                    // Its handshake was under way when its access went: the kernel gives it up with the endpoint.
                    Err(error) if format!("{error:#}").starts_with("connect from client") => continue,
                    result => result?,
                };
                ensure!(report.intact() && report.spoken == Spoken::Mptcp, "{report:?}");
                intact += 1;
            }
            Ok(intact)
        });
        let mut logs = String::new();
        let outcome = kill_twenty(run, &mut logs);
        stop.store(true, Ordering::Relaxed);
        let uploads = uploader.join().expect("does not panic").inspect_err(|_| eprintln!("{logs}"))?;
        ensure!(uploads > 5, "only {uploads} uploads have ended");
        outcome
    })?;
    goes_on(&talk)?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_status("all as wanted", |status| status["findings"] == serde_json::json!([]))?;
    drop(talk);
    has_both_paths(&run)?;
    let Running { daemon, server: _server, lab } = run;
    daemon.stop()?;
    assert_eq!(kernel::dump(lab.host("client"))?, before);
    Ok(())
}

/// A new connection does: of one that was open, the kernel may have given up the attempt over an access that went
/// in the middle of it, and it makes no other before the endpoint is added again.
fn has_both_paths(run: &Running) -> Result<()> {
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    goes_on(&talk)
}

/// What the hosts' kernels know of their connections.
fn picture(hosts: &[&tests::Host]) -> Result<String> {
    let mut picture = String::new();
    for host in hosts {
        for what in ["-Mni", "-tnioea"] {
            let output = host.command("ss").args([what]).output()?;
            write!(picture, "{} ss {what}:\n{}", host.name(), String::from_utf8_lossy(&output.stdout))?;
        }
        write!(picture, "{:#?}", kernel::dump(host)?)?;
    }
    Ok(picture)
}

/// Keeps what they have logged.
fn kill_twenty(run: Running, logs: &mut String) -> Result<Running> {
    let Running { mut daemon, server, lab } = run;
    let client = lab.host("client");
    let mut rng = Rng::new(2);
    let mut moment = |longest: u64| usize::try_from(rng.bits() % longest).expect("is small");
    for round in 0..20 {
        write!(logs, "== until it was killed in round {round}:\n{}", daemon.log())?;
        daemon.kill()?;
        if round % 3 == 0 {
            daemon = Daemon::launch(client, Some(HEAVY), &[])?;
            acts(&daemon, moment(16));
            continue;
        }
        daemon = Daemon::start(client, HEAVY)?;
        if round % 3 == 1 {
            let flapping = flap(lab.host("wifi-router"))?;
            acts(&daemon, moment(40));
            daemon.signal(Signal::SIGKILL)?;
            let output = flapping.wait_with_output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        } else {
            // The moment is random: this is no waiting for an event.
            thread::sleep(Duration::from_millis(moment(100) as u64));
        }
    }
    write!(logs, "== until it was killed at last:\n{}", daemon.log())?;
    daemon.kill()?;
    Ok(Running { daemon: Daemon::start(client, HEAVY)?, server, lab })
}

/// Waits, without sleep, for so many more actions of a daemon, or as long as it takes to do them.
fn acts(daemon: &Daemon, count: usize) {
    let done = |log: &str| log.matches("action=").count();
    let goal = done(&daemon.log()) + count;
    let end = Instant::now() + Duration::from_millis(200);
    while done(&daemon.log()) < goal && Instant::now() < end {
        thread::yield_now();
    }
}

fn flap(router: &tests::Host) -> Result<tests::Child> {
    let file = router.scratch().join("flaps");
    fs::write(&file, "link set lan0 down\nlink set lan0 up\n".repeat(20))?;
    router.command("ip").arg("-batch").arg(file).stderr(std::process::Stdio::piped()).spawn()
}

/// A daemon that has settled does not wake up until something happens.
#[test]
fn an_idle_daemon_sleeps() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    run.await_status("all as wanted", |_| true)?;
    // Data of connections that are measured wakes it, once a second; that of others is no business of the daemon's.
    let talk = run.talk()?;
    talk.wait_for(talk.bytes() + 10_000, tests::daemon::PATIENCE)?;
    drop(talk);
    let plain = Options { protocol: Some(Protocol::Tcp), ..talk_options() };
    let clock = start(run.client(), &run.server, Job::RequestResponse, plain)?;
    let file = format!("/proc/{}/task", run.daemon.id());
    let switches = || -> Result<u64> {
        let tasks = fs::read_dir(&file)?.flatten();
        tasks.map(|task| voluntary(&fs::read_to_string(task.path().join("status"))?)).sum()
    };
    let woken_meanwhile = || {
        let before = switches()?;
        // Some seconds.
        clock.wait_for(clock.bytes() + 30_000, tests::daemon::PATIENCE)?;
        Ok(switches()? - before)
    };
    run.daemon.await_that("a daemon at rest", woken_meanwhile, |woken| *woken == 0)?;
    for _ in 0..3 {
        assert_eq!(woken_meanwhile()?, 0, "nothing happens that would be a reason");
    }
    Ok(())
}

fn voluntary(status: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.context("a count of switches")?.trim().parse().context("read the count")
}
