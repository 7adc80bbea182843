//! The traffic helpers over every scenario, on the running kernel's MPTCP and TCP.

use anyhow::{Context, Result};
use std::time::Duration;
use tests::daemon::await_that;
use tests::traffic::{self, Job, Options, Protocol, Server, Spoken};
use tests::{Family, Lab, Outage, Scenario, kernel};

const SCENARIOS: [&str; 4] = ["two-providers", "two-lines-one-provider", "one-line-two-addresses", "site"];
const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn every_scenario_carries_mptcp_both_ways() -> Result<()> {
    for name in SCENARIOS {
        for family in Family::ALL {
            let lab = Lab::start(&Scenario::load(name)?, family)?;
            let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
            for (job, options) in [
                (Job::BulkUp, Options::bytes(300_001)),
                (Job::BulkDown, Options::bytes(300_001)),
                (Job::RequestResponse, Options::messages(5, 200, 1000)),
            ] {
                let what = || format!("{name}, {family:?}, {job:?}");
                let bytes = if job == Job::RequestResponse { 6000 } else { 300_001 };
                let report =
                    traffic::start(lab.host("client"), &server, job, options)?.join().with_context(what)?;
                assert!(report.intact() && report.bytes == bytes, "{}: {report:?}", what());
                assert_eq!(report.spoken, Spoken::Mptcp, "{}", what());
                assert_eq!(report.client_sha256.len(), 64);
            }
        }
    }
    Ok(())
}

#[test]
fn plain_tcp_and_fallback_are_told_apart() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::Both)?;
    let server = Server::start(lab.host("server"), Protocol::Tcp)?;
    for (protocol, spoken) in [(Protocol::Tcp, Spoken::Tcp), (Protocol::Mptcp, Spoken::Fallback)] {
        for job in [Job::BulkUp, Job::BulkDown] {
            let options = Options { protocol: Some(protocol), ..Options::bytes(50_000) };
            let report = traffic::start(lab.host("client"), &server, job, options)?.join()?;
            assert!(report.intact());
            assert_eq!(report.spoken, spoken);
        }
    }
    Ok(())
}

#[test]
fn a_connection_goes_where_it_is_bound_with_the_congestion_control_it_asks_for() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::Both)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let options = Options {
        bind: Some("2001:db8:2::2".parse()?),
        interface: Some("lte0".into()),
        congestion: Some("reno".into()),
        ..Options::duration(Duration::from_secs(5))
    };
    let transfer = traffic::start(lab.host("client"), &server, Job::BulkDown, options)?;
    transfer.wait_for(10_000, TIMEOUT)?;
    let port = transfer.local().context("connected")?.port();
    for (host, filter) in [("client", format!("sport = :{port}")), ("server", format!("dport = :{port}"))] {
        let output = lab.host(host).command("ss").args(["-tniHO", &filter]).output()?;
        assert!(String::from_utf8(output.stdout)?.contains(" reno "), "on the {host}");
    }
    drop(transfer);
    assert!(lab.link("lte").counters().down.delivered.bytes > 10_000);
    assert_eq!(lab.link("wifi").counters().up.received.packets, 0);
    Ok(())
}

#[test]
fn a_transfer_can_be_watched_and_its_stall_is_the_outage() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let server = Server::start(lab.host("server"), Protocol::Tcp)?;
    for job in [Job::BulkUp, Job::BulkDown] {
        let transfer = traffic::start(lab.host("client"), &server, job, Options::bytes(3_000_000))?;
        transfer.wait_for(1_000_000, TIMEOUT)?;
        lab.link("wifi").outage(Outage::Silent)?;
        let cut = transfer.elapsed();
        let stuck = transfer.wait_for(3_000_000, Duration::from_millis(500));
        assert!(stuck.is_err() && !transfer.is_over());
        let bytes = transfer.bytes();
        lab.link("wifi").outage(Outage::None)?;
        let report = transfer.join()?;
        assert!(report.intact());
        assert!(
            report.stall.length >= Duration::from_millis(500) - Duration::from_millis(50),
            "{:?}",
            report.stall
        );
        assert_eq!(report.progress.bytes_at(cut + Duration::from_millis(450)), bytes);
        assert_eq!(report.progress.bytes_at(report.duration), 3_000_000);
        assert!(report.progress.rate(Duration::ZERO, cut) > 1e6);
    }
    Ok(())
}

#[test]
fn the_slowest_message_is_the_stall_of_an_exchange() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V6)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let options = Options { interval: Duration::from_millis(10), ..Options::messages(20, 100, 5000) };
    let report = traffic::request_response(lab.host("client"), &server, options)?;
    assert_eq!((report.latencies.len(), report.asked.len(), report.bytes), (20, 20, 20 * 5100));
    assert_eq!(report.latencies.iter().max(), Some(&report.stall.length));
    assert!(report.latencies.iter().all(|latency| *latency >= Duration::from_millis(20)));
    Ok(())
}

#[test]
fn what_is_held_begins_when_it_is_let_go() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let client = lab.host("client");
    client.ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow")?;
    for job in [Job::BulkUp, Job::BulkDown] {
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let transfer =
            traffic::start(client, &server, job, Options { hold: true, ..Options::bytes(100_000) })?;
        // The connection has all that it gets before its content begins.
        await_that("two subflows", || kernel::subflows(client), |seen| seen.len() == 2)?;
        let before = transfer.elapsed();
        assert_eq!(transfer.bytes(), 0);
        transfer.go()?;
        let report = transfer.join()?;
        assert!(report.intact() && report.begun >= before && report.progress.samples()[0].at >= report.begun);
        // Its end stays open for as long as it is there.
        drop(server);
        await_that("none", || kernel::subflows(client), Vec::is_empty)?;
    }
    Ok(())
}

#[test]
fn a_dead_path_fails_at_the_deadline() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
    let options = || Options { deadline: Duration::from_secs(1), ..Options::bytes(100_000_000) };
    for job in [Job::BulkUp, Job::BulkDown] {
        let transfer = traffic::start(lab.host("client"), &server, job, options())?;
        transfer.wait_for(10_000, TIMEOUT)?;
        lab.link("wifi").outage(Outage::Silent)?;
        assert!(format!("{:#}", transfer.join().unwrap_err()).contains("deadline"));
        let error = traffic::bulk_up(lab.host("client"), &server, options()).unwrap_err();
        assert!(format!("{error:#}").contains("connect from client"), "{error:#}");
        lab.link("wifi").outage(Outage::None)?;
    }
    Ok(())
}
