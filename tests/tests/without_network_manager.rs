//! Machines whose interfaces are systemd-networkd's or ifupdown's: the real ones, and the daemon does its work beside them
//! without being set up for it.
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::daemon::{PATIENCE, await_that};
use tests::kernel;
use tests::running::{Running, bare, goes_on};
use tests::stillness::{rests, rests_but_for_addresses};
use tests::{Child, Family, Host, Outage};

const HEAVY: &str = "profile = \"heavy\"\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const LTE_ELSEWHERE: &str = "10.2.0.7 subflow dev lte0";

/// How long nothing may happen.
const REST: Duration = Duration::from_secs(3);

/// How long an address is leased: renewed at half of it.
const LEASE: Duration = Duration::from_secs(6);

/// Where `/sys` cannot be written to, networkd takes what it finds for a container's, without udev. It gives up root for a
/// user that Debian's package has made.
const NETWORKD: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
chown -R systemd-network: /run/systemd/netif
cp \"$0\"/*.network /run/systemd/network/
mount -t sysfs -o ro sysfs /sys
exec /lib/systemd/systemd-networkd";

/// systemd-networkd inside a host.
struct Networkd {
    host: Arc<Host>,
    child: Child,
}

impl Networkd {
    /// What it is to do is the text of one `.network` file for each interface.
    fn start(host: &Arc<Host>, files: &[(&str, String)]) -> Result<Self> {
        let folder = host.scratch().join("networkd");
        fs::create_dir_all(&folder)?;
        for (interface, text) in files {
            let common = "IPv6AcceptRA=no\nLinkLocalAddressing=no\n";
            let text = format!("[Match]\nName={interface}\n[Network]\n{common}{text}");
            fs::write(folder.join(format!("{interface}.network")), text)?;
        }
        let log = fs::File::create(folder.join("log"))?;
        let command =
            host.command("unshare").args(["--mount", "--propagation", "private", "sh", "-c", NETWORKD]);
        let command = command.arg(&folder).env("SYSTEMD_LOG_LEVEL", "debug").stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { host: Arc::clone(host), child })
    }

    /// The client's, with these addresses.
    fn with(host: &Arc<Host>, addresses: [&str; 2]) -> Result<Self> {
        let file = |place: usize, interface: &'static str| {
            let (gateway, metric) = (format!("10.{}.0.1", place + 1), 600 + 100 * place);
            let route = format!("[Route]\nGateway={gateway}\nMetric={metric}\n");
            (interface, format!("Address={}/24\n{route}", addresses[place]))
        };
        let networkd = Self::start(host, &[file(0, "wifi0"), file(1, "lte0")])?;
        networkd.await_addresses(&addresses)?;
        Ok(networkd)
    }

    /// The client's, which asks the routers for everything.
    fn asking(host: &Arc<Host>) -> Result<Self> {
        let file = |place: usize, interface: &'static str| {
            let client = format!("ClientIdentifier=mac\nUseDNS=no\nRouteMetric={}\n", 600 + 100 * place);
            (interface, format!("DHCP=ipv4\n[DHCPv4]\n{client}"))
        };
        Self::start(host, &[file(0, "wifi0"), file(1, "lte0")])
    }

    /// A router's, which leases one address: that with this last number, in network 10.`network`.0.
    fn leasing(host: &Arc<Host>, network: u8, last: u8) -> Result<Self> {
        // Over an address that is there already it never comes to rest (systemd 252).
        host.ip("address flush dev lan0")?;
        let server = format!("PoolOffset={last}\nPoolSize=1\nDefaultLeaseTimeSec={}\n", LEASE.as_secs());
        let text = format!("Address=10.{network}.0.1/24\nDHCPServer=yes\n[DHCPServer]\nEmitDNS=no\n{server}");
        Self::start(host, &[("lan0", text)])
    }

    fn await_addresses(&self, addresses: &[&str]) -> Result<()> {
        let look = || self.host.ip("-4 -oneline address show scope global");
        let has_all =
            |seen: &String| addresses.iter().all(|address| seen.contains(&format!("inet {address}/")));
        await_that("the addresses", look, has_all).with_context(|| self.log()).map(drop)
    }

    fn stop(mut self) -> Result<()> {
        self.child.signal(Signal::SIGTERM)?;
        self.child.wait_timeout(PATIENCE)?.context("systemd-networkd does not end").map(drop)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.host.scratch().join("networkd/log")).unwrap_or_default()
    }
}

/// It may remove rules and routes that it does not know (`ManageForeignRoutingPolicyRules=` in networkd.conf(5)): whatever it
/// does when it starts anew, they are there afterwards, and neither goes on.
#[test]
fn beside_systemd_networkd() -> Result<()> {
    let lab = bare(Family::V4)?;
    let client = Arc::clone(lab.host("client"));
    let networkd = Networkd::with(&client, ["10.1.0.2", "10.2.0.2"])?;
    let run = Running::in_lab(lab, HEAVY)?;
    run.await_endpoints(&[WIFI, LTE])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    rests(&client, REST)?;
    let rules = client.ip("rule")?;

    // What loses its carrier loses its address and its route.
    run.lab.link("lte").outage(Outage::Down)?;
    run.await_endpoints(&[WIFI])?;
    run.lab.link("lte").outage(Outage::None)?;
    run.await_endpoints(&[WIFI, LTE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;

    networkd.stop()?;
    run.await_status("all as wanted", |_| true)?;
    let networkd = Networkd::with(&client, ["10.1.0.2", "10.2.0.2"])?;
    let look = || client.ip("rule");
    await_that("the rules", look, |seen| *seen == rules).with_context(|| networkd.log())?;
    run.await_status("all as wanted", |_| true)?;
    run.await_endpoints(&[WIFI, LTE])?;
    goes_on(&talk)?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;

    rests(&client, REST)?;
    networkd.stop()
}

/// Renewed leases change nothing; an address that the provider replaces is followed.
#[test]
fn beside_systemd_networkd_with_leased_addresses() -> Result<()> {
    let lab = bare(Family::V4)?;
    let client = Arc::clone(lab.host("client"));
    let [wifi, lte] = ["wifi-router", "lte-router"].map(|name| Arc::clone(lab.host(name)));
    let leases = [Networkd::leasing(&wifi, 1, 2)?, Networkd::leasing(&lte, 2, 2)?];
    let networkd = Networkd::asking(&client)?;
    networkd.await_addresses(&["10.1.0.2", "10.2.0.2"])?;
    let run = Running::in_lab(lab, HEAVY)?;
    run.await_endpoints(&[WIFI, LTE])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    rests_but_for_addresses(&client, LEASE)?;

    let [at_wifi, at_lte] = leases;
    at_lte.stop()?;
    run.lab.link("lte").outage(Outage::Down)?;
    run.await_endpoints(&[WIFI])?;
    run.lab.link("lte").outage(Outage::None)?;
    let at_lte = Networkd::leasing(&lte, 2, 7)?;
    networkd.await_addresses(&["10.1.0.2", "10.2.0.7"]).with_context(|| at_lte.log())?;
    run.await_endpoints(&[WIFI, LTE_ELSEWHERE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.7"])?;
    run.await_status("all as wanted", |_| true)?;
    goes_on(&talk)?;
    [networkd, at_wifi, at_lte].into_iter().try_for_each(Networkd::stop)
}

/// The file with what ifupdown is to do with the interfaces of a host.
struct Interfaces {
    host: Arc<Host>,
}

impl Interfaces {
    fn of(host: &Arc<Host>) -> Self {
        Self { host: Arc::clone(host) }
    }

    fn write(&self, addresses: [&str; 2]) -> Result<()> {
        let stanza = |(place, (interface, address)): (usize, (&&str, &str))| {
            let (gateway, metric) = (format!("10.{}.0.1", place + 1), 600 + 100 * place);
            format!(
                "iface {interface} inet static\n  address {address}/24\n  gateway {gateway}\n  metric {metric}\n"
            )
        };
        let text: String = ["wifi0", "lte0"].iter().zip(addresses).enumerate().map(stanza).collect();
        fs::write(self.host.scratch().join("interfaces"), text).context("write the file of interfaces")
    }

    /// Runs `ifup` or `ifdown`, which the variable names.
    fn run(&self, variable: &str, interfaces: &[&str]) -> Result<()> {
        let program = std::env::var_os(variable)
            .with_context(|| format!("where is ifupdown? use `cargo xtask test`, which sets {variable}"))?;
        let state = self.host.scratch().join("ifstate");
        fs::create_dir_all(&state)?;
        let command =
            self.host.command(program).args(["--no-scripts", "--state-dir"]).arg(state).arg("--interfaces");
        let output = command.arg(self.host.scratch().join("interfaces")).args(interfaces).output()?;
        ensure!(
            output.status.success(),
            "{variable} {interfaces:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

#[test]
fn beside_ifupdown() -> Result<()> {
    let lab = bare(Family::V4)?;
    let client = Arc::clone(lab.host("client"));
    let interfaces = Interfaces::of(&client);
    interfaces.write(["10.1.0.2", "10.2.0.2"])?;
    let run = Running::in_lab(lab, HEAVY)?;
    ensure!(kernel::endpoints(&client)?.is_empty(), "there are no addresses yet");
    interfaces.run("IFUP", &["wifi0", "lte0"])?;
    run.await_endpoints(&[WIFI, LTE])?;
    let talk = run.talk()?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;
    rests(&client, REST)?;

    interfaces.run("IFDOWN", &["lte0"])?;
    run.await_endpoints(&[WIFI])?;
    goes_on(&talk)?;
    interfaces.write(["10.1.0.2", "10.2.0.7"])?;
    interfaces.run("IFUP", &["lte0"])?;
    run.await_endpoints(&[WIFI, LTE_ELSEWHERE])?;
    run.await_subflows(&["10.1.0.2", "10.2.0.7"])?;
    run.await_status("all as wanted", |_| true)?;
    goes_on(&talk)?;
    rests(&client, REST)
}
