//! The daemon beside the real NetworkManager: it follows what that says of interfaces, and neither fights with the other.
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::Family;
use tests::daemon::{Daemon, await_that, binary};
use tests::desktop::{Beacon, Desktop, Profile, Reached};
use tests::footprint::Footprint;
use tests::running::{Running, bare, goes_on, uplink};
use tests::stillness::{endpoints, rests};

const DROP_IN: &str = include_str!("../../packaging/NetworkManager/conf.d/mptcp-pm.conf");
const HOOK: &str = include_str!("../../packaging/NetworkManager/dispatcher.d/90-mptcp-pm");
const CONNECTIVITY: &str = "[connectivity]\nuri=http://10.9.0.2/\ninterval=300\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const LTE_STANDS_BY: &str = "10.2.0.2 subflow backup dev lte0";
const WIFI_STANDS_BY: &str = "10.1.0.2 subflow backup dev wifi0";

/// A machine whose client's interfaces are NetworkManager's, and on which it runs.
struct Machine {
    desktop: Desktop,
    beacon: Beacon,
    run: Running,
}

impl Machine {
    /// Both uplinks are active; only NetworkManager knows that one costs money.
    fn start(config: &str, drop_in: Option<&str>) -> Result<Self> {
        let lab = bare(Family::V4)?;
        let beacon = Beacon::start(lab.host("server"))?;
        let mut desktop = Desktop::start(lab.host("client"))?;
        desktop.install("/etc/NetworkManager/conf.d/connectivity.conf", 0o644, CONNECTIVITY)?;
        if let Some(text) = drop_in {
            desktop.install("/etc/NetworkManager/conf.d/mptcp-pm.conf", 0o644, text)?;
        }
        desktop.start_manager()?;
        desktop.activate(&Profile::of("wifi0"))?;
        desktop.activate(&Profile { metered: "yes", ..Profile::of("lte0") })?;
        let run = Running::in_lab(lab, config)?;
        Ok(Self { desktop, beacon, run })
    }

    /// Makes NetworkManager find out what is reached.
    fn check(&self) -> Result<()> {
        self.desktop.nmcli("networking connectivity check").map(drop)
    }

    /// Waits until the status says this of an uplink.
    fn await_uplink(&self, name: &str, expected: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let says = |status: &Value| uplink(status, name).is_some_and(&holds);
        self.run.await_status(&format!("{name} with {expected}"), says).map(drop)
    }
}

#[test]
fn what_network_manager_says_of_interfaces_acts() -> Result<()> {
    let machine = Machine::start("profile = \"heavy\"\n", Some(DROP_IN))?;
    let (run, desktop) = (&machine.run, &machine.desktop);
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
    let by = |value: &Value| value["metered"] == true && value["sources"]["metered"] == "network-manager";
    machine.await_uplink("lte0", "its cost", by)?;
    let named =
        |value: &Value| value["profile"]["id"] == "wifi0" && value["families"][0]["connectivity"] == "full";
    machine.await_uplink("wifi0", "profile and connectivity", named)?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;

    // What it costs changes, and so does what it is for, without a new activation of the interface.
    desktop.nmcli("connection modify lte0 connection.metered no")?;
    desktop.nmcli("device reapply lte0")?;
    run.await_endpoints(&[WIFI, LTE])?;
    let user = vec![("mptcp-pm.role", "backup"), ("mptcp-pm.provider", "Beta"), ("mptcp-pm.role2", "x")];
    desktop.store(&Profile { metered: "no", user, ..Profile::of("lte0") })?;
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
    let status = run.await_status("the provider", |status| {
        uplink(status, "lte0").is_some_and(|lte| lte["provider"] == "Beta" && lte["role"] == "backup")
    })?;
    ensure!(status["findings"][0]["reason"].as_str().is_some_and(|said| said.contains("role2")), "{status}");
    desktop.store(&Profile { metered: "no", ..Profile::of("lte0") })?;
    run.await_endpoints(&[WIFI, LTE])?;

    // An uplink behind a portal stands by for as long as another one is not.
    machine.beacon.set(1, Reached::Portal);
    machine.check()?;
    run.await_endpoints(&[WIFI_STANDS_BY, LTE])?;
    let says = |value: &Value| value["rests"].as_str().is_some_and(|said| said.contains("captive portal"));
    machine.await_uplink("wifi0", "the portal", says)?;
    machine.beacon.set(2, Reached::Portal);
    machine.check()?;
    run.await_endpoints(&[WIFI, LTE])?;
    machine.beacon.set(1, Reached::Internet);
    machine.beacon.set(2, Reached::Internet);
    machine.check()?;
    machine.await_uplink("lte0", "the Internet", |value| value["families"][0]["connectivity"] == "full")?;
    run.await_endpoints(&[WIFI, LTE])?;

    goes_on(&talk)
}

/// The same with IPv6 alone.
#[test]
fn profiles_with_ipv6_act() -> Result<()> {
    let lab = bare(Family::V6)?;
    let mut desktop = Desktop::start(lab.host("client"))?;
    desktop.install("/etc/NetworkManager/conf.d/mptcp-pm.conf", 0o644, DROP_IN)?;
    desktop.start_manager()?;
    let wifi = Profile { family: Family::V6, ..Profile::of("wifi0") };
    let lte = Profile { family: Family::V6, metered: "yes", ..Profile::of("lte0") };
    desktop.activate(&wifi)?;
    desktop.activate(&lte)?;
    let run = Running::in_lab(lab, "profile = \"heavy\"\n")?;
    let (wifi, lte_stands_by) = ("2001:db8:1::2 subflow dev wifi0", "2001:db8:2::2 subflow backup dev lte0");
    run.await_endpoints(&[wifi, lte_stands_by])?;
    let talk = run.talk()?;
    run.await_subflows(&["2001:db8:1::2", "2001:db8:2::2"])?;
    desktop.nmcli("connection down lte0")?;
    run.await_endpoints(&[wifi])?;
    desktop.nmcli("connection up lte0")?;
    run.await_endpoints(&[wifi, lte_stands_by])?;
    desktop.store(&Profile { host: 7, metered: "no", ..lte })?;
    desktop.nmcli("device reapply lte0")?;
    run.await_endpoints(&[wifi, "2001:db8:2::7 subflow dev lte0"])?;
    run.await_subflows(&["2001:db8:1::2", "2001:db8:2::7"])?;
    run.await_status("all as wanted", |_| true)?;
    goes_on(&talk)?;
    rests(run.client(), REST)
}

/// With the profile `light` what costs money is left alone, and used when nothing else reaches the Internet.
#[test]
fn light_uses_what_costs_money_only_when_nothing_else_is_there() -> Result<()> {
    let machine = Machine::start("profile = \"light\"\n", Some(DROP_IN))?;
    let (run, desktop) = (&machine.run, &machine.desktop);
    run.await_endpoints(&[WIFI])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2"])?;
    machine.beacon.set(1, Reached::Portal);
    machine.check()?;
    run.await_endpoints(&[WIFI_STANDS_BY, LTE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    machine.beacon.set(1, Reached::Internet);
    machine.check()?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    desktop.nmcli("connection down wifi0")?;
    run.await_endpoints(&[LTE])?;
    goes_on(&talk)?;
    desktop.nmcli("connection up wifi0")?;
    run.await_endpoints(&[WIFI])?;
    run.await_subflows(&["10.1.0.2"])?;
    desktop.nmcli("connection modify lte0 connection.metered no")?;
    desktop.nmcli("device reapply lte0")?;
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
    goes_on(&talk)
}

/// How long nothing may happen, in the ordinary tests.
const REST: Duration = Duration::from_secs(3);

/// Every thing that happens to an interface, and to both daemons: afterwards all is as wanted, and then nothing happens.
fn lives_with(config: &str, drop_in: Option<&str>, lte: &str, rest: Duration) -> Result<()> {
    let mut machine = Machine::start(config, drop_in)?;
    machine.run.await_endpoints(&[WIFI, lte])?;
    let talk = machine.run.talk()?;
    machine.run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;

    machine.desktop.nmcli("connection down lte0")?;
    machine.run.await_endpoints(&[WIFI])?;
    machine.desktop.nmcli("connection up lte0")?;
    machine.run.await_endpoints(&[WIFI, lte])?;
    let moved = Profile { host: 7, metered: "yes", ..Profile::of("lte0") };
    machine.desktop.store(&moved)?;
    machine.desktop.nmcli("device reapply lte0")?;
    let elsewhere = lte.replace("10.2.0.2", "10.2.0.7");
    machine.run.await_endpoints(&[WIFI, &elsewhere])?;
    machine.desktop.nmcli("device reapply wifi0")?;
    goes_on(&talk)?;

    // What is said of an interface is known in both modes; it acts on endpoints of ours.
    let ours = drop_in.is_some();
    let rename = |lte: &str| lte.replace("10.2.0.2", "10.2.0.7");
    machine.desktop.store(&Profile { metered: "no", ..moved.clone() })?;
    machine.desktop.nmcli("device reapply lte0")?;
    machine.await_uplink("lte0", "no cost", |value| value["metered"] == false)?;
    machine.run.await_endpoints(&[WIFI, &rename(LTE)])?;
    machine.beacon.set(1, Reached::Portal);
    machine.check()?;
    machine.await_uplink("wifi0", "the portal", |value| value["rests"].is_string())?;
    machine.run.await_endpoints(&[if ours { WIFI_STANDS_BY } else { WIFI }, &rename(LTE)])?;
    goes_on(&talk)?;
    machine.beacon.set(1, Reached::Internet);
    machine.check()?;
    machine.await_uplink("wifi0", "the Internet", |value| value["rests"].is_null())?;
    machine.desktop.store(&moved)?;
    machine.desktop.nmcli("device reapply lte0")?;
    machine.await_uplink("lte0", "the cost", |value| value["metered"] == true)?;
    machine.run.await_endpoints(&[WIFI, &rename(lte)])?;
    goes_on(&talk)?;
    machine.run.await_subflows(&["10.1.0.2", "10.2.0.7"])?;
    machine.run.await_status("all as wanted", |_| true)?;

    // Both go and come again.
    let before = endpoints(machine.run.client())?;
    machine.desktop.stop_manager()?;
    let alone = |status: &Value| {
        let cost = uplink(status, "lte0").map(|lte| &lte["metered"]);
        status["desktop"]["network_manager"] == false && cost == Some(&Value::Bool(true))
    };
    machine.run.await_status("nobody to be heard, and the cost known", alone)?;
    ensure!(before == endpoints(machine.run.client())?, "NetworkManager's end changes {before}");
    machine.desktop.start_manager()?;
    let back = |status: &Value| status["desktop"]["network_manager"] == true;
    machine.run.await_status("NetworkManager heard", back)?;
    let Running { daemon, server, lab } = machine.run;
    daemon.end(Signal::SIGUSR1)?;
    let daemon = Daemon::start(lab.host("client"), config)?;
    let run = Running { daemon, server, lab };
    // NetworkManager finds out anew what is reached, and what it says meanwhile acts.
    let settled = |status: &Value| {
        let reached =
            |name| uplink(status, name).is_some_and(|value| value["families"][0]["connectivity"] == "full");
        back(status) && ["wifi0", "lte0"].into_iter().all(reached)
    };
    run.await_status("all as wanted, and the Internet over both", settled)?;
    run.await_endpoints(&[WIFI, &elsewhere])?;
    goes_on(&talk)?;
    let said = || {
        let log = machine.desktop.log("NetworkManager");
        log.lines()
            .filter(|line| line.contains("onnectivity"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    rests(run.client(), rest).with_context(said)?;
    let theirs = run.client().ip("mptcp endpoint")?;
    run.daemon.write_config("profile = \"heavy\"\n")?;
    ensure!(run.daemon.command(&["reload"])?.output()?.status.success(), "reload: {}", run.daemon.log());
    let status = run.await_status("all as wanted", |_| true)?;
    let said = status["findings"].to_string().contains("conf.d/mptcp-pm.conf");
    ensure!(said == drop_in.is_none(), "whose endpoints they are: {status}");
    ensure!(run.client().ip("mptcp endpoint")? == theirs, "endpoints of others have changed");
    Ok(())
}

#[test]
fn nothing_happens_at_rest_with_endpoints_of_ours() -> Result<()> {
    lives_with("profile = \"heavy\"\n", Some(DROP_IN), LTE_STANDS_BY, REST)
}

#[test]
fn nothing_happens_at_rest_with_endpoints_of_network_manager() -> Result<()> {
    lives_with("profile = \"heavy\"\nendpoints = \"networkmanager\"\n", None, LTE, REST)
}

#[test]
#[ignore = "rests for two minutes: run it by name"]
fn nothing_happens_in_a_minute_of_rest() -> Result<()> {
    let minute = Duration::from_secs(60);
    lives_with("profile = \"heavy\"\n", Some(DROP_IN), LTE_STANDS_BY, minute)?;
    lives_with("profile = \"heavy\"\nendpoints = \"networkmanager\"\n", None, LTE, minute)
}

/// What is heard comes back with the bus, and nothing that was said is taken back when it goes.
#[test]
fn the_bus_comes_and_goes() -> Result<()> {
    let lab = bare(Family::V4)?;
    let client = Arc::clone(lab.host("client"));
    let mut desktop = Desktop::without_bus(&client)?;
    let run = Running::in_lab(lab, "profile = \"heavy\"\n")?;
    let heard = |yes: bool| move |status: &Value| status["desktop"]["network_manager"] == yes;
    run.await_status("nobody to be heard", heard(false))?;
    sleeps(&run)?;
    desktop.install("/etc/NetworkManager/conf.d/mptcp-pm.conf", 0o644, DROP_IN)?;
    for round in 0..2 {
        desktop.start_bus()?;
        desktop.start_manager()?;
        desktop.activate(&Profile::of("wifi0"))?;
        desktop.activate(&Profile { metered: "yes", ..Profile::of("lte0") })?;
        run.await_endpoints(&[WIFI, LTE_STANDS_BY]).with_context(|| format!("in round {round}"))?;
        run.await_status("NetworkManager heard", heard(true))?;
        sleeps(&run)?;
        desktop.stop_bus();
        run.await_status("nobody to be heard", heard(false))?;
        run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
        desktop.stop_manager()?;
    }
    sleeps(&run)
}

/// While nothing is told nothing wakes the daemon, once it has come to rest.
fn sleeps(run: &Running) -> Result<()> {
    let client = run.client();
    let still = || -> Result<bool> {
        let before = Footprint::of(run.daemon.id())?.switches;
        let mut nothing = client.command("sleep").arg("0.8").spawn()?;
        nothing.wait()?;
        Ok(Footprint::of(run.daemon.id())?.switches == before)
    };
    await_that("no wake-up for most of a second", still, |still| *still)
        .with_context(|| run.daemon.log())
        .map(drop)
}

/// NetworkManager's dispatcher runs the script that is shipped; what it says of a VPN is believed.
#[test]
fn the_dispatcher_tells_of_vpns() -> Result<()> {
    let machine = Machine::start("profile = \"heavy\"\n", Some(DROP_IN))?;
    let (run, desktop) = (&machine.run, &machine.desktop);
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
    let folder = "/etc/NetworkManager/dispatcher.d";
    desktop.install(&format!("{folder}/90-mptcp-pm"), 0o755, HOOK)?;
    desktop.link("../90-mptcp-pm".as_ref(), &format!("{folder}/no-wait.d/90-mptcp-pm"))?;
    desktop.link(&binary()?, "/usr/bin/mptcp-pm")?;
    desktop.link(&Daemon::socket(run.client()), "/run/mptcp-pm/control")?;
    desktop.nmcli("device reapply wifi0")?;
    let heard = || Ok(run.daemon.log().contains("hook of NetworkManager's dispatcher"));
    await_that("the dispatcher's hook", heard, |heard| *heard).with_context(|| desktop.log("dbus-daemon"))?;

    // As for a VPN over PPP, which no plugin is here for: the interface itself does not say what it is.
    let vpn = |action: &str| {
        desktop.run("env", &["VPN_IP_IFACE=lte0", &format!("{folder}/90-mptcp-pm"), "wifi0", action])
    };
    vpn("vpn-up")?;
    run.await_endpoints(&[WIFI])?;
    run.await_reason("lte0", "is a VPN")?;
    vpn("vpn-down")?;
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])
}
