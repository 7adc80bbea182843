//! Statuses to be drawn: the documented example, with two used uplinks, their figures, and more connections.
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::view::connections::{Connection, Opener, Subflow};
use crate::view::figures::{Figures, Window, Windows};
use crate::view::paths::{Moment, Paths, UplinkFigures};
use crate::view::status::Status;

const DOCUMENTED: &str = include_str!("../../../../../docs/json.md");

fn example() -> Value {
    let (_, example) = DOCUMENTED.split_once("```json").expect("docs/json.md has an example");
    serde_json::from_str(example.split("```").next().expect("it ends")).expect("is JSON")
}

/// Wi-Fi and a modem that carry two connections: the first faster, the second of the longer way.
pub fn status() -> Status {
    let mut value = example();
    value["profile"] = json!("heavy");
    value["findings"] = json!([]);
    let families = value["uplinks"][0]["families"].clone();
    let modem = &mut value["uplinks"][1];
    modem["families"] = families;
    modem["unused"] = json!(null);
    let mut status: Status = serde_json::from_value(value).expect("is a status");
    status.report.uplinks[1].families[0].metric = 700;
    let example = status.connections.listed.remove(0);
    status.connections.listed = vec![
        connection(&example, 1, "203.0.113.9:443", [1.5e6, 40e3], Some(0.0215), 34_567_890),
        connection(&example, 2, "[2001:db8:9::2]:40000", [20e3, 1e3], Some(0.085), 1_234),
    ];
    status.connections.total = 2;
    let wifi = uplink("wlan0", None, [1.2e6, 30e3], [0.0215, 0.0198], 0..60);
    let modem = uplink("wwan0", Some("Example Mobile"), [320e3, 11e3], [0.085, 0.08], 0..120);
    status.paths = Paths { uplinks: vec![wifi, modem], ..Paths::default() };
    status
}

/// The same with this many connections, each slower and farther than the one before, and with more bytes.
pub fn many(count: u32) -> Status {
    let mut status = status();
    let example = status.connections.listed.remove(0);
    let connection = |number: u32| {
        let size = f64::from(number);
        let peer = format!("203.0.113.{number}:443");
        connection(&example, number, &peer, [1e6 / size, 1e3], Some(0.01 * size), u64::from(number) * 1000)
    };
    status.connections.listed = (1..=count).map(connection).collect();
    status.connections.total = status.connections.listed.len();
    status
}

fn figures([out, input]: [f64; 2], rtt: Option<f64>) -> Figures {
    let window = |factor: f64| Window {
        seconds: 1.0,
        acknowledged_bytes_per_second: Some(out * factor),
        received_bytes_per_second: Some(input * factor),
        rtt_p50_seconds: rtt,
        rtt_p95_seconds: rtt.map(|rtt| rtt * 2.0),
        rtt_p99_seconds: None,
    };
    let windows = Windows {
        second: window(2.0),
        ten_seconds: window(1.0),
        minute: window(0.5),
        ten_minutes: window(0.1),
    };
    Figures {
        sent_bytes: 1_000_000,
        retransmitted_bytes: 1_200,
        rtt_seconds: rtt,
        subflows: 2,
        windows,
        ..Figures::default()
    }
}

fn uplink(
    name: &str,
    provider: Option<&str>,
    rates: [f64; 2],
    [rtt, least]: [f64; 2],
    seconds: std::ops::Range<u32>,
) -> UplinkFigures {
    let figures = Figures { rtt_min_seconds: Some(least), ..figures(rates, Some(rtt)) };
    let moment = |second: u32| Moment {
        acknowledged_bytes_per_second: rates[0] * f64::from(second % 8) / 7.0,
        received_bytes_per_second: 0.0,
        rtt_seconds: (!second.is_multiple_of(8)).then_some(rtt),
    };
    UplinkFigures {
        name: name.into(),
        provider: provider.map(str::to_owned),
        figures,
        history: seconds.map(moment).collect(),
    }
}

fn connection(
    example: &Connection,
    token: u32,
    remote: &str,
    rates: [f64; 2],
    rtt: Option<f64>,
    bytes: u64,
) -> Connection {
    let remote: SocketAddr = remote.parse().expect("an address");
    let first = &example.subflows[0];
    let initial = Subflow { remote, figures: Some(figures(rates, rtt)), ..first.clone() };
    let join = Subflow {
        remote,
        local: "198.51.100.7:50000".parse().expect("an address"),
        interface: Some("wwan0".into()),
        backup_by_us: true,
        figures: None,
        rtt_ms: None,
        ..first.clone()
    };
    Connection {
        token,
        remote,
        opened_by: Some(if token.is_multiple_of(2) { Opener::Peer } else { Opener::Us }),
        bytes_received: Some(bytes),
        subflows: vec![initial, join],
        figures: Some(figures(rates, rtt)),
        ..example.clone()
    }
}
