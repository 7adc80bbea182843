//! What the daemon says of each path: attributed to its uplink and provider, counted once, live and after the end.
use anyhow::Result;
use serde_json::Value;
use tests::running::{NAMED_PROVIDERS, Running};
use tests::traffic::{Job, Options, start};
use tests::{Family, require};

#[test]
fn each_uplink_and_provider_has_what_its_subflows_carried() -> Result<()> {
    require()?;
    let running = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    running.await_endpoints(&["10.1.0.2 subflow dev wifi0", "10.2.0.2 subflow dev lte0"])?;
    const SIZE: u64 = 20 << 20;
    let transfer = start(running.client(), &running.server, Job::BulkUp, Options::bytes(SIZE))?;
    let both = running.daemon.await_that(
        "rates of both uplinks",
        || running.daemon.status(),
        |status| {
            ["wifi0", "lte0"].iter().all(|name| {
                figure(status, "uplinks", name, "subflows") == 1.0
                    && rate(status, name).is_some_and(|rate| rate > 0.0)
            })
        },
    )?;
    let connection = &both["connections"]["listed"][0];
    assert_eq!(connection["subflows"].as_array().map(Vec::len), Some(2));
    assert!(connection["figures"]["sent_bytes"].as_u64() > Some(0), "{connection:#}");
    assert!(connection["subflows"][1]["figures"]["rtt_seconds"].as_f64() > Some(0.0), "{connection:#}");
    assert!(transfer.join()?.intact());
    let Running { daemon, server, lab: _lab } = running;
    // Its end of the connection is open as long as it is there.
    drop(server);
    let done = daemon.await_that(
        "both subflows closed",
        || daemon.status(),
        |status| {
            ["wifi0", "lte0"].iter().all(|name| figure(status, "uplinks", name, "closed_subflows") == 1.0)
        },
    )?;
    let sum = |list: &str, names: [&str; 2], metric: &str| -> f64 {
        names.iter().map(|name| figure(&done, list, name, metric)).sum()
    };
    for (list, names) in [("uplinks", ["wifi0", "lte0"]), ("providers", ["Alpha", "Beta"])] {
        assert_eq!(sum(list, names, "subflows"), 0.0);
        assert_eq!(sum(list, names, "opened_subflows"), 2.0);
        // MPTCP sends some data over both paths, when one of them seems late.
        let acknowledged = sum(list, names, "acknowledged_bytes");
        assert!(acknowledged >= SIZE as f64 && acknowledged < 1.2 * SIZE as f64, "{list}: {acknowledged}");
    }
    assert_eq!(
        done["paths"]["lost"],
        serde_json::json!({"subflows": 0, "openings": 0, "closings": 0, "alarms": 0})
    );
    daemon.stop()
}

#[test]
fn a_connection_that_is_older_than_the_daemon_is_measured() -> Result<()> {
    require()?;
    let running = Running::start("two-providers", Family::V4, NAMED_PROVIDERS)?;
    let talk = running.talk()?;
    let Running { daemon, server, lab } = running;
    daemon.kill()?;
    let running =
        Running { daemon: tests::daemon::Daemon::start(lab.host("client"), NAMED_PROVIDERS)?, server, lab };
    running.daemon.await_that(
        "figures of the older connection",
        || running.daemon.status(),
        |status| {
            let figures = &status["connections"]["listed"][0]["figures"];
            figures["rtt_seconds"].as_f64() > Some(0.0)
                && figures["windows"]["second"]["rtt_p50_seconds"].as_f64() > Some(0.0)
        },
    )?;
    drop(talk);
    running.daemon.stop()
}

fn figure(status: &Value, list: &str, name: &str, metric: &str) -> f64 {
    named(status, list, name).and_then(|entry| entry["figures"][metric].as_f64()).unwrap_or(-1.0)
}

fn rate(status: &Value, uplink: &str) -> Option<f64> {
    named(status, "uplinks", uplink)?["figures"]["windows"]["second"]["acknowledged_bytes_per_second"]
        .as_f64()
}

fn named<'a>(status: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    status["paths"][list].as_array()?.iter().find(|entry| entry["name"] == name)
}
