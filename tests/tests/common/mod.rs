//! The paths that the shipped scenarios promise, for the tests of the lab itself.
#![allow(dead_code, reason = "each test binary uses a part")]

use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::Duration;
use tests::traffic::udp::{Flow, Sink};
use tests::{Family, Host, Lab};

/// Long enough for anything that happens at all; no test waits for it to pass.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A way from a multihomed host over one emulated link to a peer.
pub struct Path {
    pub scenario: &'static str,
    pub host: &'static str,
    pub peer: &'static str,
    pub interface: &'static str,
    pub addresses: [&'static str; 2],
    pub link: &'static str,
    pub round_trip: Duration,
}

/// All of them, two per scenario.
pub const PATHS: &[Path] = &[
    path("two-providers", "wifi", "wifi0", ["10.1.0.2", "2001:db8:1::2"], 20),
    path("two-providers", "lte", "lte0", ["10.2.0.2", "2001:db8:2::2"], 80),
    path("two-lines-one-provider", "dsl", "dsl0", ["10.1.1.2", "2001:db8:1:1::2"], 16),
    path("two-lines-one-provider", "lte", "lte0", ["10.1.2.2", "2001:db8:1:2::2"], 50),
    path("one-line-two-addresses", "transit-a", "dsl0", ["10.1.0.2", "2001:db8:1::2"], 20),
    path("one-line-two-addresses", "transit-b", "dsl0", ["10.2.0.2", "2001:db8:2::2"], 60),
    of_site("alpha", "eth0", ["10.8.0.2", "2001:db8:8::2"], 20),
    of_site("beta", "eth1", ["10.9.0.2", "2001:db8:9::2"], 40),
];

const fn path(
    scenario: &'static str,
    link: &'static str,
    interface: &'static str,
    addresses: [&'static str; 2],
    round_trip: u64,
) -> Path {
    let round_trip = Duration::from_millis(round_trip);
    Path { scenario, host: "client", peer: "server", interface, addresses, link, round_trip }
}

const fn of_site(link: &'static str, interface: &'static str, addresses: [&'static str; 2], ms: u64) -> Path {
    Path { host: "server", peer: "client", ..path("site", link, interface, addresses, ms) }
}

impl Path {
    /// The first path over a link of this name.
    pub fn named(link: &str) -> Result<&'static Self> {
        PATHS.iter().find(|path| path.link == link).with_context(|| format!("no path over {link}"))
    }

    /// The multihomed host's address on this path.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        Ok(self.addresses[usize::from(family != Family::V4)].parse()?)
    }
}

/// A flow from the multihomed host over this path to a sink on its peer.
pub fn flow(lab: &Lab, path: &Path, family: Family, sink: &Sink) -> Result<Flow> {
    let to = (first_address(lab.host(path.peer), family)?, sink.port()).into();
    Flow::open(lab.host(path.host), Some(path.interface), Some(path.address(family)?), to)
}

/// A host's first address of this family that is valid everywhere.
pub fn first_address(host: &Host, family: Family) -> Result<IpAddr> {
    let addresses = host.addresses()?;
    let mut addresses = addresses.iter().map(|address| address.net.addr());
    let global = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    addresses.find(|address| family.has(*address) && !global(address)).context("no such address")
}

/// Measures again while the result is off: a machine that is busy with other things disturbs some measurements, a
/// link that is wrong is wrong in all of them.
pub fn undisturbed<T>(mut measure: impl FnMut() -> Result<T>, right: impl Fn(&T) -> bool) -> Result<T> {
    const TRIES: usize = 10;
    for _ in 1..TRIES {
        let measured = measure()?;
        if right(&measured) {
            return Ok(measured);
        }
    }
    measure()
}
