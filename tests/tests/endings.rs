//! Subflows that die, close and are replaced: their last figures are told once, and together they are the
//! application's bytes.

mod common;

use anyhow::{Context, Result, ensure};
use common::TIMEOUT;
use mptcp_common::path_stats::Sample;
use std::net::{IpAddr, Ipv4Addr};
use tests::daemon::{Daemon, await_that};
use tests::kernel;
use tests::observer::{Observer, addresses};
use tests::traffic::{self, Job, Options, Protocol, Report, Server, Transfer};
use tests::{Family, Lab, Outage, Scenario};

/// `TCP_FIN_WAIT1` of include/net/tcp_states.h.
const FIN_WAIT1: u8 = 4;
const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const LTE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2));

#[test]
fn what_ends_well_sums_up_to_the_byte() -> Result<()> {
    for job in [Job::BulkUp, Job::BulkDown] {
        let mut watched = Watched::start(job, 3_000_000)?;
        watched.await_paths(&[WIFI, LTE])?;
        let end = watched.end(2)?;
        ensure!(end.reinjected == 0, "nothing was lost, and yet {} segments were reinjected", end.reinjected);
        end.check_exact()?;
    }
    Ok(())
}

#[test]
fn a_path_that_dies_raises_alarms_and_is_told_of_once() -> Result<()> {
    let (mut watched, dying) = Watched::dying("lte", LTE)?;
    let client = &mut watched.ends[0];
    client.await_that("the end of the dead path", |client| client.closed().len() == 1)?;
    let dead = client.closed()[0];
    ensure!(dead.kept.cookie == dying.kept.cookie && dead.kept.timeouts >= 3, "{dead:?}");
    ensure!(dead.live.bytes_sent > dead.live.bytes_acked, "something was on its way: {dead:?}");
    ensure!(dead.live.bytes_acked >= dying.live.bytes_acked, "{dying:?}, then {dead:?}");
    watched.end(2)?.check_covered()
}

#[test]
fn an_initial_path_that_dies_is_told_of_with_its_connection() -> Result<()> {
    let (watched, dying) = Watched::dying("wifi", WIFI)?;
    // The kernel keeps a connection's first socket to the connection's end (`__mptcp_close_ssk`, net/mptcp/protocol.c).
    let client = &watched.ends[0];
    let left = || Ok(client.living()?.iter().map(|sample| sample.live.state).collect::<Vec<_>>());
    await_that("a path that is being closed", left, |states| states.contains(&FIN_WAIT1))?;
    let end = watched.end(2)?;
    let dead = end.sides[0].iter().find(|last| last.kept.cookie == dying.kept.cookie);
    let dead = dead.context("the dead path is not told of")?;
    ensure!(dead.kept.timeouts >= 3 && dead.live.bytes_sent > dead.live.bytes_acked, "{dead:?}");
    end.check_covered()
}

#[test]
fn a_path_that_is_closed_is_told_of_while_the_others_go_on() -> Result<()> {
    let mut watched = Watched::start(Job::BulkDown, 8_000_000)?;
    watched.await_paths(&[WIFI, LTE])?;
    watched.transfer.wait_for(1_000_000, TIMEOUT)?;
    watched.lab.link("lte").outage(Outage::Down)?;
    let [client, server] = &mut watched.ends;
    for end in [client, server] {
        end.await_that("the end of the path", |end| !end.closed().is_empty())?;
        let closed = end.closed();
        ensure!(closed.len() == 1 && addresses(&closed[0]).contains(&LTE), "{closed:?}");
    }
    watched.end(2)?.check_covered()
}

#[test]
fn a_path_that_is_replaced_has_figures_of_its_own() -> Result<()> {
    let mut watched = Watched::start(Job::BulkUp, 12_000_000)?;
    watched.await_paths(&[WIFI, LTE])?;
    watched.transfer.wait_for(1_500_000, TIMEOUT)?;
    let client = watched.lab.host("client").clone();
    client.ip("address add 10.2.0.77/24 dev lte0")?;
    client.ip("address del 10.2.0.2/24 dev lte0")?;
    client.ip("address replace 10.2.0.77/24 dev lte0")?;
    client.ip("route replace default via 10.2.0.1 dev lte0 proto dhcp metric 700")?;
    let new = IpAddr::from([10, 2, 0, 77]);
    watched.await_paths(&[WIFI, LTE, new])?;
    let end = watched.end(3)?;
    let of = |address| end.sides[0].iter().find(|last| addresses(last)[0] == address);
    let (old, new) = (of(LTE).context("the old path")?, of(new).context("the new path")?);
    ensure!(old.kept.cookie != new.kept.cookie && old.kept.token == new.kept.token);
    ensure!(old.live.bytes_acked > 0 && old.kept.since_ns < new.kept.since_ns);
    end.check_covered()
}

/// A transfer over two providers with the daemon at the client and the programs at both ends.
struct Watched {
    // The order is that of Drop.
    ends: [Observer; 2],
    _daemon: Daemon,
    transfer: Transfer,
    server: Server,
    lab: Lab,
}

/// All that was told of it.
struct End {
    report: Report,
    /// The last figures of the client's subflows, and of the server's.
    sides: [Vec<Sample>; 2],
    /// Segments that were sent once more over another path, by either side.
    reinjected: u64,
}

impl Watched {
    fn start(job: Job, bytes: u64) -> Result<Self> {
        let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
        let client = lab.host("client");
        for host in ["client", "server"] {
            // A subflow that has left its connection lives on as long as the kernel tries to send what it still has:
            // nearly two minutes, unless told to give up soon.
            lab.host(host).set_sysctl("net.ipv4.tcp_orphan_retries", "1")?;
        }
        // Or an uplink that falls silent would be left before the kernel's own alarms.
        lab.host("server").set_sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
        let ends = [Observer::attach(client)?, Observer::attach(lab.host("server"))?];
        let daemon = Daemon::start(client, "profile = \"heavy\"\n")?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let transfer = traffic::start(client, &server, job, Options::bytes(bytes))?;
        Ok(Self { ends, _daemon: daemon, transfer, server, lab })
    }

    /// One of the two paths falls silent while data goes up; once there are alarms, its interface loses its carrier.
    /// Also returns its figures from before.
    fn dying(link: &str, address: IpAddr) -> Result<(Self, Sample)> {
        let mut watched = Self::start(Job::BulkUp, 12_000_000)?;
        watched.await_paths(&[WIFI, LTE])?;
        watched.transfer.wait_for(2_000_000, TIMEOUT)?;
        let dying = watched.living(address)?;
        watched.lab.link(link).outage(Outage::Silent)?;
        let client = &mut watched.ends[0];
        let alarms = |client: &mut Observer| {
            let all = client.timeouts().into_iter();
            all.filter(|alarm| alarm.cookie == dying.kept.cookie).collect::<Vec<_>>()
        };
        client.await_that("three alarms of the dying path", |client| alarms(client).len() >= 3)?;
        let told = alarms(client);
        let in_a_row: Vec<u32> = told.iter().map(|alarm| alarm.in_a_row).collect();
        ensure!(in_a_row == (1..=told.len() as u32).collect::<Vec<_>>(), "{told:?}");
        ensure!(told.iter().all(|alarm| alarm.token == dying.kept.token), "{told:?}");
        ensure!(told.windows(2).all(|pair| pair[0].rto_us < pair[1].rto_us), "it backs off: {told:?}");
        watched.lab.link(link).outage(Outage::Down)?;
        Ok((watched, dying))
    }

    /// Waits until the client's subflows have begun at these addresses, in any order.
    fn await_paths(&mut self, from: &[IpAddr]) -> Result<()> {
        let begun = |end: &mut Observer| {
            let begun: Vec<IpAddr> = end.opened().iter().map(|sample| addresses(sample)[0]).collect();
            from.iter().all(|address| begun.contains(address))
        };
        self.ends[0].await_that(&format!("subflows from {from:?}"), begun)
    }

    /// The client's subflow from an address, while it lives.
    fn living(&self, from: IpAddr) -> Result<Sample> {
        let living = self.ends[0].living()?;
        living.into_iter().find(|sample| addresses(sample)[0] == from).context("no such subflow")
    }

    /// Waits for the end of the transfer and of so many subflows at each side.
    fn end(self, subflows: usize) -> Result<End> {
        let report = self.transfer.join()?;
        ensure!(report.intact(), "other content arrived than was sent");
        drop(self.server);
        let [mut client, mut server] = self.ends;
        let sides = [client.await_end(subflows)?, server.await_end(subflows)?];
        for end in [&client, &server] {
            ensure!(end.stats().losses()? == Default::default(), "something was not told");
            ensure!(end.living()?.is_empty(), "what has ended is read as living");
        }
        let retransmitted = |host| kernel::counter(self.lab.host(host), "MPTCPRetrans");
        let reinjected = retransmitted("client")? + retransmitted("server")?;
        Ok(End { report, sides, reinjected })
    }
}

impl End {
    /// The sum of a figure over all subflows of the client (0) or the server (1).
    fn sum(&self, side: usize, figure: impl Fn(&Sample) -> u64) -> u64 {
        self.sides[side].iter().map(figure).sum()
    }

    /// Where nothing was reinjected, each byte went over one subflow.
    fn check_exact(&self) -> Result<()> {
        let [up, down] = self.report.carried;
        for (side, sent, received) in [(0, up, down), (1, down, up)] {
            for (what, sum, right) in [
                ("acknowledged", self.sum(side, |last| last.live.bytes_acked), sent),
                ("sent", self.sum(side, |last| last.live.bytes_sent - last.live.bytes_retransmitted), sent),
                ("received", self.sum(side, |last| last.live.bytes_received), received),
            ] {
                ensure!(sum == right, "side {side}: {sum} bytes {what}, of {right}: {:#?}", self.sides);
            }
        }
        Ok(())
    }

    /// Each byte went over at least one subflow and arrived over at least one. What had arrived over a path that died
    /// may be acknowledged over the connection alone (DATA_ACK), so that its subflow never learns.
    fn check_covered(&self) -> Result<()> {
        let [up, down] = self.report.carried;
        for (side, sent, received) in [(0, up, down), (1, down, up)] {
            let once = self.sum(side, |last| last.live.bytes_sent - last.live.bytes_retransmitted);
            let arrived = self.sum(side, |last| last.live.bytes_received);
            let there = self.sum(1 - side, |last| last.live.bytes_received);
            let acked = self.sum(side, |last| last.live.bytes_acked);
            ensure!(once >= sent, "side {side}: {once} bytes sent, of {sent}: {:#?}", self.sides);
            ensure!(arrived >= received, "side {side}: {arrived} bytes received, of {received}");
            ensure!(
                once >= there && there >= acked,
                "side {side}: sent {once}, {there} arrived, acked {acked}"
            );
        }
        Ok(())
    }
}
