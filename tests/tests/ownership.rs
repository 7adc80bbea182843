//! What is ours goes with the daemon, what is not stays as it is; and there is one daemon for each namespace.
use std::fs::{self, File};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::daemon::{Daemon, await_that};
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::{Family, Host, Lab, Outage, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";

fn lab() -> Result<Lab> {
    Lab::start(&Scenario::load("two-providers")?, Family::Both)
}

/// Runs a daemon from its start to its end by a signal, with some events in between, and compares.
fn leaves_nothing(lab: &Lab, endpoints: usize, signal: Signal) -> Result<()> {
    let client = lab.host("client");
    let before = kernel::dump(client)?;
    let daemon = Daemon::start(client, HEAVY)?;
    let look = || kernel::endpoints(client);
    daemon.await_that("all endpoints", look, |seen| seen.len() == endpoints)?;
    assert_ne!(kernel::dump(client)?, before);
    lab.link("wifi").outage(Outage::Down)?;
    daemon.await_that("fewer endpoints", look, |seen| seen.len() < endpoints)?;
    lab.link("wifi").outage(Outage::None)?;
    daemon.await_that("all endpoints again", look, |seen| seen.len() == endpoints)?;
    daemon.end(signal)?;
    assert_eq!(kernel::dump(client)?, before);
    assert_eq!(fs::read_dir(Daemon::runtime_dir(client))?.count(), 0);
    Ok(())
}

#[test]
fn sigterm_leaves_nothing_of_ours() -> Result<()> {
    leaves_nothing(&lab()?, 4, Signal::SIGTERM)
}

#[test]
fn sigint_puts_every_sysctl_back() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    client.set_sysctl("net.mptcp.enabled", "0")?;
    client.set_sysctl("net.mptcp.path_manager", "userspace")?;
    client.set_sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    client.set_sysctl("net.ipv4.conf.lte0.rp_filter", "1")?;
    client.ip("mptcp limits set subflows 1 add_addr_accepted 3")?;
    leaves_nothing(&lab, 4, Signal::SIGINT)
}

#[test]
fn what_others_made_stays_byte_for_byte() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    for line in [
        "mptcp endpoint add 10.1.0.2 dev wifi0 subflow id 7",
        "mptcp endpoint add 10.77.0.1 signal id 9",
        "rule add pref 100 from 10.1.0.2 lookup 50",
        "rule add pref 30500 from 10.66.0.0/16 lookup 51",
        "rule add pref 30501 from 10.2.0.2 lookup 52",
        "-6 rule add pref 30501 from 2001:db8:1::2 lookup 53",
        "route add default via 10.1.0.1 dev wifi0 table 50",
        "route add 10.50.0.0/16 via 10.2.0.1 dev lte0 metric 7",
        "route add unreachable 10.51.0.0/16 metric 7",
        "-6 route add 2001:db8:50::/48 via 2001:db8:2::1 dev lte0 table 53",
    ] {
        client.ip(line)?;
    }
    // Carrier is lost once on the way: what the kernel itself takes away then is none of our doing.
    leaves_nothing(&lab, 5, Signal::SIGTERM)
}

#[test]
fn what_others_change_meanwhile_stays_theirs() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    let daemon = Daemon::start(client, HEAVY)?;
    client.ip("mptcp endpoint add 10.77.0.1 signal id 99")?;
    client.ip("mptcp limits set subflows 3 add_addr_accepted 3")?;
    daemon.stop()?;
    assert_eq!(kernel::endpoints(client)?, ["10.77.0.1 signal"]);
    assert_eq!(client.ip("mptcp limits")?.trim(), "add_addr_accepted 3 subflows 3");
    Ok(())
}

/// A name in no folder can be taken by anybody, before a daemon does.
#[test]
fn who_is_no_daemon_and_has_its_lock_does_not_keep_it_from_starting() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    let squatter = "socket(S, AF_UNIX, SOCK_STREAM, 0) and bind(S, pack_sockaddr_un(\"\\0mptcp-pm\")) and listen(S, 1) \
                    and print \"there\\n\" and sleep";
    let said = client.scratch().join("said");
    let script = format!("$| = 1; {squatter}");
    let command =
        client.command("setpriv").args(["--reuid=65534", "--clear-groups", "perl", "-MSocket", "-e"]);
    let _nobody = command.arg(script).stdout(File::create(&said)?).spawn()?;
    await_that("the lock in other hands", || Ok(fs::read_to_string(&said)?), |said| said == "there\n")?;
    let daemon = Daemon::start(client, HEAVY)?;
    daemon.stop()
}

#[test]
fn a_second_daemon_in_the_namespace_refuses_and_does_no_harm() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    let before = (kernel::dump(run.client())?, run.await_subflows(&["10.1.0.2", "10.2.0.2"])?);
    let (code, said) = Daemon::refusal(run.client(), HEAVY)?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another mptcp-pm manages this network namespace: stop it first"), "{said}");
    assert_eq!((kernel::dump(run.client())?, kernel::subflows(run.client())?), before);
    assert_eq!(run.daemon.status()?["settled"], true);
    goes_on(&talk)
}

#[test]
fn daemons_in_two_namespaces_do_not_meet() -> Result<()> {
    let lab = lab()?;
    let hosts = [lab.host("client"), lab.host("server")];
    let before = hosts.map(|host| kernel::dump(host)).into_iter().collect::<Result<Vec<_>>>()?;
    let daemons = hosts.map(|host| Daemon::start(host, HEAVY)).into_iter().collect::<Result<Vec<_>>>()?;
    for (daemon, count) in daemons.iter().zip([4, 2]) {
        assert_eq!(daemon.status()?["endpoints"].as_array().map(Vec::len), Some(count));
    }
    daemons.into_iter().try_for_each(Daemon::stop)?;
    let after = hosts.map(|host| kernel::dump(host)).into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(after, before);
    Ok(())
}

#[test]
fn a_corrupt_state_file_is_named_with_its_remedy() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    let folder = Daemon::runtime_dir(client);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("state.json"), "{\"endpoints\": [")?;
    let before = kernel::dump(client)?;
    let (code, said) = Daemon::refusal(client, HEAVY)?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("state.json is no state file of this program"), "{said}");
    assert!(said.contains("move it away"), "{said}");
    assert_eq!(kernel::dump(client)?, before);
    fs::remove_file(folder.join("state.json"))?;
    Daemon::start(client, HEAVY)?.stop()
}

#[test]
fn mptcpd_is_refused_by_name_in_this_namespace_only() -> Result<()> {
    let lab = lab()?;
    let mptcpd = |host: &Arc<Host>| {
        let program = host.scratch().join("mptcpd");
        fs::copy("/usr/bin/sleep", &program).context("copy sleep")?;
        host.command(program).arg("1000").spawn()
    };
    let _elsewhere = mptcpd(lab.host("server"))?;
    Daemon::start(lab.host("client"), HEAVY)?.stop()?;
    let rival = mptcpd(lab.host("client"))?;
    let named = || Ok(fs::read_to_string(format!("/proc/{}/comm", rival.id()))?);
    await_that("the name of mptcpd", named, |name| name.trim() == "mptcpd")?;
    let (code, said) = Daemon::refusal(lab.host("client"), HEAVY)?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("mptcpd (process {}) manages the paths here", rival.id())), "{said}");
    Ok(())
}

#[test]
fn cleanup_removes_what_a_killed_daemon_left_and_refuses_while_one_runs() -> Result<()> {
    let lab = lab()?;
    let client = lab.host("client");
    client.set_sysctl("net.ipv4.conf.lte0.rp_filter", "1")?;
    client.ip("mptcp endpoint add 10.77.0.1 signal id 9")?;
    let before = kernel::dump(client)?;
    let daemon = Daemon::start(client, HEAVY)?;
    let said = Daemon::cleanup(client)?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("another mptcp-pm manages this network namespace"), "{text}");
    assert_eq!(kernel::endpoints(client)?.len(), 5);
    daemon.kill()?;
    assert_eq!(kernel::endpoints(client)?.len(), 5);
    let said = Daemon::cleanup(client)?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(kernel::dump(client)?, before);
    Ok(())
}

#[test]
fn a_full_file_system_for_the_state_is_told_and_does_not_stop_the_work() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let before = kernel::dump(client)?;
    let folder = Daemon::runtime_dir(client);
    fs::create_dir_all(&folder)?;
    let folder = folder.display().to_string();
    // In a mount namespace of its own: a file system of one page, which is full.
    let script = "mount -t tmpfs -o size=4096 tmpfs \"$0\" && dd if=/dev/zero of=\"$0\"/full bs=4096 count=1 && exec \"$@\"";
    let daemon = Daemon::start_through(client, HEAVY, &["unshare", "-m", "sh", "-c", script, &folder])?;
    assert_eq!(kernel::endpoints(client)?.len(), 2);
    let tells = |status: &serde_json::Value| {
        let finding = &status["findings"][0];
        finding["object"] == "state file"
            && finding["reason"].as_str().is_some_and(|why| why.contains("No space left on device"))
    };
    daemon.await_that("a finding about the state file", || daemon.status(), tells)?;
    daemon.stop()?;
    assert_eq!(kernel::dump(client)?, before);
    Ok(())
}
