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
use tests::stillness::rests;
use tests::{Child, Family, Host, Outage};

const HEAVY: &str = "profile = \"heavy\"\n";
const WIFI: &str = "10.1.0.2 subflow dev wifi0";
const LTE: &str = "10.2.0.2 subflow dev lte0";
const LTE_ELSEWHERE: &str = "10.2.0.7 subflow dev lte0";

/// How long nothing may happen.
const REST: Duration = Duration::from_secs(3);

/// Where `/sys` cannot be written to, networkd takes what it finds for a container's, without udev. It gives up root for a
/// user that Debian's package has made.
const NETWORKD: &str = "set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
chown -R systemd-network: /run/systemd/netif
cp \"$0\"/*.network /run/systemd/network/
mount -t sysfs -o ro sysfs /sys
exec /lib/systemd/systemd-networkd";

/// systemd-networkd inside a host, with these addresses.
struct Networkd {
    host: Arc<Host>,
    child: Child,
}

impl Networkd {
    fn start(host: &Arc<Host>, addresses: [&str; 2]) -> Result<Self> {
        let folder = host.scratch().join("networkd");
        fs::create_dir_all(&folder)?;
        for (place, (interface, address)) in ["wifi0", "lte0"].iter().zip(addresses).enumerate() {
            let (gateway, metric) = (format!("10.{}.0.1", place + 1), 600 + 100 * place);
            let text = format!(
                "[Match]\nName={interface}\n[Network]\nAddress={address}/24\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n\
                 [Route]\nGateway={gateway}\nMetric={metric}\n"
            );
            fs::write(folder.join(format!("{interface}.network")), text)?;
        }
        let log = fs::File::create(folder.join("log"))?;
        let command =
            host.command("unshare").args(["--mount", "--propagation", "private", "sh", "-c", NETWORKD]);
        let command = command.arg(&folder).env("SYSTEMD_LOG_LEVEL", "debug").stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let networkd = Self { host: Arc::clone(host), child };
        let look = || networkd.host.ip("-4 -oneline address show scope global");
        let has_all =
            |seen: &String| addresses.iter().all(|address| seen.contains(&format!("inet {address}/")));
        await_that("the addresses", look, has_all).with_context(|| networkd.log())?;
        Ok(networkd)
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
    let networkd = Networkd::start(&client, ["10.1.0.2", "10.2.0.2"])?;
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
    let networkd = Networkd::start(&client, ["10.1.0.2", "10.2.0.2"])?;
    let look = || client.ip("rule");
    await_that("the rules", look, |seen| *seen == rules).with_context(|| networkd.log())?;
    run.await_status("all as wanted", |_| true)?;
    run.await_endpoints(&[WIFI, LTE])?;
    goes_on(&talk)?;
    run.await_subflows(&["10.1.0.2", "10.2.0.2"])?;

    rests(&client, REST)?;
    networkd.stop()
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
