//! Tests of the exposition: its lines, its labels, and that names, documents, dashboard and rules agree.
use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::view::figures::{Window, Windows};
use crate::view::paths::{ProviderFigures, UplinkFigures};

const DOCUMENTED: &str = include_str!("../../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../../packaging/grafana/mptcp-pm.json");
const RULES: &str = include_str!("../../../../packaging/prometheus/mptcp-pm.rules.yml");

/// Everything that can be known is.
fn full() -> Figures {
    let window = Window {
        seconds: 1.0,
        acknowledged_bytes_per_second: Some(1.5),
        received_bytes_per_second: Some(0.0),
        rtt_p50_seconds: Some(0.02),
        rtt_p95_seconds: Some(0.04),
        rtt_p99_seconds: Some(0.08),
    };
    let mut figures = serde_json::to_value(Figures::default()).expect("serializes");
    for metric in METRICS {
        figures[metric.name] = match metric.kind {
            Kind::Counter => 7.into(),
            Kind::Gauge if metric.unit == Unit::Count => 2.into(),
            Kind::Gauge => 0.25.into(),
        };
    }
    let windows = Windows { second: window, ten_seconds: window, minute: window, ten_minutes: window };
    Figures { windows, ..serde_json::from_value(figures).expect("are figures") }
}

fn uplink(name: &str, provider: Option<&str>, figures: Figures) -> UplinkFigures {
    let provider = provider.map(str::to_owned);
    UplinkFigures { name: name.into(), provider, figures, history: Vec::new() }
}

/// One of each thing.
fn exposition() -> Exposition {
    let subflow = SubflowFigures {
        uplink: Some("wlan0".into()),
        local: "192.0.2.7:40000".parse().expect("an address"),
        remote: "[2001:db8::9]:443".parse().expect("an address"),
        figures: full(),
    };
    let connection = ConnectionFigures {
        token: 0xab,
        remote: "203.0.113.9:443".parse().expect("an address"),
        figures: full(),
        subflows: vec![subflow],
    };
    Exposition {
        paths: Paths {
            uplinks: vec![
                uplink("wlan0", Some("Example \"Fibre\"\\\n"), full()),
                uplink("wwan0", None, Figures::default()),
            ],
            providers: vec![ProviderFigures { name: "Example \"Fibre\"\\\n".into(), figures: full() }],
            lost: Losses { closings: 3, ..Losses::default() },
        },
        connections: vec![connection],
    }
}

fn lines(exposition: Exposition) -> Vec<String> {
    text(exposition).expect("is written").lines().map(str::to_owned).collect()
}

/// The names of the families of an exposition, as queries have them.
fn exposed(exposition: Exposition) -> BTreeSet<String> {
    let lines = lines(exposition);
    let samples = lines.iter().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
}

#[test]
fn without_figures_there_are_losses_and_the_version() {
    let expected = format!(
        "# HELP mptcp_pm_lost_records Records that the programs in the kernel had to leave out: what they were about \
         is not in the figures.
# TYPE mptcp_pm_lost_records counter
mptcp_pm_lost_records_total{{record=\"subflow\"}} 0
mptcp_pm_lost_records_total{{record=\"opening\"}} 0
mptcp_pm_lost_records_total{{record=\"closing\"}} 0
mptcp_pm_lost_records_total{{record=\"alarm\"}} 0
# HELP mptcp_pm_build_info The version of the daemon, always 1.
# TYPE mptcp_pm_build_info gauge
mptcp_pm_build_info{{version=\"{}\"}} 1.0
# EOF
",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(text(Exposition::default()).expect("is written"), expected);
}

#[test]
fn a_family_has_its_help_its_type_its_unit_and_its_samples_in_one_piece() {
    let lines = lines(exposition());
    let of = |family: &str| -> Vec<&str> {
        let first = lines.iter().position(|line| line.starts_with(&format!("# HELP {family} ")));
        let rest = &lines[first.expect("is there")..];
        let next = rest[1..].iter().position(|line| line.starts_with("# HELP ")).expect("is not the last");
        rest[..=next].iter().map(String::as_str).collect()
    };
    assert_eq!(
        of("mptcp_pm_uplink_sent_bytes"),
        [
            "# HELP mptcp_pm_uplink_sent_bytes Payload bytes sent, retransmitted ones included.",
            "# TYPE mptcp_pm_uplink_sent_bytes counter",
            "# UNIT mptcp_pm_uplink_sent_bytes bytes",
            "mptcp_pm_uplink_sent_bytes_total{uplink=\"wlan0\",provider=\"Example \\\"Fibre\\\"\\\\\\n\"} 7",
            "mptcp_pm_uplink_sent_bytes_total{uplink=\"wwan0\"} 0",
        ]
    );
    assert_eq!(
        of("mptcp_pm_provider_subflows"),
        [
            "# HELP mptcp_pm_provider_subflows Subflows that live.",
            "# TYPE mptcp_pm_provider_subflows gauge",
            "mptcp_pm_provider_subflows{provider=\"Example \\\"Fibre\\\"\\\\\\n\"} 2.0",
        ]
    );
    let windows = of("mptcp_pm_uplink_acknowledged_bytes_per_second");
    assert_eq!(windows[1], "# TYPE mptcp_pm_uplink_acknowledged_bytes_per_second gauge");
    assert_eq!(windows[2], "# UNIT mptcp_pm_uplink_acknowledged_bytes_per_second bytes_per_second");
    assert!(windows[3].ends_with(",window=\"1s\"} 1.5") && windows[6].ends_with(",window=\"10m\"} 1.5"));
    assert_eq!(windows.len(), 7);
    let ends =
        "{connection=\"0x000000ab\",uplink=\"wlan0\",local=\"192.0.2.7:40000\",remote=\"[2001:db8::9]:443\"}";
    assert!(lines.contains(&format!("mptcp_pm_subflow_rtt_seconds{ends} 0.25")));
    let connection = "{connection=\"0x000000ab\",remote=\"203.0.113.9:443\"}";
    assert!(lines.contains(&format!("mptcp_pm_connection_opened_subflows_total{connection} 7")));
    assert!(lines.contains(&"mptcp_pm_lost_records_total{record=\"closing\"} 3".to_owned()));
    assert_eq!(lines.last().map(String::as_str), Some("# EOF"));
}

#[test]
fn what_is_not_known_or_no_number_has_no_sample() {
    let figures = Figures { rtt_seconds: Some(f64::NAN), ..Figures::default() };
    let uplinks = vec![uplink("wlan0", None, figures)];
    let paths = Paths { uplinks, ..Paths::default() };
    let names = exposed(Exposition { paths, ..Exposition::default() });
    assert!(names.contains("mptcp_pm_uplink_subflows"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("rtt")), "{names:?}");
}

#[test]
fn no_series_is_there_twice() {
    let lines = lines(exposition());
    let mut series: Vec<_> = lines.iter().filter_map(|line| line.rsplit_once(' ').map(|(s, _)| s)).collect();
    series.sort_unstable();
    let all = series.len();
    series.dedup();
    assert_eq!(series.len(), all);
}

#[test]
fn the_names_are_those_of_the_exposition() {
    assert_eq!(exposed(exposition()), names().into_iter().collect());
}

/// The words of a text that are names of ours.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with(PREFIX) && *word != PREFIX).map(str::to_owned).collect()
}

/// Every string of a JSON value under a key.
fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str));
            object.values().for_each(|value| strings(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

#[test]
fn dashboard_and_rules_use_names_that_are_exposed() {
    let known: BTreeSet<String> = names().into_iter().collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("is JSON");
    let mut queries = Vec::new();
    strings(&dashboard, "expr", &mut queries);
    strings(&dashboard, "query", &mut queries);
    assert!(queries.len() > 10, "{queries:?}");
    for used in [names_in(&queries.join("\n")), names_in(RULES)] {
        assert!(used.len() > 4, "{used:?}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "not exposed: {unknown:?}");
    }
}

#[test]
fn the_document_lists_each_metric_as_it_is() {
    let kind = |kind| if kind == Kind::Counter { "counter" } else { "gauge" };
    let figures = METRICS.iter().map(|metric| {
        let total = if metric.kind == Kind::Counter { "_total" } else { "" };
        format!("| `{}{total}` | {} | {} |", metric.name, kind(metric.kind), metric.help)
    });
    let windows = WINDOW_METRICS.iter().map(|metric| format!("| `{}` | {} |", metric.name, metric.help));
    let expected: Vec<String> = figures.chain(windows).collect();
    let (_, tables) = DOCUMENTED.split_once("## Uplinks and providers").expect("has this section");
    let (tables, _) = tables.split_once("\n## ").expect("has another one");
    let listed: Vec<&str> = tables.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(listed, expected, "docs/metrics.md should have these lines:\n{}", expected.join("\n"));
    let known: BTreeSet<String> = names().into_iter().collect();
    let full = names_in(DOCUMENTED).into_iter().filter(|name| !name.ends_with('_'));
    let unknown: Vec<_> = full.filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "not exposed: {unknown:?}");
}
