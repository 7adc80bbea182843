//! The description of a network, as the files in `scenarios/` have it.

use crate::queue::{Burst, Codel, Settings};
use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Which of a scenario's addresses are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

impl Family {
    /// Every choice, for tests that run in each.
    pub const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Both];

    /// The single families that it stands for.
    pub fn each(self) -> &'static [Self] {
        match self {
            Self::V4 => &[Self::V4],
            Self::V6 => &[Self::V6],
            Self::Both => &[Self::V4, Self::V6],
        }
    }

    /// Whether addresses like this one are used.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// A whole network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it stands for, in a sentence.
    pub description: String,
    /// Determines every random loss and jitter.
    #[serde(default)]
    pub seed: u64,
    /// Hosts and routers.
    #[serde(rename = "node")]
    pub nodes: Vec<Node>,
    /// Cables: veth pairs, which carry everything at once.
    #[serde(rename = "ethernet")]
    pub cables: Vec<Cable>,
    /// Emulated links.
    #[serde(rename = "link")]
    pub links: Vec<Link>,
}

/// A host or router.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name, unique in the scenario.
    pub name: String,
    /// Routers forward; hosts are left as the kernel makes them.
    #[serde(default)]
    pub router: bool,
    /// Whether IPv6 duplicate address detection runs, as it would outside a lab; it takes about a second.
    #[serde(default)]
    pub dad: bool,
    /// Settings that differ from the kernel's defaults.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
}

/// A veth pair.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cable {
    /// Its two ends.
    pub end: [End; 2],
}

/// One end of a cable.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The node that it is plugged into.
    pub node: String,
    /// The interface's name there.
    pub interface: String,
    /// Addresses with their prefix length.
    pub addresses: Vec<IpNet>,
    /// Default routes go through these.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// Metric of the default routes.
    pub metric: Option<u32>,
    /// Prefixes behind the neighbour `via`.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// On routers: what comes in here from other sources is dropped, as providers do. Empty: all may pass.
    #[serde(default)]
    pub accepts: Vec<IpNet>,
}

/// A route through a neighbour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination.
    pub to: IpNet,
    /// The neighbour.
    pub via: IpAddr,
}

/// An emulated link between two routers. Upwards is from the customer's side towards the Internet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its name; also that of its device on both sides.
    pub name: String,
    /// The router on the customer's side.
    pub from: String,
    /// The router on the Internet's side.
    pub to: String,
    /// What lies on the customer's side: `to` routes it here.
    pub prefixes: Vec<IpNet>,
    /// `from` sends only packets from `prefixes` this way, instead of all that it has no better route for.
    #[serde(default)]
    pub by_source: bool,
    /// The interface of `from` that goes down when the link does, so that the customer loses carrier.
    pub carrier: Option<String>,
    /// From the customer.
    pub up: Flow,
    /// To the customer.
    pub down: Flow,
}

/// One direction of a link, in the units of a data sheet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Mbit/s of IP packets.
    pub rate_mbit: f64,
    /// One-way delay in milliseconds.
    pub delay_ms: f64,
    /// Greatest random extra delay in milliseconds.
    #[serde(default)]
    pub jitter_ms: f64,
    /// Whether jitter may let packets overtake each other.
    #[serde(default)]
    pub reorder: bool,
    /// Queue length in kilobytes (1000 bytes).
    pub queue_kb: f64,
    /// Drops before the queue is full, so that packets do not wait long.
    pub codel: Option<CodelFlow>,
    /// Random loss in per cent.
    #[serde(default)]
    pub loss_percent: f64,
    /// Losses in bursts.
    pub burst: Option<BurstFlow>,
}

/// Burst loss (Gilbert-Elliott).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurstFlow {
    /// Chance per packet, in per cent, that a burst begins.
    pub enter_percent: f64,
    /// Mean length of a burst in packets, at least 1.
    pub mean_packets: f64,
    /// Loss during a burst in per cent.
    pub loss_percent: f64,
}

/// CoDel (RFC 8289).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodelFlow {
    /// How long packets may wait for long, in milliseconds.
    pub target_ms: f64,
    /// How long is long, in milliseconds: a usual round-trip time.
    pub interval_ms: f64,
}

impl CodelFlow {
    fn model(&self) -> Codel {
        let time = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        Codel { target: time(self.target_ms), interval: time(self.interval_ms) }
    }
}

impl Flow {
    /// The same for the link model.
    pub fn settings(&self) -> Settings {
        Settings {
            rate: (self.rate_mbit * 1e6) as u64,
            delay: Duration::from_secs_f64(self.delay_ms / 1e3),
            jitter: Duration::from_secs_f64(self.jitter_ms / 1e3),
            keep_order: !self.reorder,
            queue: (self.queue_kb * 1e3) as usize,
            codel: self.codel.as_ref().map(CodelFlow::model),
            loss: self.loss_percent / 100.0,
            burst: self.burst.as_ref().map(BurstFlow::model),
            outage: false,
        }
    }

    fn check(&self) -> Result<()> {
        let codel = self.codel.as_ref().map_or([0.0; 2], |codel| [codel.target_ms, codel.interval_ms]);
        let times = [self.delay_ms, self.jitter_ms, self.queue_kb, codel[0], codel[1]];
        ensure!(self.rate_mbit * 1e6 >= 1.0, "rate_mbit = {}: must be above zero", self.rate_mbit);
        ensure!(
            times.iter().all(|value| (0.0..1e9).contains(value)),
            "delay, jitter, queue or codel out of range"
        );
        ensure!((0.0..=100.0).contains(&self.loss_percent), "loss_percent: must be 0 to 100");
        Ok(())
    }
}

impl BurstFlow {
    fn model(&self) -> Burst {
        Burst {
            enter: self.enter_percent / 100.0,
            leave: 1.0 / self.mean_packets.max(1.0),
            loss: self.loss_percent / 100.0,
        }
    }
}

impl Scenario {
    /// Reads `scenarios/NAME.toml` of this crate.
    ///
    /// # Errors
    /// With file, line and column when it is not a valid scenario.
    pub fn load(name: &str) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let path = folder.join(name).with_extension("toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Reads a scenario from TOML.
    ///
    /// # Errors
    /// When it is not a valid scenario.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Its node of this name; to change it before the lab starts.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&mut self, name: &str) -> Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.with_context(|| format!("the scenario has no node {name:?}"))
    }

    /// Its link of this name; to change it before the lab starts.
    ///
    /// # Errors
    /// When there is none.
    pub fn link(&mut self, name: &str) -> Result<&mut Link> {
        let link = self.links.iter_mut().find(|link| link.name == name);
        link.with_context(|| format!("the scenario has no link {name:?}"))
    }

    fn check(&self) -> Result<()> {
        let nodes: BTreeSet<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        ensure!(nodes.len() == self.nodes.len(), "two nodes have the same name");
        let mut devices = BTreeSet::new();
        for (node, device) in self.devices() {
            ensure!(nodes.contains(node), "{device} is on {node:?}, which is no node");
            ensure!(
                device.len() < 16 && !device.is_empty(),
                "{device:?}: interface names have 1 to 15 bytes"
            );
            ensure!(devices.insert((node, device)), "{node} has two interfaces {device}");
        }
        for link in &self.links {
            link.up.check().with_context(|| format!("link {}, up", link.name))?;
            link.down.check().with_context(|| format!("link {}, down", link.name))?;
            let known = |carrier: &String| devices.contains(&(link.from.as_str(), carrier.as_str()));
            ensure!(link.carrier.as_ref().is_none_or(known), "link {}: no such carrier", link.name);
        }
        Ok(())
    }

    fn devices(&self) -> impl Iterator<Item = (&str, &str)> {
        let ends = self.cables.iter().flat_map(|cable| &cable.end);
        let cables = ends.map(|end| (end.node.as_str(), end.interface.as_str()));
        let links = self.links.iter();
        cables.chain(
            links.flat_map(|link| [&link.from, &link.to].map(|node| (node.as_str(), link.name.as_str()))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 4);
        for path in files {
            Scenario::load(path.file_stem().unwrap().to_str().unwrap()).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/two-providers.toml");
        let good = std::fs::read_to_string(path).unwrap();
        let error =
            |from: &str, to: &str| format!("{:#}", Scenario::parse(&good.replace(from, to)).unwrap_err());
        assert!(error("delay_ms", "latency").contains("latency"));
        assert!(error("name = \"wifi-router\"", "name = \"x\"").contains("wifi-router"));
        assert!(error("rate_mbit = 50", "rate_mbit = 0").contains("rate_mbit"));
        assert!(error("carrier = \"lan0\"", "carrier = \"lan9\"").contains("carrier"));
    }
}
