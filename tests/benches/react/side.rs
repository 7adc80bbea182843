//! One daemon in its network, and what the benchmark does to it.

use crate::processor;
use crate::requests::{ADDRESS, Datagrams, Requests};
use crate::silence::Silence;
use anyhow::{Context, Result, ensure};
use mptcp_pm::netlink::mptcp::{Events, Mptcp, Notice};
use mptcp_pm::netlink::mptcp_wire::event::Kind;
use nix::unistd::Pid;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};
use tests::daemon::{Daemon, PATIENCE, await_that};
use tests::footprint::Footprint;
use tests::traffic::{Job, Options, Protocol, Server, Transfer, start};
use tests::{Child, Family, Host, Lab, Scenario};
use tokio::runtime::Runtime;

/// How many changes [`Side::churn`] makes.
pub const CHANGES_AT_ONCE: usize = 4;
/// Between the changes: a daemon that collects them for a moment must not see none at all.
const PACE: Duration = Duration::from_millis(15);
/// No benchmark lasts longer.
const EVER: Duration = Duration::from_secs(24 * 3600);

const NETWORK: &str = r#"
description = "a client whose second interface has no address yet"
link = []

[[node]]
name = "client"
[[node]]
name = "server"

[[ethernet]]
[[ethernet.end]]
node = "client"
interface = "eth0"
addresses = ["10.1.0.2/24"]
gateways = ["10.1.0.1"]
metric = 600
[[ethernet.end]]
node = "server"
interface = "eth0"
addresses = ["10.1.0.1/24"]

[[ethernet]]
[[ethernet.end]]
node = "client"
interface = "eth1"
addresses = []
[[ethernet.end]]
node = "server"
interface = "eth1"
addresses = ["10.2.0.1/24"]
"#;

/// What one round has measured, from just before the address was added.
pub struct Round {
    /// Until the kernel had dealt with both requests and told everybody.
    pub sent: Duration,
    /// Until the endpoint was seen.
    pub endpoint: Duration,
    /// Until the kernel said that the second subflow is established.
    pub subflow: Duration,
    /// The time of one look at the endpoints: the endpoint was there at most this long before it was seen.
    pub resolution: Duration,
}

/// A daemon in its network, with a connection.
pub struct Side {
    // The order is that of Drop: the daemon and the traffic before their network.
    daemon: Process,
    requests: Requests,
    datagrams: Datagrams,
    mptcp: Mptcp,
    events: Events,
    /// The connection of which the subflows are; none once nothing is to flow.
    traffic: Option<(Transfer, Server)>,
    lab: Lab,
}

enum Process {
    Ours(Daemon, &'static str),
    Mptcpd(Child),
}

impl Process {
    fn id(&self) -> u32 {
        match self {
            Self::Ours(daemon, _) => daemon.id(),
            Self::Mptcpd(child) => child.id(),
        }
    }

    /// Gives it real-time priority, above that of the thread that asks the kernel without a pause, and where there is
    /// more than one a processor without that thread: what a daemon does after it has added the endpoint is not to
    /// keep the endpoint from being seen.
    fn prefer(&self) -> Result<()> {
        processor::take(Pid::from_raw(i32::try_from(self.id())?), processor::Of::Daemons)?;
        let status = Command::new("chrt").args(["--fifo", "--pid", "20", &self.id().to_string()]).status();
        ensure!(status.context("run chrt: install util-linux")?.success(), "chrt cannot set a priority");
        Ok(())
    }
}

impl Side {
    /// Our daemon with this manager of connections' paths; it logs what it does by default. Its control socket is for a
    /// group that there is, as an installation makes one: a search for another group would load what few machines need.
    pub fn ours(runtime: &Runtime, manager: &'static str) -> Result<Self> {
        Self::start(runtime, |host| {
            let way = ["env", "RUST_LOG=info"];
            let config =
                format!("profile = \"heavy\"\nmanager = \"{manager}\"\n[control]\ngroup = \"daemon\"\n");
            let daemon = match manager {
                "daemon" => Daemon::start_in_charge(host, &config, &way),
                _ => Daemon::start_through(host, &config, &way),
            };
            daemon.map(|daemon| Process::Ours(daemon, manager))
        })
    }

    /// mptcpd as Debian starts it, told to make subflows from the addresses and to use those that are there already.
    pub fn mptcpd(runtime: &Runtime) -> Result<Self> {
        Self::start(runtime, |host| start_mptcpd(host).map(Process::Mptcpd))
    }

    fn start(runtime: &Runtime, daemon: impl FnOnce(&Arc<Host>) -> Result<Process>) -> Result<Self> {
        let lab = Lab::start(&Scenario::parse(NETWORK)?, Family::V4)?;
        let client = lab.host("client");
        client.set_sysctl("net.ipv4.tcp_orphan_retries", "1")?;
        let daemon = daemon(client)?;
        daemon.prefer()?;
        let open = || runtime.block_on(async { anyhow::Ok((Mptcp::open().await?, Events::open().await?)) });
        let (mptcp, mut events) = client.run(open)?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        let mut options = Options::duration(EVER);
        (options.deadline, options.interval) = (EVER, Duration::from_millis(100));
        options.to = Some("10.1.0.1".parse()?);
        let transfer = start(client, &server, Job::RequestResponse, options)?;
        runtime.block_on(await_event(&mut events, Kind::Established, None))?;
        let ifindex = client.run(|| nix::net::if_::if_nametoindex("eth1"))?;
        Ok(Self {
            daemon,
            requests: Requests::open(client)?,
            datagrams: Datagrams::of(ifindex),
            mptcp,
            events,
            traffic: Some((transfer, server)),
            lab,
        })
    }

    /// Ends the connection, so that nothing flows, and waits until the last of its sockets has ended too: one whose
    /// address has gone tries for minutes to say so.
    pub fn rest(&mut self) -> Result<()> {
        self.traffic = None;
        let client = self.lab.host("client");
        await_that("no TCP socket", || client.run(alive), |left| *left == 0).map(drop)
    }

    /// Whose side this is.
    pub fn name(&self) -> String {
        match self.daemon {
            Process::Ours(_, manager) => format!("mptcp-pm, manager = {manager}"),
            Process::Mptcpd(_) => "mptcpd".to_owned(),
        }
    }

    /// An address appears, is used, and vanishes.
    pub async fn round(&mut self, rest: Duration) -> Result<Round> {
        tokio::time::sleep(rest).await;
        let begin = Instant::now();
        self.requests.send(&self.datagrams.appear)?;
        let sent = begin.elapsed();
        let mut looks = 0;
        while !self.has_endpoint().await? {
            ensure!(begin.elapsed() < PATIENCE, "{ADDRESS} is no endpoint after {PATIENCE:?}");
            looks += 1;
        }
        let endpoint = begin.elapsed();
        await_event(&mut self.events, Kind::SubEstablished, Some(ADDRESS.into())).await?;
        let subflow = begin.elapsed();
        self.requests.check(&self.datagrams.appear)?;
        self.vanish().await?;
        Ok(Round { sent, endpoint, subflow, resolution: (endpoint - sent) / (looks + 1) })
    }

    async fn vanish(&mut self) -> Result<()> {
        self.requests.send(&self.datagrams.vanish)?;
        self.requests.check(&self.datagrams.vanish)?;
        await_event(&mut self.events, Kind::SubClosed, Some(ADDRESS.into())).await?;
        let begin = Instant::now();
        while self.has_endpoint().await? {
            ensure!(begin.elapsed() < PATIENCE, "{ADDRESS} is an endpoint {PATIENCE:?} after it vanished");
        }
        Ok(())
    }

    /// Changes what the daemon follows: the address comes and goes, the interface goes down and up.
    pub async fn churn(&mut self) -> Result<()> {
        let Datagrams { appear, vanish, down, up } = &self.datagrams;
        for datagram in [appear, vanish, down, up] {
            self.requests.send(datagram)?;
            self.requests.check(datagram)?;
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    }

    /// What the daemon takes.
    pub fn footprint(&self) -> Result<Footprint> {
        Footprint::of(self.daemon.id())
    }

    /// Begins a time in which nothing is to happen.
    pub fn silence(&self) -> Result<Silence> {
        Silence::begin(self.lab.host("client"))
    }

    async fn has_endpoint(&mut self) -> Result<bool> {
        Ok(self.mptcp.endpoints().await?.iter().any(|endpoint| endpoint.addr == IpAddr::from(ADDRESS)))
    }
}

/// How many TCP sockets of this thread's network namespace the kernel still has to do with: those that listen or wait for
/// strays (`TCP_LISTEN`, `TCP_TIME_WAIT` of include/net/tcp_states.h) ask for nothing.
fn alive() -> Result<usize> {
    const AT_REST: [&str; 2] = ["0A", "06"];
    let mut alive = 0;
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(Path::new("/proc/thread-self/net").join(table))?;
        let states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        alive += states.filter(|state| !AT_REST.contains(state)).count();
    }
    Ok(alive)
}

async fn await_event(events: &mut Events, kind: Kind, local: Option<IpAddr>) -> Result<()> {
    let wanted = async {
        loop {
            let Notice::Event(event) = events.next().await? else { continue };
            if event.kind == kind && (local.is_none() || event.local_addr() == local) {
                return Ok(());
            }
        }
    };
    let what = || format!("no {kind:?} event from {local:?} in {PATIENCE:?}");
    tokio::time::timeout(PATIENCE, wanted).await.with_context(what)?
}

fn start_mptcpd(host: &Host) -> Result<Child> {
    let program = env::var_os("MPTCPD").context("where is mptcpd? use `cargo xtask bench react`")?;
    let log = fs::File::create(host.scratch().join("mptcpd.log"))?;
    let child = host
        .command(program)
        .args(["--log=stderr", "--path-manager=addr_adv", "--addr-flags=subflow"])
        .arg("--notify-flags=existing,skip_link_local,skip_loopback")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // It says nothing when it is ready; it is when it has used the address that is there.
    await_that("an endpoint", || host.ip("mptcp endpoint"), |seen| !seen.is_empty())?;
    Ok(child)
}
