//! The configuration of a running daemon: a right one takes effect, a wrong one changes nothing.
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::daemon::{Daemon, await_that};
use tests::kernel::{self, Subflow};
use tests::running::{Running, goes_on, uplink};
use tests::traffic::{Job, Options, Protocol, Server, start};
use tests::{Family, Lab, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const LTE_BACKUP: &str = "10.2.0.2 subflow backup dev lte0";

/// The heavy profile with these lines about an uplink.
fn heavy(matching: &str, lines: &str) -> String {
    format!("{HEAVY}[[uplink]]\nmatch = {{ {matching} }}\n{lines}\n")
}

fn reload(run: &Running, config: &str) -> Result<()> {
    run.daemon.write_config(config)?;
    let output = run.daemon.command(&["reload"])?.output()?;
    ensure!(output.status.success(), "reload: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn ports(subflows: &[Subflow]) -> Vec<SocketAddr> {
    subflows.iter().map(|subflow| subflow.local).collect()
}

#[test]
fn a_new_role_changes_the_flag_and_closes_no_subflow() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, &heavy("name = \"lte0\"", "role = \"primary\""))?;
    let talk = run.talk()?;
    run.await_endpoints(&[WIFI, LTE])?;
    let before = run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    assert!(before.iter().all(|subflow| !subflow.backup));
    let config = heavy("name = \"lte0\"", "role = \"backup\"\nprovider = \"Example Mobile\"");
    run.daemon.write_config(&config)?;
    run.daemon.signal(Signal::SIGHUP)?;
    run.await_endpoints(&[WIFI, LTE_BACKUP])?;
    let look = || kernel::subflows(run.client());
    let stands_by = |seen: &Vec<Subflow>| seen.iter().map(|s| s.backup).eq([false, true]);
    let after = run.daemon.await_that("the second subflow to stand by", look, stands_by)?;
    assert_eq!(ports(&after), ports(&before));
    let told = |status: &Value| uplink(status, "lte0").is_some_and(|lte| lte["provider"] == "Example Mobile");
    run.await_status("the provider", told)?;
    let routes = run.client().ip("-4 route show table all proto 77")?;
    let begins = |name: &str| routes.lines().any(|line| line.contains(name) && line.contains("initcwnd 45"));
    ensure!(begins("lte0") && !begins("wifi0"), "{routes}");
    goes_on(&talk)
}

#[test]
fn an_uplink_that_is_switched_off_is_left_and_on_again_used() -> Result<()> {
    let run = Running::start("two-providers", Family::Both, HEAVY)?;
    let talk = run.talk()?;
    let endpoints = || kernel::endpoints(run.client());
    run.daemon.await_that("four endpoints", endpoints, |seen| seen.len() == 4)?;
    reload(&run, &heavy("name = \"wifi*\"", "role = \"off\""))?;
    run.await_endpoints(&[LTE, "2001:db8:2::2 subflow dev lte0"])?;
    run.await_reason("wifi0", "is switched off in the configuration")?;
    goes_on(&talk)?;
    reload(&run, HEAVY)?;
    run.daemon.await_that("four endpoints", endpoints, |seen| seen.len() == 4)?;
    goes_on(&talk)
}

#[test]
fn a_wrong_file_keeps_the_old_configuration_whole() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, &heavy("name = \"lte0\"", "role = \"backup\""))?;
    run.await_endpoints(&[WIFI, LTE_BACKUP])?;
    let before = (kernel::dump(run.client())?, run.await_status("all as wanted", |_| true)?);
    let wrong = "manager = \"kernel\"\n[[uplink]]\nmatch = { name = \"lte0\" }\nrole = \"of\"\n";
    let told =
        "mptcp-pm.toml:4:8: unknown value \"of\": use one of \"primary\", \"secondary\", \"backup\", \"off\"";
    run.daemon.write_config(wrong)?;
    let output = run.daemon.command(&["reload"])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(told) && said.contains("the configuration in force stays"), "{said}");
    run.daemon.signal(Signal::SIGHUP)?;
    let log = || Ok(run.daemon.log());
    await_that("the mistake in the log", log, |log| log.replace("\\\"", "\"").contains(told))?;
    assert_eq!((kernel::dump(run.client())?, run.await_status("all as wanted", |_| true)?), before);
    let (code, said) = {
        run.daemon.stop()?;
        Daemon::refusal(run.lab.host("client"), wrong)?
    };
    assert!(code == Some(1) && said.contains(told), "{said}");
    Ok(())
}

/// The socket is made once.
#[test]
fn another_control_socket_is_not_taken_up_in_silence() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let before = run.await_status("all as wanted", |_| true)?;
    run.daemon.write_config("profile = \"light\"\n[control]\ngroup = \"daemon\"\n")?;
    let output = run.daemon.command(&["reload"])?.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("[control] says something else") && said.contains("restart the daemon"), "{said}");
    assert_eq!(run.daemon.status()?["profile"], before["profile"]);
    Ok(())
}

/// With the default profile, `light`: one path carries, the others stand by.
#[test]
fn without_a_file_the_better_access_carries_and_the_other_stands_by() -> Result<()> {
    let default = mptcp_pm::config::DEFAULT_FILE;
    ensure!(!std::path::Path::new(default).exists(), "{default} is there: this test is about its absence");
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let daemon = Daemon::start_without_file(client)?;
    let look = || kernel::endpoints(client);
    daemon.await_that("both endpoints", look, |seen| *seen == [WIFI, LTE_BACKUP])?;
    assert_eq!(daemon.status()?["profile"], "light");
    // This kernel lets it.
    daemon.await_that("the daemon in charge", || daemon.status(), |status| status["manager"] == "daemon")?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let upload = start(client, &server, Job::BulkUp, Options::bytes(8 << 20))?;
    let subflows = || kernel::subflows(client);
    let stands_by = |seen: &Vec<Subflow>| seen.iter().map(|s| s.backup).eq([false, true]);
    daemon.await_that("the second subflow to stand by", subflows, stands_by)?;
    assert!(upload.join()?.intact());
    let (wifi, lte) = (lab.link("wifi").counters().up, lab.link("lte").counters().up);
    assert!(wifi.delivered.bytes > 8 << 20 && lte.delivered.bytes < 1 << 20, "{wifi:?} {lte:?}");
    daemon.stop()
}

#[test]
fn uplinks_are_found_by_name_mac_and_kind() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let line = run.client().ip("-oneline link show lte0")?;
    let mac = line.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    for matching in ["name = \"lt?[0-9]\"".to_owned(), format!("mac = \"{}\"", mac.to_uppercase())] {
        reload(&run, &heavy(&matching, "role = \"backup\""))?;
        run.await_endpoints(&[WIFI, LTE_BACKUP])?;
        reload(&run, HEAVY)?;
        run.await_endpoints(&[WIFI, LTE])?;
    }
    reload(&run, &heavy("kind = \"veth\"", "role = \"backup\""))?;
    run.await_endpoints(&["10.1.0.2 subflow backup dev wifi0", LTE_BACKUP])
}

#[test]
fn what_costs_money_stands_by() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, &heavy("name = \"wifi0\"", "metered = true"))?;
    run.await_endpoints(&["10.1.0.2 subflow backup dev wifi0", LTE])?;
    // In the light profile the other one alone carries, though the routing table prefers this one.
    reload(&run, "[[uplink]]\nmatch = { name = \"wifi0\" }\nmetered = true\n")?;
    run.await_endpoints(&[LTE])
}

#[test]
fn limits_in_the_file_hold_and_go_back_with_it() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, &format!("{HEAVY}[limits]\nsubflows = 3\n"))?;
    let limits = || run.client().ip("mptcp limits");
    run.daemon.await_that("three subflows", limits, |seen| seen.contains("subflows 3"))?;
    reload(&run, HEAVY)?;
    run.daemon.await_that("eight subflows", limits, |seen| seen.contains("subflows 8"))?;
    Ok(())
}

/// The client knows nothing of the second address until the server signals it.
#[test]
fn a_site_signals_its_addresses_to_a_client_with_one_access() -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let lab = Lab::start(&Scenario::load("site")?, family)?;
        let (site, client) = (lab.host("server"), lab.host("client"));
        client.ip("mptcp limits set subflows 2 add_addr_accepted 2")?;
        let daemon = Daemon::start(site, "profile = \"site\"\n")?;
        let signals =
            |seen: &Vec<String>| seen.len() == 2 && seen.iter().all(|one| one.contains(" signal dev "));
        daemon.await_that("two signalled addresses", || kernel::endpoints(site), signals)?;
        let server = Server::start(site, Protocol::Mptcp)?;
        let options = Options { deadline: tests::daemon::PATIENCE * 2, ..Options::bytes(16 << 20) };
        let download = start(client, &server, Job::BulkDown, options)?;
        let remotes = |seen: &Vec<Subflow>| {
            let mut remotes: Vec<_> = seen.iter().map(|subflow| subflow.remote.ip()).collect();
            remotes.dedup();
            remotes.len() == 2
        };
        daemon.await_that("a subflow to each address", || kernel::subflows(client), remotes)?;
        assert!(download.join()?.intact());
        for link in ["alpha", "beta"] {
            let sent = lab.link(link).counters().up.delivered.bytes;
            assert!(sent > 1 << 20, "{link} carried {sent} bytes");
        }
        daemon.stop()?;
    }
    Ok(())
}
