//! The daemon as the shipped unit starts it: another user, four capabilities, a file system that it cannot write to, few
//! system calls. `tests::unit` says which settings are put into effect here without systemd.
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::daemon::{Daemon, PATIENCE, await_that};
use tests::kernel::{self, Subflow};
use tests::running::{Running, goes_on, talk_options};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Family, Host, Lab, Outage, Scenario, congestion, http, servers, unit};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd/mptcp-pm.service");
const UNDER_UNIT: &str = env!("CARGO_BIN_EXE_under-unit");
const WIFI: &str = "10.1.0.2";
const LTE: &str = "10.2.0.2";

fn lab() -> Result<Lab> {
    Lab::start(&Scenario::load("two-providers")?, Family::V4)
}

fn config(host: &Host) -> String {
    let metrics = host.scratch().join("metrics.sock");
    let listen = metrics.display();
    format!(
        "profile = \"heavy\"\nmanager = \"daemon\"\ncongestion = \"lia\"\n[metrics]\nlisten = \"unix:{listen}\"\n"
    )
}

/// Starts the daemon as a service of the unit, in charge of new connections.
fn start(host: &Arc<Host>, without: &[&str]) -> Result<Daemon> {
    start_with(host, &config(host), without)
}

fn start_with(host: &Arc<Host>, config: &str, without: &[&str]) -> Result<Daemon> {
    // What systemd makes for the unit's user is the host's folder here.
    chown(host.scratch(), Some(unit::UID), Some(unit::UID))?;
    let options = without.iter().flat_map(|capability| ["--without", capability]);
    let way: Vec<&str> = [UNDER_UNIT, UNIT].into_iter().chain(options).chain(["--"]).collect();
    Daemon::start_through(host, config, &way)
}

fn running() -> Result<Running> {
    let lab = lab()?;
    let daemon = start(lab.host("client"), &[])?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    in_charge(&run)?;
    Ok(run)
}

fn in_charge(run: &Running) -> Result<()> {
    run.await_status("the daemon in charge", |status| status["manager"] == "daemon").map(drop)
}

fn await_subflows(run: &Running, expected: &[&str]) -> Result<()> {
    let look = || kernel::subflows(run.client());
    let from = |seen: &Vec<Subflow>| {
        seen.iter().map(|subflow| subflow.local.ip().to_string()).collect::<Vec<_>>() == expected
    };
    run.daemon.await_that(&format!("subflows from {expected:?}"), look, from).map(drop)
}

/// A field of `/proc/PID/status`.
fn process(daemon: &Daemon, field: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    Ok(value.with_context(|| format!("no {field}"))?.trim().to_owned())
}

#[test]
fn everything_works_as_the_unit_starts_it() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = lab()?;
    let before = kernel::dump(lab.host("client"))?;
    let daemon = start(lab.host("client"), &[])?;
    let run = Running { daemon, server: Server::start(lab.host("server"), Protocol::Mptcp)?, lab };
    in_charge(&run)?;

    let four = "000000c000003000";
    for (field, expected) in [
        ("CapPrm", four),
        ("CapEff", four),
        ("CapBnd", four),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(process(&run.daemon, field)?, expected, "{field}");
    }
    assert!(process(&run.daemon, "Uid")?.starts_with(&unit::UID.to_string()));
    assert_eq!(process(&run.daemon, "Seccomp")?, "2");

    // The main job, and whose the connection is. Its congestion control is not chosen by the program.
    let options = Options { congestion: None, ..talk_options() };
    let talk = traffic::start(run.client(), &run.server, Job::RequestResponse, options)?;
    goes_on(&talk)?;
    await_subflows(&run, &[WIFI, LTE])?;
    let status = run.await_status("the connection", |status| {
        let owner = &status["connections"]["listed"][0]["owner"];
        owner["process"].is_string() && owner["cgroup"].is_string()
    })?;
    let objects = status["ebpf"].as_array().context("a list of eBPF objects")?;
    let names: Vec<_> = objects.iter().filter_map(|object| object["name"].as_str()).collect();
    assert_eq!(names, ["path_stats", "owner", "silence", "unsent", "coupled"]);
    assert!(objects.iter().all(|object| object["absent"].is_null()), "{objects:?}");
    let coupled = || {
        Ok(congestion::sockets(run.client())?.into_iter().filter(|one| one.is_subflow).collect::<Vec<_>>())
    };
    await_that("coupled subflows", coupled, |seen| {
        seen.len() == 2 && seen.iter().all(|one| one.control == "lia")
    })?;

    // What is measured, as a scrape shows it.
    let scrape = UnixStream::connect(run.client().scratch().join("metrics.sock"))?;
    scrape.set_read_timeout(Some(PATIENCE))?;
    let answer = http::get(scrape, "/metrics")?;
    assert!(answer.body.contains("mptcp_pm_uplink_subflows{uplink=\"wifi0\"} 1"), "{}", answer.body);

    // An access that falls silent is left because the other end does not answer, and used again when it does.
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::Silent)?;
    await_subflows(&run, &[LTE])?;
    let asked = run.daemon.log().contains("Ask(");
    assert!(asked, "nobody was asked:\n{}", run.daemon.log());
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.daemon.await_that("both again", || kernel::subflows(run.client()), |seen| seen.len() == 2)?;

    // Root may change something, by the socket of a daemon that is not root.
    let token = status["connections"]["listed"][0]["token"].to_string();
    for words in [&["service", "set", &token, "single"][..], &["reload"]] {
        let output = run.daemon.command(words)?.output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    run.daemon.await_that("one subflow", || kernel::subflows(run.client()), |seen| seen.len() == 1)?;
    run.daemon.write_config("profile = \"light\"\n")?;
    run.daemon.signal(Signal::SIGHUP)?;
    run.await_status("the new configuration", |status| status["profile"] == "light")?;
    goes_on(&talk)?;
    drop(talk);

    let Running { daemon, server, lab } = run;
    drop(server);
    daemon.stop()?;
    assert_eq!(kernel::dump(lab.host("client"))?, before);
    Ok(())
}

#[test]
#[ignore = "takes 16 s: starts the daemon once without each capability; for whoever changes what it keeps"]
fn each_capability_is_needed() -> Result<()> {
    let _turn = congestion::turn()?;
    let lab = lab()?;
    let client = lab.host("client");
    let absent = |status: &Value| -> Vec<String> {
        let objects = status["ebpf"].as_array().into_iter().flatten();
        objects.filter_map(|object| object["absent"].as_str().map(ToOwned::to_owned)).collect()
    };
    for (capability, said) in [("CAP_BPF", "failed to create map"), ("CAP_PERFMON", "not permitted")] {
        let daemon = start(client, &[capability])?;
        let reasons = absent(&daemon.status()?);
        assert!(reasons.iter().any(|reason| reason.contains(said)), "{capability}: {reasons:?}");
        daemon.stop()?;
    }
    let daemon = start(client, &["CAP_NET_RAW"])?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    in_charge(&run)?;
    let talk = run.talk()?;
    await_subflows(&run, &[WIFI, LTE])?;
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::Silent)?;
    let refused = |log: &String| log.contains("creating ICMP socket");
    run.daemon.await_that("a probe that is refused", || Ok(run.daemon.log()), refused)?;
    let asked_again = |log: &String| log.matches("action=Ask(").count() >= 4;
    let log = run.daemon.await_that("more of them", || Ok(run.daemon.log()), asked_again)?;
    let said = log.lines().filter(|line| line.contains("cannot be asked over this uplink"));
    let mut uplinks: Vec<_> =
        said.filter_map(|line| line.split_once("ifindex: ")?.1.split(',').next()).collect();
    uplinks.sort_unstable();
    assert!(!uplinks.is_empty() && uplinks.windows(2).all(|two| two[0] != two[1]), "said once: {uplinks:?}");
    let Running { daemon, lab, .. } = run;
    daemon.stop()?;
    let daemon = start(lab.host("client"), &["CAP_NET_ADMIN"])?;
    let findings = daemon.status()?["findings"].to_string();
    assert!(findings.contains("it takes root or CAP_NET_ADMIN"), "{findings}");
    Ok(())
}

#[test]
#[ignore = "needs a kernel that lets programs run before its functions: `cargo xtask test --vm` has some"]
fn applications_are_converted_as_the_unit_starts_it() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    let config = "profile = \"heavy\"\n[[application]]\nmatch = { process = \"curl\" }\nmptcp = true\n";
    let daemon = start_with(client, config, &[])?;
    assert_eq!(process(&daemon, "CapEff")?, "000000c000003000");
    let status = daemon.status()?;
    let objects = status["ebpf"].as_array().context("a list of eBPF objects")?;
    let converts = objects.iter().find(|object| object["name"] == "mptcpify").context("mptcpify")?;
    assert!(converts["absent"].is_null(), "{converts}");
    let server = servers::Server::nginx(lab.host("server"), &servers::exec()?, 1 << 16)?;
    let url = server.url("10.9.0.2".parse()?);
    for (command, mptcp) in [("curl -sSf -o /dev/null", 1), ("wget -q -O /dev/null", 0)] {
        let before = server.accepted()?;
        let words: Vec<&str> = command.split(' ').collect();
        let output = client.command(words[0]).args(&words[1..]).arg(&url).output()?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(server.accepted()?.since(before).mptcp, mptcp, "{command}");
    }
    daemon.stop()
}

/// What `ExecStopPost` does after a daemon that has died, and what the next one finds.
#[test]
fn paths_outlive_a_daemon_that_dies_and_new_connections_are_the_kernels() -> Result<()> {
    let _turn = congestion::turn()?;
    let run = running()?;
    let talk = run.talk()?;
    await_subflows(&run, &[WIFI, LTE])?;
    let Running { daemon, server, lab } = run;
    let client = lab.host("client");
    daemon.kill()?;
    assert_eq!(client.sysctl("net.mptcp.path_manager")?, "userspace");
    let (ways, ports) = (kernel::endpoints(client)?, ports(client)?);
    let post = |host: &Arc<Host>| -> Result<()> {
        let words = [UNIT, "--", tests::daemon::binary()?.to_str().context("a path")?].map(ToOwned::to_owned);
        let command = host.command(UNDER_UNIT).args(words).args(["cleanup", "--keep-paths", "--runtime-dir"]);
        let output = command.arg(Daemon::runtime_dir(host)).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    post(client)?;
    assert_eq!(client.sysctl("net.mptcp.path_manager")?, "kernel");
    assert_eq!((kernel::endpoints(client)?, self::ports(client)?), (ways, ports.clone()));
    goes_on(&talk)?;
    let run = Running { daemon: start(client, &[])?, server, lab };
    in_charge(&run)?;
    assert_eq!(self::ports(run.client())?, ports);
    goes_on(&talk)?;
    // After a hand-over there is nothing left to do, nor after a clean end.
    let Running { daemon, server, lab } = run;
    daemon.end(Signal::SIGUSR1)?;
    let before = kernel::dump(lab.host("client"))?;
    post(lab.host("client"))?;
    assert_eq!(kernel::dump(lab.host("client"))?, before);
    assert_eq!(self::ports(lab.host("client"))?, ports);
    goes_on(&talk)?;
    drop((talk, server));
    start(lab.host("client"), &[])?.stop()?;
    let before = kernel::dump(lab.host("client"))?;
    post(lab.host("client"))?;
    assert_eq!(kernel::dump(lab.host("client"))?, before);
    assert_eq!(fs::read_dir(Daemon::runtime_dir(lab.host("client")))?.count(), 0);
    Ok(())
}

fn ports(host: &Host) -> Result<Vec<u16>> {
    Ok(kernel::subflows(host)?.into_iter().map(|subflow| subflow.local.port()).collect())
}

/// What is tested here is in effect.
#[test]
fn the_units_settings_hold() -> Result<()> {
    for (script, said) in [
        ("touch /usr/mptcp-pm-was-here", "Read-only file system"),
        ("echo x > /sys/kernel/mm/ksm/run", "Read-only file system"),
        ("cat /proc/sys/kernel/hostname > /proc/sys/kernel/hostname", "Read-only file system"),
        ("mkdir /sys/fs/cgroup/unified/x || mkdir /sys/fs/cgroup/x", "Read-only file system"),
        ("ls /root", "Permission denied"),
        ("cat /etc/shadow", "Permission denied"),
        ("unshare --user true", "Operation not permitted"),
        ("mount -t tmpfs none /mnt", "must be superuser"),
        ("ls /dev/kmsg", "No such file"),
        ("kill -0 1", "Operation not permitted"),
    ] {
        let output = Command::new(UNDER_UNIT).args([UNIT, "--", "/bin/sh", "-c", script]).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && error.contains(said), "{script}: {error}");
    }
    let right =
        Command::new(UNDER_UNIT).args([UNIT, "--", "/bin/sh", "-c", "touch /tmp/x && id -u"]).output()?;
    assert_eq!(String::from_utf8_lossy(&right.stdout).trim(), unit::UID.to_string(), "{right:?}");
    Ok(())
}

#[test]
fn systemd_finds_the_unit_right_and_its_exposure_low() -> Result<()> {
    let lab = lab()?;
    // It looks for the programs.
    let binary = tests::daemon::binary()?;
    let text = fs::read_to_string(UNIT)?.replace("/usr/bin/mptcp-pm", &binary.display().to_string());
    let file = lab.host("client").scratch().join("mptcp-pm.service");
    fs::write(&file, text)?;
    let analyze = |words: &[&str], file: &Path| -> Result<()> {
        let output = Command::new("systemd-analyze").args(words).arg(file).output();
        let output = output.context("run systemd-analyze: `cargo xtask setup` installs it")?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.success(), "{words:?}: {said}");
        Ok(())
    };
    analyze(&["verify", "--man=no"], &file)?;
    // Tenths: 2.3 with systemd 252.
    analyze(&["security", "--offline=yes", "--threshold=25", "--no-pager"], Path::new(UNIT))
}
