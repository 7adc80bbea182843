//! What is told of a path, in words and in JSON.
use std::net::Ipv4Addr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::core::hints::Sources;
use crate::core::uplink::{Class, Uplink};
use crate::view::status::paragraph;

const SECOND: u64 = 1_000_000_000;

/// The machine started one and a half thousand seconds before.
fn wall(ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_763_693_500) + Duration::from_nanos(ns)
}

fn stats() -> Stats {
    let uplink = Uplink {
        ifindex: 3,
        name: "lte0".into(),
        class: Class::Cellular,
        provider: Some("Beta".into()),
        role: None,
        metered: false,
        sources: Sources::default(),
        profile: None,
        radio: false,
        rests: None,
        held: false,
        flags: None,
        families: Vec::new(),
        unused: None,
    };
    let mut stats = Stats::new(0);
    stats.uplinks(&[uplink], &[]);
    stats
}

/// A subflow that the machine joined to a connection, bound to an interface.
fn subflow(ifindex: u32) -> Sample {
    let mut sample = Sample::default();
    (sample.kept.cookie, sample.kept.token, sample.kept.ifindex) = (7, 0x1234, ifindex);
    sample.kept.way = Established::JoinActive.index();
    sample.kept.family = 2;
    sample.kept.local[..4].copy_from_slice(&Ipv4Addr::new(10, 2, 0, 2).octets());
    sample.kept.remote[..4].copy_from_slice(&Ipv4Addr::new(10, 9, 0, 2).octets());
    (sample.kept.local_port, sample.kept.remote_port) = (40000, 443);
    (sample.kept.since_ns, sample.live.at_ns) = (1500 * SECOND, 1500 * SECOND);
    sample.live.rtt_min_us = u32::MAX;
    sample
}

/// Its end, 12.5 seconds later.
fn ended(mut sample: Sample) -> Sample {
    sample.live.at_ns += 12_500_000_000;
    sample.live.delivered_ns = sample.live.at_ns - 2 * SECOND;
    (sample.live.bytes_sent, sample.live.bytes_retransmitted) = (2_000_000, 10_000);
    (sample.live.bytes_acked, sample.live.bytes_received) = (1_990_000, 345);
    (sample.live.rtt_us, sample.live.rtt_min_us) = (81_500, 80_100);
    sample.kept.timeouts = 2;
    sample
}

/// What is told, in words as `monitor` prints them and in JSON.
fn told(event: path_stats::Event, stats: &Stats) -> (String, Value) {
    let event = PathEvent::new(&event, stats, wall).expect("is about a path");
    let json = serde_json::to_value(&event).expect("serializes");
    assert_eq!(serde_json::from_value::<PathEvent>(json.clone()).expect("is read again"), event);
    let text = paragraph(&event.text());
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    (text, json)
}

#[test]
fn an_opening_names_the_uplink_and_its_provider() {
    let (mut stats, mut sample) = (stats(), subflow(3));
    sample.live.backup_by_us = 1;
    stats.read(&sample);
    let (text, json) = told(path_stats::Event::Opened(sample), &stats);
    let expected = "03:16:40.000Z path opened      0x00001234 10.2.0.2:40000 > 10.9.0.2:443 on lte0\n    \
        (Beta): join, opened by us, backup\n";
    assert_eq!(text, expected);
    let expected = json!({"time": 1_763_695_000.0, "event": "path-opened", "token": 0x1234,
        "local": "10.2.0.2:40000", "remote": "10.9.0.2:443", "uplink": "lte0", "provider": "Beta",
        "kind": "join", "opened_by": "us", "backup": true});
    assert_eq!(json, expected);
}

#[test]
fn a_closing_has_the_last_figures() {
    let (mut stats, sample) = (stats(), subflow(3));
    stats.read(&sample);
    let last = ended(sample);
    stats.read(&last);
    let (text, json) = told(path_stats::Event::Closed(last), &stats);
    let expected = "03:16:52.500Z path closed      0x00001234 10.2.0.2:40000 > 10.9.0.2:443 on lte0\n    \
        (Beta): after 12.5 s, 1.99 MB out, 345 B in, 0.50 % resent, rtt 81.5 ms (min\n    80.1), 2 timeouts\n";
    assert_eq!(text, expected);
    assert_eq!((&json["event"], &json["duration_seconds"]), (&json!("path-closed"), &json!(12.5)));
    let figures = &json["figures"];
    assert_eq!(figures["acknowledged_bytes"], 1_990_000);
    assert_eq!((&figures["subflows"], &figures["closed_subflows"]), (&json!(0), &json!(1)));
    assert_eq!((&figures["rtt_min_seconds"], &figures["idle_seconds"]), (&json!(0.0801), &json!(2.0)));
    assert_eq!(figures["windows"]["second"]["received_bytes_per_second"], Value::Null);
}

#[test]
fn a_timeout_is_an_alarm_about_a_path() {
    let mut stats = stats();
    stats.read(&subflow(3));
    let timeout =
        Timeout { cookie: 7, at_ns: 1501 * SECOND, token: 0x1234, in_a_row: 1, rto_us: 412_000, padding: 0 };
    let (text, json) = told(path_stats::Event::Timeout(timeout), &stats);
    let expected = "03:16:41.000Z path timeout     0x00001234 10.2.0.2:40000 > 10.9.0.2:443 on lte0\n    \
        (Beta): no answer for 0.41 s\n";
    assert_eq!(text, expected);
    assert_eq!((&json["in_a_row"], &json["timer_seconds"]), (&json!(1), &json!(0.412)));
    assert_eq!((&json["uplink"], &json["local"]), (&json!("lte0"), &json!("10.2.0.2:40000")));
    let again = Timeout { in_a_row: 3, ..timeout };
    let (text, _) = told(path_stats::Event::Timeout(again), &stats);
    assert!(text.ends_with(": no answer for 0.41 s, 3 times in a row\n"), "{text}");
    // One that nothing is known of, though its neighbours are.
    for cookie in [6, 8] {
        let (text, json) = told(path_stats::Event::Timeout(Timeout { cookie, ..timeout }), &stats);
        assert_eq!(text, "03:16:41.000Z path timeout     0x00001234: no answer for 0.41 s\n");
        assert_eq!(json["uplink"], Value::Null);
    }
}

#[test]
fn what_has_no_uplink_is_under_other() {
    let (mut stats, mut sample) = (stats(), subflow(9));
    (sample.kept.adopted, sample.kept.way) = (1, Established::CapablePassive.index());
    stats.read(&sample);
    let (text, json) = told(path_stats::Event::Opened(sample), &stats);
    assert!(text.ends_with(" on\n    other: initial, opened by the peer, older than the daemon\n"), "{text}");
    assert_eq!((&json["adopted"], json.get("provider")), (&json!(true), None));
}

#[test]
fn what_is_about_no_path_is_not_told() {
    assert_eq!(PathEvent::new(&path_stats::Event::Awake, &stats(), wall), None);
}

#[test]
fn a_loss_and_what_is_newer_are_understood() {
    let read = |line: &str| serde_json::from_str::<PathEvent>(line).expect("is understood").text();
    let lost = read("{\"time\":1.0,\"event\":\"lost\"}");
    assert_eq!(lost, "00:00:01.000Z lost            some events: `mptcp-pm status` shows how things are now");
    assert_eq!(
        read("{\"event\":\"path-lame\",\"token\":1,\"x\":2}"),
        "00:00:00.000Z path lame        0x00000001"
    );
}
