//! `manager = "kernel"`: an uplink over which nobody answers is left by all connections, and used again when somebody does.
use anyhow::Result;
use tests::daemon::{PATIENCE, await_that};
use tests::running::{Running, uplink};
use tests::traffic::{Job, Options, start};
use tests::{Family, Outage, kernel};

const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";

#[test]
fn a_silent_uplink_has_no_endpoint_until_somebody_answers_over_it() -> Result<()> {
    let run = Running::start("two-providers", Family::V4, "profile = \"heavy\"\n")?;
    run.await_endpoints(&[WIFI, LTE])?;
    let upload = start(run.client(), &run.server, Job::BulkUp, Options::bytes(1 << 30))?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    // Who answers is known by then.
    let asked = || kernel::echo_requests(run.lab.host("server"));
    await_that("a question over each way", asked, |asked| *asked >= 2)?;
    upload.wait_for(upload.bytes() + (1 << 20), PATIENCE)?;

    run.lab.link("wifi").outage(Outage::Silent)?;
    run.await_endpoints(&[LTE])?;
    run.await_subflows(&["10.2.0.2"])?;
    upload.wait_for(upload.bytes() + (1 << 20), PATIENCE)?;
    let rests = |status: &serde_json::Value| {
        let reason = uplink(status, "wifi0").and_then(|wifi| wifi["rests"].as_str());
        reason.is_some_and(|reason| reason.contains("do not answer"))
    };
    run.daemon.await_that("the reason", || run.daemon.status(), rests)?;

    run.lab.link("wifi").outage(Outage::None)?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"]).map(drop)
}
