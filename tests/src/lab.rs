//! Builds a scenario out of namespaces, veth pairs and emulated links, and takes it down again.

use crate::emulator::Emulator;
use crate::host::Host;
use crate::link::{Carrier, Link};
use crate::scenario::{self, Cable, End, Family, Node, Scenario};
use crate::scratch::Scratch;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Packets that a TUN device holds until the emulator reads them; a burst longer than that would be lost
/// outside the link's own queue.
const DEVICE_QUEUE: u32 = 10_000;
/// First routing table for links that take packets by their source address.
const FIRST_TABLE: usize = 101;

/// A running network; dropping it removes everything.
pub struct Lab {
    // The order is that of Drop: links first, then hosts, then their files.
    links: BTreeMap<String, Link>,
    hosts: BTreeMap<String, Arc<Host>>,
    family: Family,
    _scratch: Scratch,
}

impl Lab {
    /// Builds the network and starts its links.
    ///
    /// # Errors
    /// When this machine cannot run a lab, or with the command that failed.
    pub fn start(scenario: &Scenario, family: Family) -> Result<Self> {
        crate::require()?;
        let scratch = Scratch::new()?;
        let mut hosts = BTreeMap::new();
        for node in &scenario.nodes {
            let host = Host::new(&node.name, scratch.folder(&node.name)?)?;
            configure(&host, node)?;
            hosts.insert(node.name.clone(), Arc::new(host));
        }
        let mut lab = Self { links: BTreeMap::new(), hosts, family, _scratch: scratch };
        lab.build(scenario)?;
        Ok(lab)
    }

    /// The host or router of this name.
    ///
    /// # Panics
    /// When the scenario has none.
    pub fn host(&self, name: &str) -> &Arc<Host> {
        self.hosts.get(name).unwrap_or_else(|| panic!("the scenario has no node {name:?}"))
    }

    /// The emulated link of this name.
    ///
    /// # Panics
    /// When the scenario has none.
    pub fn link(&self, name: &str) -> &Link {
        self.links.get(name).unwrap_or_else(|| panic!("the scenario has no link {name:?}"))
    }

    /// All hosts and routers.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// All emulated links.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The addresses in use.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Packets that the links' devices dropped because the emulator did not read them in time: as long as this
    /// is zero, the counters of the links are the whole truth.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub fn missed(&self) -> Result<u64> {
        let mut missed = 0;
        for host in self.hosts.values() {
            let text = host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
            let text = text.with_context(|| format!("read the device counters of {}", host.name()))?;
            missed += text.lines().filter_map(|line| self.missed_by(line)).sum::<u64>();
        }
        Ok(missed)
    }

    /// `wifi: RX-bytes packets errs drop fifo frame compressed multicast TX-bytes packets errs drop …`
    fn missed_by(&self, line: &str) -> Option<u64> {
        let (device, counters) = line.split_once(':')?;
        self.links.get(device.trim())?;
        counters.split_whitespace().nth(11)?.parse().ok()
    }

    fn build(&mut self, scenario: &Scenario) -> Result<()> {
        for cable in &scenario.cables {
            self.plug(cable)?;
        }
        let mut devices = Vec::new();
        for link in &scenario.links {
            devices.push([self.device(&link.from, &link.name)?, self.device(&link.to, &link.name)?]);
        }
        self.address(scenario)?;
        self.route(scenario)?;
        for ((link, ends), number) in scenario.links.iter().zip(devices).zip(0..) {
            let (up, down) = (link.up.settings(), link.down.settings());
            let emulator = Emulator::start(&link.name, ends, up, down, scenario.seed.wrapping_add(number))?;
            let carrier = link.carrier.as_ref().map(|interface| self.carrier(scenario, link, interface));
            self.links.insert(link.name.clone(), Link { name: link.name.clone(), emulator, carrier });
        }
        Ok(())
    }

    fn plug(&self, Cable { end: [one, two] }: &Cable) -> Result<()> {
        let far = self.host(&two.node).namespace().id();
        let pair = format!("type veth peer name {} netns {far}", two.interface);
        self.host(&one.node).ip(&format!("link add {} {pair}", one.interface)).map(drop)
    }

    fn device(&self, node: &str, name: &str) -> Result<SyncDevice> {
        let make = || {
            let device = DeviceBuilder::new()
                .name(name)
                .with(|linux| {
                    linux.tx_queue_len(DEVICE_QUEUE);
                })
                .inherit_enable_state()
                .build_sync()?;
            device.set_nonblocking(true)?;
            Ok(device)
        };
        let device: std::io::Result<_> = self.host(node).run(make);
        device.with_context(|| format!("make the TUN device {name} on {node}"))
    }

    fn address(&self, scenario: &Scenario) -> Result<()> {
        for node in &scenario.nodes {
            let mut lines = vec!["link set lo up".to_owned()];
            for end in ends(scenario, &node.name) {
                lines.push(format!("link set {} up", end.interface));
                lines.extend(self.addresses(end, node.dad));
            }
            for link in scenario.links.iter().filter(|link| [&link.from, &link.to].contains(&&node.name)) {
                // No address: the routers speak through their other ones.
                lines.push(format!("link set {} addrgenmode none up", link.name));
            }
            self.host(&node.name).ip_batch(&[], &lines)?;
        }
        Ok(())
    }

    fn addresses(&self, end: &End, dad: bool) -> impl Iterator<Item = String> {
        let used = end.addresses.iter().filter(|net| self.family.has(net.addr()));
        used.map(move |net| {
            // Without `nodad` an IPv6 address is tentative for a moment even where detection is off.
            let option = if dad || net.addr().is_ipv4() { "" } else { " nodad" };
            format!("address replace {net} dev {}{option}", end.interface)
        })
    }

    fn route(&self, scenario: &Scenario) -> Result<()> {
        for node in &scenario.nodes {
            for family in self.family.each() {
                let option = if *family == Family::V4 { "-4" } else { "-6" };
                self.host(&node.name).ip_batch(&[option], &routes(scenario, &node.name, *family))?;
            }
        }
        Ok(())
    }

    fn carrier(&self, scenario: &Scenario, link: &scenario::Link, interface: &str) -> Carrier {
        let ends = ends(scenario, &link.from).filter(|end| end.interface == *interface);
        let restore = ends.flat_map(|end| self.addresses(end, false)).collect();
        let router = self.host(&link.from).clone();
        Carrier { router, interface: interface.to_owned(), restore, up: Mutex::new(true) }
    }
}

fn ends<'a>(scenario: &'a Scenario, node: &'a str) -> impl Iterator<Item = &'a End> {
    scenario.cables.iter().flat_map(|cable| &cable.end).filter(move |end| end.node == node)
}

fn configure(host: &Host, node: &Node) -> Result<()> {
    let mut settings = Vec::new();
    if node.router {
        settings.extend([
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv6.conf.all.forwarding", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv6.conf.all.keep_addr_on_down", "1"),
        ]);
    }
    if !node.dad {
        settings.extend([("net.ipv6.conf.all.accept_dad", "0"), ("net.ipv6.conf.default.accept_dad", "0")]);
    }
    settings.extend(node.sysctl.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    settings.into_iter().try_for_each(|(name, value)| host.set_sysctl(name, value))
}

/// All routes and rules of a node in one family.
fn routes(scenario: &Scenario, node: &str, family: Family) -> Vec<String> {
    let mut lines: Vec<_> = ends(scenario, node).flat_map(|end| end_routes(end, family)).collect();
    for (link, table) in scenario.links.iter().zip(FIRST_TABLE..) {
        let prefixes = link.prefixes.iter().filter(|net| family.has(net.addr()));
        if link.to == node {
            lines.extend(prefixes.clone().map(|net| format!("route add {net} dev {}", link.name)));
        }
        if link.from == node && link.by_source {
            // What the router itself sends to its own neighbours does not go that way.
            lines.push(format!("rule add pref {table} lookup main suppress_prefixlength 0"));
            lines.extend(prefixes.map(|net| format!("rule add pref 1000 from {net} lookup {table}")));
            lines.push(format!("route add default dev {} table {table}", link.name));
        } else if link.from == node {
            lines.push(format!("route add default dev {}", link.name));
        }
    }
    lines
}

/// Default routes as NetworkManager makes them, routes through neighbours, and the provider's source filter.
fn end_routes(end: &End, family: Family) -> Vec<String> {
    let dev = &end.interface;
    let origin = if family == Family::V4 { "dhcp" } else { "ra" };
    let metric = end.metric.map_or_else(String::new, |metric| format!(" metric {metric}"));
    let gateways = end.gateways.iter().filter(|gateway| family.has(**gateway));
    let mut lines: Vec<_> = gateways
        .map(|gateway| format!("route add default via {gateway} dev {dev} proto {origin}{metric}"))
        .collect();
    let routes = end.routes.iter().filter(|route| family.has(route.via));
    lines.extend(routes.map(|route| format!("route add {} via {} dev {dev}", route.to, route.via)));
    for net in end.accepts.iter().filter(|net| family.has(net.addr())) {
        lines.push(format!("rule add pref 2000 from {net} iif {dev} lookup main"));
        // With its interface down, the customer's prefix must not go back the way that packets came.
        lines.push(format!("route add blackhole {net} metric 4000000000"));
    }
    if !end.accepts.is_empty() {
        lines.push(format!("rule add pref 3000 iif {dev} blackhole"));
    }
    lines
}
