//! The main job: every connection gets a subflow over each access, one that goes is left, one that comes is used.
use anyhow::Result;
use tests::daemon::{Daemon, await_that};
use tests::kernel::endpoints;
use tests::traffic::{Job, Options, Protocol, Server, Spoken, start};
use tests::{Family, Lab, Outage, Scenario, require};

const HEAVY: &str = "profile = \"heavy\"\n";

#[test]
fn an_upload_survives_the_loss_of_its_first_access() -> Result<()> {
    require()?;
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    let daemon = Daemon::start(client, HEAVY)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let transfer = start(client, &server, Job::BulkUp, Options::bytes(40 << 20))?;
    transfer.wait_for(8 << 20, tests::daemon::PATIENCE)?;
    lab.link("wifi").outage(Outage::Down)?;
    daemon.await_that("one endpoint", || endpoints(client), |seen| seen.len() == 1)?;
    let before = transfer.bytes();
    transfer.wait_for(before + (3 << 20), tests::daemon::PATIENCE)?;
    lab.link("wifi").outage(Outage::None)?;
    daemon.await_that("two endpoints", || endpoints(client), |seen| seen.len() == 2)?;
    let report = transfer.join()?;
    assert!(report.intact() && report.spoken == Spoken::Mptcp);
    let wifi = lab.link("wifi").counters();
    let lte = lab.link("lte").counters();
    println!("{wifi:?}\n{lte:?}\n{:?} {:.1} Mbit/s", report.stall, report.rate() / 1e6);
    daemon.stop()?;
    await_that("no endpoint", || endpoints(client), Vec::is_empty)?;
    Ok(())
}
