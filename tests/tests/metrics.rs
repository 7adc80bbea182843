//! The metrics endpoint: scraped by the real Prometheus, and as configured, also by a new configuration.
#[path = "metrics/shown.rs"]
mod shown;

use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, str};

use anyhow::{Context, Result, ensure};
use mptcp_pm::view::openmetrics;
use serde_json::Value;
use shown::Shown;
use tests::daemon::{Daemon, await_that};
use tests::prometheus::{Prometheus, promtool};
use tests::running::Running;
use tests::{Family, Host, Lab, Scenario, http};

const TARGET: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9101);
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus/mptcp-pm.rules.yml");
const RULES_TEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/metrics/rules.test.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/mptcp-pm.json");
const CONTENT_TYPE: &str = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";

fn lab() -> Result<Lab> {
    Lab::start(&Scenario::load("two-providers")?, Family::V4)
}

fn on_loopback() -> String {
    format!("[metrics]\nlisten = \"{TARGET}\"\n")
}

fn on_unix(path: &Path) -> String {
    format!("[metrics]\nlisten = \"unix:{}\"\n", path.display())
}

fn socket(host: &Host) -> PathBuf {
    host.scratch().join("metrics.sock")
}

fn scrape_unix(path: &Path) -> Result<http::Answer> {
    let stream = UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))?;
    stream.set_read_timeout(Some(tests::daemon::PATIENCE))?;
    http::get(stream, "/metrics")
}

/// What listens in a host by TCP.
fn listeners(host: &Host) -> Result<String> {
    let output = host.command("ss").args(["--tcp", "--listening", "--numeric", "--no-header"]).output()?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn reload(daemon: &Daemon, config: &str) -> Result<(bool, String)> {
    daemon.write_config(config)?;
    let output = daemon.command(&["reload"])?.output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The values of a label in series, sorted.
fn values<'a>(series: &'a [Value], label: &str) -> Vec<&'a str> {
    let mut values: Vec<_> = series.iter().filter_map(|one| one["metric"][label].as_str()).collect();
    values.sort_unstable();
    values
}

fn value(series: &[Value]) -> Option<&str> {
    series.first()?["value"][1].as_str()
}

#[test]
fn prometheus_scrapes_the_daemon() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let daemon = Daemon::start(host, &on_loopback())?;
    let prometheus = Prometheus::start(host, TARGET, RULES)?;
    prometheus.await_series("up{job=\"mptcp-pm\"} == 1")?;
    let version = prometheus.await_series("mptcp_pm_build_info")?;
    let said = daemon.status()?;
    assert_eq!(values(&version, "version"), [said["version"].as_str().unwrap_or_default()]);
    assert_eq!(values(&version, "instance"), [TARGET.to_string()]);
    let lost = prometheus.await_series("mptcp_pm_lost_records_total")?;
    assert_eq!(values(&lost, "record"), ["alarm", "closing", "opening", "subflow"]);
    prometheus.await_answer("rules", |data| {
        let rules = data["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.len() == 5 && rules.iter().all(|rule| rule["health"] == "ok"))
    })?;
    daemon.stop()?;
    prometheus.await_series("up{job=\"mptcp-pm\"} == 0").map(drop)
}

/// Two paths of one connection, with the names that the configuration gives to their providers.
#[test]
fn prometheus_sees_what_a_connection_does() -> Result<()> {
    let provider = |name: &str, provider: &str| {
        format!("[[uplink]]\nmatch = {{ name = \"{name}\" }}\nprovider = \"{provider}\"\n")
    };
    let config = format!(
        "profile = \"heavy\"\n{}subflows = true\n{}{}",
        on_loopback(),
        provider("wifi0", "Fibre"),
        provider("lte0", "Mobile")
    );
    let run = Running::start("two-providers", Family::V4, &config)?;
    let _talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    let prometheus = Prometheus::start(run.client(), TARGET, RULES)?;
    for (uplink, provider) in [("wifi0", "Fibre"), ("lte0", "Mobile")] {
        let labels = format!("uplink=\"{uplink}\",provider=\"{provider}\"");
        prometheus.await_series(&format!("mptcp_pm_uplink_subflows{{{labels}}} == 1"))?;
        prometheus.await_series(&format!("mptcp_pm_provider_subflows{{provider=\"{provider}\"}} == 1"))?;
        prometheus.await_series(&format!("mptcp_pm_uplink_rtt_seconds{{{labels}}} > 0.01"))?;
        prometheus
            .await_series(&format!("mptcp_pm_subflow_rtt_min_seconds{{uplink=\"{uplink}\"}} > 0.01"))?;
    }
    prometheus.await_series("rate(mptcp_pm_uplink_acknowledged_bytes_total{uplink=\"wifi0\"}[1m]) > 0")?;
    prometheus
        .await_series("mptcp_pm_uplink_received_bytes_per_second{uplink=\"wifi0\",window=\"1s\"} > 0")?;
    let connection = prometheus.await_series("mptcp_pm_connection_subflows == 2")?;
    let remote = format!("10.9.0.2:{}", run.server.port());
    assert_eq!(values(&connection, "remote"), [remote]);
    Ok(())
}

#[test]
fn prometheus_takes_in_every_metric_and_answers_the_dashboards_queries() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let _shown = Shown::start(host, TARGET)?;
    let prometheus = Prometheus::start(host, TARGET, RULES)?;
    prometheus.await_series("up == 1")?;
    let all = prometheus.await_answer("label/__name__/values", |names| {
        names.as_array().is_some_and(|names| names.iter().any(|name| name == "mptcp_pm_build_info"))
    })?;
    for name in openmetrics::names() {
        assert!(all.as_array().is_some_and(|all| all.contains(&name.as_str().into())), "{name} in {all}");
    }
    let sent = prometheus.await_series("mptcp_pm_uplink_sent_bytes_total{uplink=\"wlan0\"}")?;
    assert_eq!((values(&sent, "provider"), value(&sent)), (vec![shown::PROVIDER], Some("1234567890123")));
    let alone = prometheus.await_series("mptcp_pm_uplink_subflows{provider=\"\"}")?;
    assert_eq!(values(&alone, "uplink"), ["wwan0"]);
    let rtt = prometheus.await_series("mptcp_pm_provider_rtt_p95_seconds")?;
    assert_eq!((values(&rtt, "window"), value(&rtt)), (vec!["10m", "10s", "1m", "1s"], Some("0.032768")));
    let subflow = prometheus.await_series("mptcp_pm_subflow_subflows")?;
    assert_eq!(values(&subflow, "connection"), ["0x0000abcd"]);
    assert_eq!(values(&subflow, "remote"), ["[2001:db8::9]:443"]);
    let described = |name: &str| {
        prometheus.await_answer(&format!("metadata?metric={name}"), |data| data[name].is_array())
    };
    let bytes = &described("mptcp_pm_uplink_sent_bytes")?["mptcp_pm_uplink_sent_bytes"][0];
    assert_eq!((&bytes["type"], &bytes["unit"]), (&"counter".into(), &"bytes".into()));
    let help = "Payload bytes sent, retransmitted ones included.";
    assert_eq!(bytes["help"], help);
    let queries = queries(&serde_json::from_str(DASHBOARD)?);
    assert!(queries.len() > 10, "{queries:?}");
    for query in queries {
        prometheus.await_series(&query)?;
    }
    Ok(())
}

/// The queries of a dashboard, with everything chosen and the shortest interval.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let choose = |query: &str| {
        let query = query.replace("$__rate_interval", "1m");
        ["$instance", "$uplink", "$provider"].iter().fold(query, |query, name| query.replace(name, ".*"))
    };
    targets.filter_map(|target| target["expr"].as_str()).map(choose).collect()
}

#[test]
fn promtool_finds_the_rules_right_and_they_fire_when_they_should() -> Result<()> {
    let lab = lab()?;
    for words in [["check", "rules", RULES], ["test", "rules", RULES_TEST]] {
        let output = promtool(lab.host("client"), &words, "")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

/// It reads the older text format, in which the samples of a counter have the name of its family: those of OpenMetrics,
/// which end in `_total`, have no help for it.
#[test]
fn promtool_only_misses_the_help_of_counters() -> Result<()> {
    let lab = lab()?;
    let text = openmetrics::text(shown::exposition())?;
    let output = promtool(lab.host("client"), &["check", "metrics"], &text)?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    let mut counters: Vec<String> =
        openmetrics::names().into_iter().filter(|name| name.ends_with("_total")).collect();
    counters.sort_unstable();
    let expected: Vec<String> = counters.iter().map(|name| format!("{name} no help text")).collect();
    let mut found: Vec<&str> = said.lines().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn a_unix_socket_serves_those_whom_its_file_lets_in() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let daemon = Daemon::start(host, &on_unix(&socket(host)))?;
    let answer = scrape_unix(&socket(host))?;
    assert_eq!(answer.status(), Some(200), "{answer:?}");
    assert!(answer.head.contains(CONTENT_TYPE.trim_end()), "{answer:?}");
    let printed = daemon.command(&["metrics"])?.output()?;
    assert_eq!(answer.body, str::from_utf8(&printed.stdout)?);
    assert!(answer.body.ends_with("\n# EOF\n"), "{answer:?}");
    assert_eq!(listeners(host)?, "");
    daemon.stop()?;
    assert!(!socket(host).exists());
    Ok(())
}

#[test]
fn without_the_table_nothing_listens_and_the_command_prints_all_the_same() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let daemon = Daemon::start(host, "")?;
    assert_eq!(listeners(host)?, "");
    let printed = daemon.command(&["metrics"])?.output()?;
    assert!(str::from_utf8(&printed.stdout)?.ends_with("\n# EOF\n"), "{printed:?}");
    daemon.stop()
}

#[test]
fn a_new_configuration_moves_the_endpoint() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let daemon = Daemon::start(host, &on_unix(&socket(host)))?;
    assert_eq!(reload(&daemon, &on_loopback())?, (true, String::new()));
    assert_eq!(http::get_in(host, TARGET, "/metrics")?.status(), Some(200));
    assert_eq!(http::get_in(host, TARGET, "/")?.status(), Some(404));
    assert!(!socket(host).exists());
    assert_eq!(reload(&daemon, &on_unix(&socket(host)))?, (true, String::new()));
    assert_eq!(scrape_unix(&socket(host))?.status(), Some(200));
    await_that("nobody on loopback", || listeners(host), String::is_empty)?;
    assert_eq!(reload(&daemon, "")?, (true, String::new()));
    assert!(!socket(host).exists());
    daemon.stop()
}

#[test]
fn an_endpoint_that_cannot_move_stays_and_so_does_the_configuration() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("client");
    let daemon = Daemon::start(host, &on_unix(&socket(host)))?;
    let profile = |status: &Value| status["profile"] == "light";
    assert!(profile(&daemon.status()?));
    let _other = occupy(host)?;
    let (done, said) = reload(&daemon, &format!("profile = \"heavy\"\n{}", on_loopback()))?;
    let expected = format!("cannot open the metrics endpoint at {TARGET}: Address already in use");
    assert!(!done && said.contains(&expected) && said.contains("the configuration in force stays"), "{said}");
    assert_eq!(scrape_unix(&socket(host))?.status(), Some(200));
    assert!(profile(&daemon.status()?));
    assert!(fs::symlink_metadata(socket(host))?.file_type().is_socket());
    daemon.stop()?;
    let (code, said) = Daemon::refusal(host, &on_loopback())?;
    assert!(code == Some(1) && said.contains(&expected), "{said}");
    Ok(())
}

/// Takes the endpoint's address for as long as it is held.
fn occupy(host: &Arc<Host>) -> Result<std::net::TcpListener> {
    host.run(|| std::net::TcpListener::bind(TARGET)).context("bind")
}
