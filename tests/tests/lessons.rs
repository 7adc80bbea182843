//! A long transfer finds out that an access adds next to nothing, and the next one with the same host does without it; after
//! some hosts, one with another host does, too.
use anyhow::Result;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use tests::daemon::{Daemon, await_that};
use tests::pair::{Begin, Pair, Path};
use tests::traffic::{self, Job, Options, Protocol, Server};
use tests::{Family, Host, Lab, kernel};

/// The second one delivers a fortieth, and makes the end wait for its queue.
const PAIR: Pair = Pair([Path::new(20.0, 10.0), Path::new(0.5, 100.0)]);

/// More than a second's worth of the faster path, much less than after how long the slower one pays.
const SHORT: u64 = 4_000_000;

/// What a path that only stands by carries meanwhile: the handshake and questions whether it is there.
const LITTLE: u64 = 20_000;

struct Setting {
    lab: Lab,
    daemon: Daemon,
    server: Server,
    job: Job,
}

impl Setting {
    fn start(job: Job) -> Result<Self> {
        let lab = Lab::start(&PAIR.scenario(Begin::First)?, Family::V4)?;
        let config = "manager = \"daemon\"\nservice = \"aggregate\"\n";
        let daemon = Daemon::start_in_charge(lab.host("client"), config, &["env"])?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        Ok(Self { lab, daemon, server, job })
    }

    fn client(&self) -> &Arc<Host> {
        self.lab.host("client")
    }

    /// Bytes that the slow access has carried.
    fn carried(&self) -> u64 {
        let counters = self.lab.link("lte").counters();
        if self.job == Job::BulkUp { counters.up.received.bytes } else { counters.down.received.bytes }
    }

    /// A transfer with one of the server's addresses that tries the slow access, until it is left out.
    fn learn(&self, to: Option<IpAddr>) -> Result<()> {
        let begun = self.carried();
        let long =
            traffic::start(self.client(), &self.server, self.job, Options { to, ..Options::bytes(1 << 30) })?;
        let left_out = |status: &Value| {
            let connections = status["connections"]["listed"].as_array().into_iter().flatten();
            let mut subflows = connections.filter_map(|known| known["subflows"].as_array()).flatten();
            subflows.any(|one| one["reason"] == json!("it would hold up the others more than it adds"))
        };
        self.daemon.await_that("the slow access left out", || self.daemon.status(), left_out)?;
        assert!(self.carried() - begun > LITTLE, "the transfer has not tried it");
        long.abort();
        await_that("no connection", || kernel::subflows(self.client()), Vec::is_empty).map(drop)
    }

    /// What the slow access carries of a transfer that is short, bytes.
    fn further(&self, to: Option<IpAddr>) -> Result<u64> {
        let begun = self.carried();
        let options = Options { hold: true, to, ..Options::bytes(SHORT) };
        let transfer = traffic::start(self.client(), &self.server, self.job, options)?;
        await_that("both paths", || kernel::subflows(self.client()), |seen| seen.len() == 2)?;
        transfer.go()?;
        assert!(transfer.join()?.intact());
        Ok(self.carried() - begun)
    }
}

#[test]
fn what_a_long_transfer_has_shown_of_an_access_the_next_one_knows() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        let setting = Setting::start(job)?;
        setting.learn(None)?;
        let further = setting.further(None)?;
        assert!(further < LITTLE, "{further} bytes over the slow access of the second transfer");
        setting.daemon.stop()?;
    }
    Ok(())
}

#[test]
fn what_three_hosts_have_shown_of_an_access_is_expected_of_a_fourth() -> Result<()> {
    let setting = Setting::start(Job::BulkDown)?;
    let hosts: [IpAddr; 4] = [11, 12, 13, 14].map(|host| [10, 9, 0, host].into());
    for host in hosts {
        setting.lab.host("server").ip(&format!("address add {host}/24 dev eth0"))?;
    }
    let [known @ .., unknown] = hosts;
    for host in known {
        setting.learn(Some(host))?;
    }
    let further = setting.further(Some(unknown))?;
    assert!(further < LITTLE, "{further} bytes over the slow access of the transfer with the fourth");
    setting.daemon.stop()
}
