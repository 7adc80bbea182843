//! The lab proves itself on the running kernel: every scenario's paths, filters, rates, delays and counters.

mod common;

use anyhow::{Context, Result};
use common::{PATHS, Path, TIMEOUT, first_address, flow, undisturbed};
use std::time::Duration;
use tests::traffic::udp::{Arrival, Flow, Sink, overhead};
use tests::{Direction, Family, Lab, Scenario};

/// Payload that makes an IP packet of about 1400 bytes.
const PAYLOAD: usize = 1372;

/// Runs `check` on every path of every scenario in every family.
fn on_every_path(families: &[Family], check: impl Fn(&Lab, &Path, Family) -> Result<()>) -> Result<()> {
    for path in PATHS {
        for family in families {
            let lab = Lab::start(&Scenario::load(path.scenario)?, *family)?;
            for single in family.each() {
                let what = || format!("{} over {} ({family:?}, {single:?})", path.scenario, path.link);
                check(&lab, path, *single).with_context(what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_path_is_reachable_with_its_delay() -> Result<()> {
    on_every_path(&Family::ALL, |lab, path, family| {
        let sink = Sink::start(lab.host(path.peer), true)?;
        let mut flow = flow(lab, path, family, &sink)?;
        // How precise the links are is for the benchmark `emulator` to say; here a wrong delay is to be told from a
        // machine that takes its time to wake for each of eight hops.
        let near = |trip: &Duration| trip.abs_diff(path.round_trip) < Duration::from_millis(3);
        let trip = undisturbed(|| flow.ping(8, TIMEOUT)?.context("no echo came back"), near)?;
        assert!(near(&trip), "{}: {trip:?}, not {:?}", path.link, path.round_trip);
        Ok(())
    })
}

#[test]
fn a_path_uses_its_own_link_and_no_other() -> Result<()> {
    on_every_path(&[Family::V4, Family::V6], |lab, path, family| {
        let sink = Sink::start(lab.host(path.peer), true)?;
        flow(lab, path, family, &sink)?.round_trip(TIMEOUT)?.context("no echo came back")?;
        for link in lab.links().filter(|link| link.name() != "access") {
            let expected = u64::from(link.name() == path.link);
            let counters = link.counters();
            assert_eq!([counters.up.delivered.packets, counters.down.delivered.packets], [expected; 2]);
        }
        Ok(())
    })
}

#[test]
fn providers_drop_foreign_source_addresses() -> Result<()> {
    on_every_path(&[Family::V4, Family::V6], |lab, path, family| {
        let host = lab.host(path.host);
        let foreign = if family == Family::V4 { "203.0.113.7" } else { "2001:db8:ffff::7" };
        let (length, option) = if family == Family::V4 { (32, "") } else { (128, "nodad") };
        host.ip(&format!("address add {foreign}/{length} dev {} {option}", path.interface))?;
        let sink = Sink::start(lab.host(path.peer), false)?;
        let to = (first_address(lab.host(path.peer), family)?, sink.port()).into();
        Flow::open(host, Some(path.interface), Some(foreign.parse()?), to)?.send(8)?;
        // What follows from the right address arrives; had the first passed, it would have come before.
        flow(lab, path, family, &sink)?.send(8)?;
        sink.wait_for(1, TIMEOUT)?;
        assert_eq!(lab.link(path.link).counters().up.received.packets, 1);
        assert_eq!(sink.arrivals().len(), 1);
        Ok(())
    })
}

#[test]
fn a_provider_does_not_take_the_other_providers_addresses() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
    let sink = Sink::start(lab.host("server"), true)?;
    let to = (first_address(lab.host("server"), Family::V4)?, sink.port()).into();
    let open = |bind: &str| Flow::open(lab.host("client"), Some("wifi0"), Some(bind.parse()?), to);
    open("10.2.0.2")?.send(8)?;
    open("10.1.0.2")?.round_trip(TIMEOUT)?.context("no echo came back")?;
    assert_eq!(sink.arrivals().len(), 1);
    assert_eq!(lab.link("wifi").counters().up.received.packets, 1);
    Ok(())
}

#[test]
fn one_provider_takes_its_addresses_on_both_lines() -> Result<()> {
    let lab = Lab::start(&Scenario::load("two-lines-one-provider")?, Family::Both)?;
    let sink = Sink::start(lab.host("server"), false)?;
    for (family, of_lte) in [(Family::V4, "10.1.2.2"), (Family::V6, "2001:db8:1:2::2")] {
        let to = (first_address(lab.host("server"), family)?, sink.port()).into();
        Flow::open(lab.host("client"), Some("dsl0"), Some(of_lte.parse()?), to)?.send(8)?;
    }
    sink.wait_for(2, TIMEOUT)?;
    assert_eq!(lab.link("dsl").counters().up.delivered.packets, 2);
    Ok(())
}

#[test]
fn links_have_their_rate_both_ways() -> Result<()> {
    on_every_path(&[Family::V4], |lab, path, family| {
        let [host, peer] = [path.host, path.peer].map(|name| lab.host(name));
        let sink = Sink::start(peer, false)?;
        check_rate(lab, path, Direction::Up, flow(lab, path, family, &sink)?, &sink)?;
        let sink = Sink::start(host, false)?;
        let back = Flow::open(peer, None, None, (path.address(family)?, sink.port()).into())?;
        check_rate(lab, path, Direction::Down, back, &sink)
    })
}

/// Offers more than the rate, then the same at half the rate, changed while packets wait.
fn check_rate(lab: &Lab, path: &Path, direction: Direction, mut flow: Flow, sink: &Sink) -> Result<()> {
    let link = lab.link(path.link);
    let full = link.settings(direction).rate;
    let mut seen = 0;
    for rate in [full, full / 2] {
        link.set_one(direction, |settings| settings.rate = rate);
        let near = |measured: &f64| (measured / rate as f64 - 1.0).abs() < 0.05;
        let measure = || {
            flow.pace(rate as f64 * 1.3, PAYLOAD, Duration::from_millis(400))?;
            let arrivals = sink.arrivals().split_off(seen);
            seen += arrivals.len();
            // What was on its way when the rate changed came at the old one.
            let packets = usual_rate(&arrivals[arrivals.len() / 2..]).context("too few datagrams arrived")?;
            Ok(packets * 8.0 * (PAYLOAD + overhead(flow.peer()?)) as f64)
        };
        let measured = undisturbed(measure, near)?;
        assert!(near(&measured), "{direction:?}: {measured:.0} bit/s, not {rate}");
    }
    Ok(())
}

/// Datagrams per second: the median over stretches of the arrivals, because a machine that is busy with other
/// tests may hold up the observer for a while.
fn usual_rate(arrivals: &[Arrival]) -> Option<f64> {
    let stretch = (arrivals.len() / 9).max(2);
    let rate =
        |part: &[Arrival]| (part.len() - 1) as f64 / (part[part.len() - 1].at - part[0].at).as_secs_f64();
    let mut rates: Vec<_> = arrivals.chunks_exact(stretch).map(rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

#[test]
fn counters_are_what_was_sent_and_what_came() -> Result<()> {
    on_every_path(&[Family::V4, Family::V6], |lab, path, family| {
        let link = lab.link(path.link);
        link.set_one(Direction::Up, |settings| {
            settings.loss = 0.1;
            settings.queue = 20_000;
        });
        let sink = Sink::start(lab.host(path.peer), false)?;
        let mut flow = flow(lab, path, family, &sink)?;
        let size = (PAYLOAD + overhead(path.address(family)?)) as u64;
        let sent =
            flow.pace(link.settings(Direction::Up).rate as f64 * 1.5, PAYLOAD, TIMEOUT / 20)?.len() as u64;
        link.set_one(Direction::Up, |settings| (settings.loss, settings.queue) = (0.0, usize::MAX));
        flow.send(PAYLOAD)?;
        sink.wait_for_number(sent, TIMEOUT)?;

        let (counters, arrived) = (link.counters().up, sink.arrivals().len() as u64);
        assert_eq!((counters.received.packets, counters.received.bytes), (sent + 1, (sent + 1) * size));
        assert_eq!((counters.delivered.packets, counters.delivered.bytes), (arrived, arrived * size));
        assert_eq!(counters.held.packets, 0);
        assert_eq!(counters.dropped_queue + counters.dropped_random, counters.dropped());
        assert_eq!(counters.received, counters.delivered + counters.dropped());
        assert_eq!(lab.missed()?, 0);
        assert!(counters.dropped_queue.packets > 0 && counters.dropped_random.packets > 0, "{counters:?}");
        Ok(())
    })
}

#[test]
fn the_same_seed_loses_the_same_packets() -> Result<()> {
    let run = || -> Result<Vec<u64>> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        lab.link("wifi").set(|settings| settings.loss = 0.3);
        let path = Path::named("wifi")?;
        let sink = Sink::start(lab.host("server"), false)?;
        let mut flow = flow(&lab, path, Family::V4, &sink)?;
        (0..200).try_for_each(|_| flow.send(8).map(drop))?;
        lab.link("wifi").set(|settings| settings.outage = false);
        // Number 200 is the first of those sent until one arrives.
        while sink.wait_for_number(200, Duration::from_millis(100)).is_err() {
            flow.send(8)?;
        }
        Ok(sink.arrivals().iter().map(|arrival| arrival.number).filter(|number| *number < 200).collect())
    };
    let first = run()?;
    assert!((100..180).contains(&first.len()), "{}", first.len());
    assert_eq!(first, run()?);
    Ok(())
}

#[test]
fn address_detection_runs_where_the_scenario_wants_it() -> Result<()> {
    let mut scenario = Scenario::load("two-providers")?;
    scenario.node("client")?.dad = true;
    let lab = Lab::start(&scenario, Family::V6)?;
    let tentative = |name: &str| -> Result<bool> {
        Ok(lab.host(name).addresses()?.iter().any(|address| address.tentative))
    };
    assert!(tentative("client")? && !tentative("server")?);
    Ok(())
}
