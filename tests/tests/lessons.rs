//! A long transfer finds out that an access adds next to nothing, and the next one with the same host does without it.
use anyhow::Result;
use serde_json::{Value, json};
use tests::daemon::{Daemon, await_that};
use tests::pair::{Begin, Pair, Path};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Family, Lab, kernel};

/// The second one delivers a fortieth, and makes the end wait for its queue.
const PAIR: Pair = Pair([Path::new(20.0, 10.0), Path::new(0.5, 100.0)]);

/// More than a second's worth of the faster path, much less than after how long the slower one pays.
const SHORT: u64 = 4_000_000;

/// What a path that only stands by carries meanwhile: the handshake and questions whether it is there.
const LITTLE: u64 = 20_000;

#[test]
fn what_a_long_transfer_has_shown_of_an_access_the_next_one_knows() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        let lab = Lab::start(&PAIR.scenario(Begin::First)?, Family::V4)?;
        let client = lab.host("client");
        let config = "manager = \"daemon\"\nservice = \"aggregate\"\n";
        let daemon = Daemon::start_in_charge(client, config, &["env"])?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let carried = || {
            let counters = lab.link("lte").counters();
            if job == Job::BulkUp { counters.up.received.bytes } else { counters.down.received.bytes }
        };
        let begun = carried();
        let long = traffic::start(client, &server, job, Options::bytes(1 << 30))?;
        let left_out = |status: &Value| {
            let connections = status["connections"]["listed"].as_array().into_iter().flatten();
            let mut subflows = connections.filter_map(|known| known["subflows"].as_array()).flatten();
            subflows.any(|one| one["reason"] == json!("it would hold up the others more than it adds"))
        };
        daemon.await_that("the slow access left out", || daemon.status(), left_out)?;
        assert!(carried() - begun > LITTLE, "the first transfer has not tried it");
        long.abort();
        await_that("no connection", || kernel::subflows(client), Vec::is_empty)?;
        let begun = carried();
        let transfer = traffic::start(client, &server, job, Options { hold: true, ..Options::bytes(SHORT) })?;
        await_that("both paths", || kernel::subflows(client), |seen| seen.len() == 2)?;
        transfer.go()?;
        assert!(transfer.join()?.intact());
        let further = carried() - begun;
        assert!(further < LITTLE, "{further} bytes over the slow access of the second transfer");
        daemon.stop()?;
    }
    Ok(())
}
