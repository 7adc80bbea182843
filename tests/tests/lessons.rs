//! What connections have shown of an access the next ones know: that it adds next to nothing, with the same host or, after
//! some hosts, with another one; and that it is the quicker one.
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
    fn start(begin: Begin, job: Job) -> Result<Self> {
        let lab = Lab::start(&PAIR.scenario(begin)?, Family::V4)?;
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

    /// How many priorities a connection is told until the first path carries and the second one stands by; then it moves
    /// data for a second and ends.
    fn told(&self) -> Result<u64> {
        let told = || kernel::counter(self.client(), "MPPrioTx");
        let before = told()?;
        // One of its own, which keeps no connection.
        let server = Server::start(self.lab.host("server"), Protocol::Mptcp)?;
        let options = Options { hold: true, ..Options::bytes(SHORT) };
        let transfer = traffic::start(self.client(), &server, self.job, options)?;
        // In order of their addresses.
        let roles = |seen: &Vec<kernel::Subflow>| seen.iter().map(|one| one.backup).eq([false, true]);
        await_that("the first path in use", || kernel::subflows(self.client()), roles)?;
        let told = told()? - before;
        transfer.go()?;
        assert!(transfer.join()?.intact());
        drop(server);
        await_that("no connection", || kernel::subflows(self.client()), Vec::is_empty)?;
        Ok(told)
    }
}

/// It need not stand by until that is measured, which would take it a round trip more.
#[test]
fn what_is_known_to_be_the_quicker_access_carries_from_its_beginning() -> Result<()> {
    let setting = Setting::start(Begin::Second, Job::BulkDown)?;
    assert_eq!(setting.told()?, 2, "the one to carry, the other to stand by");
    assert_eq!(setting.told()?, 1, "the other to stand by");
    setting.daemon.stop()
}

#[test]
fn what_a_long_transfer_has_shown_of_an_access_the_next_one_knows() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        let setting = Setting::start(Begin::First, job)?;
        setting.learn(None)?;
        let further = setting.further(None)?;
        assert!(further < LITTLE, "{further} bytes over the slow access of the second transfer");
        setting.daemon.stop()?;
    }
    Ok(())
}

#[test]
fn what_three_hosts_have_shown_of_an_access_is_expected_of_a_fourth() -> Result<()> {
    let setting = Setting::start(Begin::First, Job::BulkDown)?;
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
