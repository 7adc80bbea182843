//! With `profile = "light"` an uplink that costs money has neither endpoint nor subflow while another one works, and carries
//! what there is when nothing else is left.
use anyhow::{Context, Result, ensure};
use tests::daemon::{Daemon, PATIENCE};
use tests::kernel;
use tests::running::{Running, goes_on, uplink};
use tests::traffic::{Job, Options, Protocol, Server, start};
use tests::{Family, Lab, Outage, Scenario};

const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const LTE_STANDS_BY: &str = "10.2.0.2 subflow backup dev lte0";
const LIGHT: &str = "[[uplink]]\nmatch = { name = \"lte0\" }\nmetered = true\n";
const MANAGED: &str = "manager = \"daemon\"\n";

/// Nothing at all has gone out over it.
fn is_unused(run: &Running) -> Result<()> {
    let sent = run.lab.link("lte").counters().up.delivered.bytes;
    ensure!(sent == 0, "{sent} bytes went over what costs money");
    let joins = kernel::counter(run.client(), "MPJoinSynTx")?;
    ensure!(joins == 0, "{joins} subflows were begun");
    Ok(())
}

#[test]
fn with_endpoints_what_costs_money_waits_until_nothing_else_is_left() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, LIGHT)?;
    run.await_endpoints(&[WIFI])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2"])?;
    let says = |status: &serde_json::Value| {
        uplink(status, "lte0")
            .and_then(|lte| lte["rests"].as_str())
            .is_some_and(|why| why.contains("costs money"))
    };
    run.await_status("the reason", says)?;
    is_unused(&run)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_endpoints(&[LTE])?;
    goes_on(&talk)?;
    run.await_subflows(&["10.2.0.2"])?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_endpoints(&[WIFI])?;
    goes_on(&talk)?;
    run.await_subflows(&["10.1.0.2"])?;
    // Who says that it is a backup wants it ready.
    run.daemon.write_config(&format!("{LIGHT}role = \"backup\"\n"))?;
    let reloaded = run.daemon.command(&["reload"])?.output()?;
    ensure!(reloaded.status.success(), "{}", String::from_utf8_lossy(&reloaded.stderr));
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])
}

#[test]
fn the_daemon_joins_what_costs_money_when_the_rest_falls_silent() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let daemon = Daemon::start_in_charge(lab.host("client"), &[MANAGED, LIGHT].concat(), &[])?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let run = Running { daemon, server, lab };
    // Endpoints do nothing for these connections.
    run.await_endpoints(&[WIFI, LTE_STANDS_BY])?;
    let talk = run.talk()?;
    let download = start(run.client(), &run.server, Job::BulkDown, Options::bytes(1 << 30))?;
    download.wait_for(4 << 20, PATIENCE)?;
    is_unused(&run)?;
    run.lab.link("wifi").outage(Outage::Silent)?;
    goes_on(&talk)?;
    download.wait_for(download.bytes() + (1 << 20), PATIENCE)?;
    run.await_subflows(&["10.2.0.2", "10.2.0.2"])?;
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_subflows(&["10.1.0.2", "10.1.0.2"]).context("Wi-Fi answers again")?;
    goes_on(&talk)?;
    download.wait_for(download.bytes() + (1 << 20), PATIENCE)?;
    // A link that is lost is the same without asking.
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_subflows(&["10.2.0.2", "10.2.0.2"]).context("Wi-Fi has lost its carrier")?;
    goes_on(&talk)
}
