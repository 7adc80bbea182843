//! `manager = "daemon"`: the daemon gives each connection its paths, through the userspace path manager.
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::daemon::{Daemon, await_that};
use tests::kernel::{self, Subflow};
use tests::running::{Running, WIFI_ROUTE, goes_on};
use tests::traffic::{Job, Options, Protocol, Server, Transfer, start};
use tests::{Family, Host, Lab, Outage, Scenario};

const HEAVY: &str = "profile = \"heavy\"\nmanager = \"daemon\"\n";
const LIGHT: &str = "profile = \"light\"\nmanager = \"daemon\"\n";
const SITE: &str = "profile = \"site\"\nmanager = \"daemon\"\n";

const WIFI: &str = "10.1.0.2";
const LTE: &str = "10.2.0.2";

/// Two accesses, and a daemon that manages the connections.
fn running(family: Family, config: &str) -> Result<Running> {
    let run = Running::start("two-providers", family, config)?;
    in_charge(&run)?;
    Ok(run)
}

/// Waits until new connections are the daemon's.
fn in_charge(run: &Running) -> Result<()> {
    run.await_status("the daemon in charge", |status| status["manager"] == "daemon")?;
    assert_eq!(manager(run.client())?, "userspace");
    Ok(())
}

fn manager(host: &Host) -> Result<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/mptcp/{name}"));
    host.run(|| match (read("path_manager"), read("pm_type")) {
        (Ok(name), _) => Ok(name.trim().to_owned()),
        // Before Linux 6.15 it is a number.
        (_, Ok(number)) => Ok(if number.trim() == "1" { "userspace" } else { "kernel" }.to_owned()),
        (Err(error), _) => Err(error.into()),
    })
}

/// Messages over a connection that begins at an address.
fn talk_from(run: &Running, from: &str) -> Result<Transfer> {
    let options = Options {
        bind: Some(from.parse()?),
        interval: std::time::Duration::from_millis(5),
        deadline: std::time::Duration::from_secs(300),
        ..Options::messages(1_000_000, 200, 200)
    };
    let transfer = start(run.client(), &run.server, Job::RequestResponse, options)?;
    goes_on(&transfer)?;
    Ok(transfer)
}

/// Waits until the subflows begin at these addresses, and those stand by that are told.
fn await_roles(run: &Running, expected: &[(&str, bool)]) -> Result<Vec<Subflow>> {
    let look = || kernel::subflows(run.client());
    let as_told = |seen: &Vec<Subflow>| {
        let roles = seen.iter().map(|s| (s.local.ip().to_string(), s.backup));
        roles.eq(expected.iter().map(|(addr, backup)| ((*addr).to_owned(), *backup)))
    };
    run.daemon.await_that(&format!("subflows {expected:?}"), look, as_told)
}

#[test]
fn every_access_is_at_hand_in_heavy_and_messages_take_the_shorter() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let talk = run.talk()?;
    let subflows = await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    assert_eq!(subflows[1].interface.as_deref(), Some("lte0"));
    assert_eq!(subflows[0].remote, subflows[1].remote);
    goes_on(&talk)
}

#[test]
fn one_access_carries_in_light() -> Result<()> {
    let run = running(Family::V6, LIGHT)?;
    let talk = run.talk()?;
    await_roles(&run, &[("2001:db8:1::2", false), ("2001:db8:2::2", true)])?;
    // It was so from the start: nothing had to be said later.
    assert_eq!(kernel::counter(run.client(), "MPPrioTx")?, 0);
    goes_on(&talk)
}

#[test]
fn a_connection_that_began_on_the_worse_access_moves_to_the_better_one() -> Result<()> {
    let run = running(Family::V4, LIGHT)?;
    let talk = talk_from(&run, LTE)?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    let carried = run.lab.link("wifi").counters().up.delivered.packets;
    goes_on(&talk)?;
    assert!(run.lab.link("wifi").counters().up.delivered.packets >= carried + 5);
    Ok(())
}

#[test]
fn a_lost_access_is_left_and_used_again() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let talk = run.talk()?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    let removed = kernel::counter(run.lab.host("server"), "RmAddr")?;
    run.lab.link("wifi").outage(Outage::Down)?;
    await_roles(&run, &[(LTE, false)])?;
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::None)?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    goes_on(&talk)?;
    run.lab.link("lte").outage(Outage::Down)?;
    await_roles(&run, &[(WIFI, false)])?;
    goes_on(&talk)?;
    let server = run.lab.host("server");
    let told = || kernel::counter(server, "RmAddr");
    run.daemon.await_that("the server told of both", told, |count| *count >= removed + 2)?;
    run.lab.link("lte").outage(Outage::None)?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    goes_on(&talk)
}

#[test]
fn the_standing_access_takes_over_in_light() -> Result<()> {
    let run = running(Family::V4, LIGHT)?;
    let talk = run.talk()?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    run.client().ip("link set wifi0 down")?;
    await_roles(&run, &[(LTE, false)])?;
    goes_on(&talk)?;
    run.client().ip("link set wifi0 up")?;
    run.client().ip(WIFI_ROUTE)?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    goes_on(&talk)
}

#[test]
fn the_last_path_stays_and_goes_on_when_its_access_returns() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let talk = run.talk()?;
    let before = await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    // One after the other: the kernel tells of those that are lost together in an order of its own.
    for (access, interface) in [("lte", "lte0"), ("wifi", "wifi0")] {
        run.lab.link(access).outage(Outage::Down)?;
        run.await_reason(interface, "has no carrier")?;
    }
    assert_eq!(kernel::subflows(run.client())?.len(), 1);
    run.lab.link("wifi").outage(Outage::None)?;
    goes_on(&talk)?;
    run.lab.link("lte").outage(Outage::None)?;
    let after = await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    assert!(before.iter().any(|subflow| after.contains(subflow)), "{before:?} {after:?}");
    goes_on(&talk)
}

#[test]
fn a_renewed_address_takes_the_place_of_the_old_one() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let talk = run.talk()?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    run.renew()?;
    await_roles(&run, &[("10.1.0.77", false), (LTE, true)])?;
    goes_on(&talk)
}

#[test]
fn a_peer_without_mptcp_is_served_all_the_same() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let plain = Server::start(run.lab.host("server"), Protocol::Tcp)?;
    let options = Options { protocol: Some(Protocol::Mptcp), ..Options::bytes(1 << 20) };
    let report = start(run.client(), &plain, Job::BulkUp, options)?.join()?;
    assert!(report.intact());
    run.await_status("nothing to complain of", |status| status["findings"] == serde_json::json!([]))?;
    Ok(())
}

/// A connection keeps the path manager under which it began: the kernel's, whose endpoints stay.
#[test]
fn connections_from_before_are_left_to_the_kernel() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let options = Options {
        interval: std::time::Duration::from_millis(5),
        deadline: std::time::Duration::from_secs(300),
        ..Options::messages(1_000_000, 200, 200)
    };
    let before = start(lab.host("client"), &server, Job::RequestResponse, options)?;
    goes_on(&before)?;
    let daemon = Daemon::start(lab.host("client"), HEAVY)?;
    let run = Running { daemon, server, lab };
    in_charge(&run)?;
    run.await_subflows(&[WIFI, LTE])?;
    goes_on(&before)?;
    let talk = run.talk()?;
    run.await_subflows(&[WIFI, WIFI, LTE, LTE])?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_subflows(&[LTE, LTE])?;
    goes_on(&before)?;
    goes_on(&talk)
}

/// The server announces its other address; the client, with a single access, connects to it.
#[test]
fn a_site_announces_its_addresses_and_a_client_goes_there() -> Result<()> {
    let lab = Lab::start(&Scenario::load("site")?, Family::V4)?;
    let site = Daemon::start(lab.host("server"), SITE)?;
    let run = Running::in_lab(lab, HEAVY)?;
    in_charge(&run)?;
    let look = || manager(run.lab.host("server"));
    await_that("the site's daemon in charge", look, |manager| manager == "userspace")?;
    let talk = run.talk()?;
    let reached = |seen: &Vec<Subflow>| {
        seen.iter().map(|subflow| subflow.remote.ip().to_string()).collect::<Vec<_>>()
            == ["10.8.0.2", "10.9.0.2"]
    };
    let look = || {
        let mut seen = kernel::subflows(run.client())?;
        seen.sort_by_key(|subflow| subflow.remote);
        Ok(seen)
    };
    let subflows = run.daemon.await_that("subflows to both of the site's uplinks", look, reached);
    subflows.with_context(|| site.log())?;
    goes_on(&talk)?;
    // The site itself connects to nobody.
    assert_eq!(kernel::counter(run.lab.host("client"), "MPJoinSynRx")?, 0);
    run.lab.link("alpha").outage(Outage::Down)?;
    goes_on(&talk)
}

#[test]
fn new_connections_are_the_kernels_while_there_is_no_daemon() -> Result<()> {
    for end in [Signal::SIGTERM, Signal::SIGUSR1] {
        let run = running(Family::V4, HEAVY)?;
        let talk = run.talk()?;
        await_roles(&run, &[(WIFI, false), (LTE, true)])?;
        let Running { daemon, server, lab } = run;
        daemon.end(end)?;
        assert_eq!(manager(lab.host("client"))?, "kernel");
        assert_eq!(kernel::subflows(lab.host("client"))?.len(), 2);
        goes_on(&talk)?;
        let run = Running { daemon: Daemon::start(lab.host("client"), HEAVY)?, server, lab };
        in_charge(&run)?;
        await_roles(&run, &[(WIFI, false), (LTE, true)])?;
        goes_on(&talk)?;
    }
    Ok(())
}

#[test]
fn what_is_left_by_a_killed_daemon_is_put_right() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let Running { daemon, server, lab } = run;
    daemon.kill()?;
    assert_eq!(manager(lab.host("client"))?, "userspace");
    let output = Daemon::cleanup(lab.host("client"))?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(manager(lab.host("client"))?, "kernel");

    let daemon = Daemon::start(lab.host("client"), HEAVY)?;
    let run = Running { daemon, server, lab };
    in_charge(&run)?;
    let Running { daemon, server, lab } = run;
    daemon.kill()?;
    // Begun while there is nobody who could give it a second path.
    let options = Options {
        interval: std::time::Duration::from_millis(5),
        deadline: std::time::Duration::from_secs(300),
        ..Options::messages(1_000_000, 200, 200)
    };
    let talk = start(lab.host("client"), &server, Job::RequestResponse, options)?;
    goes_on(&talk)?;
    assert_eq!(kernel::subflows(lab.host("client"))?.len(), 1);
    let run = Running { daemon: Daemon::start(lab.host("client"), HEAVY)?, server, lab };
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    goes_on(&talk)
}

#[test]
fn a_reload_changes_who_manages() -> Result<()> {
    let run = running(Family::V4, HEAVY)?;
    let talk = run.talk()?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    run.daemon.write_config("profile = \"heavy\"\n")?;
    run.daemon.signal(Signal::SIGHUP)?;
    run.await_status("the kernel in charge", |status| status["manager"] == "kernel")?;
    assert_eq!(manager(run.client())?, "kernel");
    // What the daemon has begun remains its own.
    run.lab.link("wifi").outage(Outage::Down)?;
    await_roles(&run, &[(LTE, false)])?;
    goes_on(&talk)?;
    run.lab.link("wifi").outage(Outage::None)?;
    await_roles(&run, &[(WIFI, false), (LTE, true)])?;
    run.daemon.write_config(HEAVY)?;
    run.daemon.signal(Signal::SIGHUP)?;
    in_charge(&run)?;
    goes_on(&talk)
}
