//! Subflows that could not be made at first: the kernel's path manager tries each once, the daemon lets it try again.
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tests::daemon::await_that;
use tests::kernel;
use tests::running::{Running, goes_on};
use tests::traffic::{Job, Options, start};
use tests::{Family, Lab, Outage, Scenario};

const HEAVY: &str = "profile = \"heavy\"\n";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const BOTH: [&str; 2] = ["10.1.0.2", "10.2.0.2"];
/// What an outage lasts during which the kernel looks for the gateway (three questions, one each second), and does not
/// ask once more when the access is back.
const UNLUCKY: Duration = Duration::from_millis(2500);

/// An access point may have a carrier long before it forwards anything.
#[test]
fn a_gateway_that_does_not_answer_yet_is_tried_again() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let talk = run.talk()?;
    run.await_subflows(&BOTH)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    run.await_endpoints(&[LTE])?;
    let router = run.lab.host("wifi-router");
    router.ip("link set lan0 arp off")?;
    run.lab.link("wifi").outage(Outage::None)?;
    let tried = |log: &String| log.matches("subflows that failed are tried again").count();
    await_that("two attempts", || Ok(run.daemon.log()), |log| tried(log) >= 2)?;
    goes_on(&talk)?;
    router.ip("link set lan0 arp on")?;
    run.await_subflows(&BOTH)?;
    run.await_status("no finding", |status| status["findings"] == json!([]))?;
    goes_on(&talk)
}

#[test]
fn an_outage_during_which_the_gateway_was_looked_for_leaves_no_connection_behind() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, HEAVY)?;
    let bulk = Options::duration(Duration::from_secs(120));
    let transfer = start(run.client(), &run.server, Job::BulkUp, bulk)?;
    run.await_subflows(&BOTH)?;
    run.lab.link("wifi").outage(Outage::Down)?;
    // The length is what matters; nothing happens that could be waited for.
    sleep(UNLUCKY);
    run.lab.link("wifi").outage(Outage::None)?;
    run.await_subflows(&BOTH)?;
    goes_on(&transfer)
}

/// One connection has its subflow over Wi-Fi, another one could not make it: a new attempt would close the first one's.
#[test]
fn a_subflow_that_lives_is_not_closed_for_one_that_failed() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    // Connections begin over the modem.
    lab.host("client").ip("route del default via 10.1.0.1 dev wifi0 metric 600")?;
    lab.host("client").ip("route add default via 10.1.0.1 dev wifi0 proto dhcp metric 800")?;
    let run = Running::in_lab(lab, HEAVY)?;
    let first = run.talk()?;
    let before = run.await_subflows(&BOTH)?;
    let router = run.lab.host("wifi-router");
    router.ip("link set lan0 arp off")?;
    run.client().ip("neigh del 10.1.0.1 dev wifi0")?;
    let second = run.talk()?;
    let closed = kernel::counter(run.client(), "RmSubflow")?;
    let waits = |status: &Value| {
        let is_it = |finding: &Value| {
            finding["object"] == "subflows from 10.1.0.2"
                && finding["reason"].as_str().is_some_and(|reason| reason.contains("another connection"))
        };
        status["findings"].as_array().is_some_and(|all| all.iter().any(is_it))
    };
    run.daemon.await_that("a subflow that waits", || run.daemon.status(), waits)?;
    router.ip("link set lan0 arp on")?;
    goes_on(&first)?;
    goes_on(&second)?;
    let seen = kernel::subflows(run.client())?;
    assert!(before.iter().all(|subflow| seen.contains(subflow)), "{before:?} {seen:?}");
    assert_eq!(kernel::counter(run.client(), "RmSubflow")?, closed);
    drop(first);
    run.await_subflows(&BOTH)?;
    goes_on(&second)
}
