//! Links that are interrupted, and what the client and the counters see of it.

mod common;

use anyhow::{Context, Result, ensure};
use common::{Path, TIMEOUT, flow};
use std::time::Duration;
use tests::traffic::udp::Sink;
use tests::{Family, Host, Lab, Outage, Scenario};

/// Long against every round trip; what has not come back by then was lost.
const LOST: Duration = Duration::from_millis(300);

#[test]
fn a_silent_outage_takes_everything_and_tells_nobody() -> Result<()> {
    let (lab, path) = (Lab::start(&Scenario::load("two-providers")?, Family::Both)?, Path::named("wifi")?);
    let (client, link) = (lab.host(path.host), lab.link("wifi"));
    let sink = Sink::start(lab.host(path.peer), true)?;
    for family in [Family::V4, Family::V6] {
        let mut flow = flow(&lab, path, family, &sink)?;
        flow.round_trip(TIMEOUT)?.context("no echo before")?;
        let before = link.counters();
        link.outage(Outage::Silent)?;
        assert_eq!(flow.round_trip(LOST)?, None);
        assert!(has_carrier(client, "wifi0")?);
        let after = link.counters();
        assert_eq!(after.up.dropped_outage.packets - before.up.dropped_outage.packets, 1);
        assert_eq!(after.up.delivered, before.up.delivered);
        link.outage(Outage::None)?;
        flow.round_trip(TIMEOUT)?.context("no echo after")?;
    }
    Ok(())
}

#[test]
fn a_silent_outage_may_take_one_direction() -> Result<()> {
    let (lab, path) = (Lab::start(&Scenario::load("two-providers")?, Family::V4)?, Path::named("lte")?);
    let link = lab.link("lte");
    let sink = Sink::start(lab.host(path.peer), true)?;
    let mut flow = flow(&lab, path, Family::V4, &sink)?;
    link.outage(Outage::SilentDown)?;
    assert_eq!(flow.round_trip(LOST)?, None);
    assert_eq!((sink.arrivals().len(), link.counters().down.dropped_outage.packets), (1, 1));
    link.outage(Outage::SilentUp)?;
    assert_eq!(flow.round_trip(LOST)?, None);
    assert_eq!((sink.arrivals().len(), link.counters().up.dropped_outage.packets), (1, 1));
    link.outage(Outage::None)?;
    flow.round_trip(TIMEOUT)?.context("no echo after")?;
    Ok(())
}

#[test]
fn a_link_that_goes_down_takes_the_carrier_and_comes_back_whole() -> Result<()> {
    for (name, family) in
        [("wifi", Family::V4), ("lte", Family::V6), ("dsl", Family::Both), ("beta", Family::Both)]
    {
        let path = Path::named(name)?;
        let lab = Lab::start(&Scenario::load(path.scenario)?, family)?;
        let (host, link) = (lab.host(path.host), lab.link(name));
        let sink = Sink::start(lab.host(path.peer), true)?;
        let mut flows = Vec::new();
        for single in family.each() {
            flows.push(flow(&lab, path, *single, &sink)?);
        }
        for flow in &mut flows {
            flow.round_trip(TIMEOUT)?.context("no echo before")?;
        }
        link.outage(Outage::Down)?;
        ensure!(!has_carrier(host, path.interface)?, "{name}: the carrier is still there");
        link.outage(Outage::None)?;
        ensure!(has_carrier(host, path.interface)?, "{name}: the carrier has not come back");
        for flow in &mut flows {
            // The kernel brings its routes and neighbours back in its own time.
            let mut attempts = (0..40).map(|_| flow.round_trip(LOST));
            ensure!(attempts.any(|trip| matches!(trip, Ok(Some(_)))), "{name}: no echo after");
        }
    }
    Ok(())
}

#[test]
fn only_a_link_with_a_carrier_can_go_down() -> Result<()> {
    let lab = Lab::start(&Scenario::load("one-line-two-addresses")?, Family::V4)?;
    let error = lab.link("transit-a").outage(Outage::Down).unwrap_err();
    assert!(error.to_string().contains("transit-a"), "{error}");
    Ok(())
}

fn has_carrier(host: &Host, interface: &str) -> Result<bool> {
    Ok(!host.ip(&format!("link show dev {interface}"))?.contains("NO-CARRIER"))
}
