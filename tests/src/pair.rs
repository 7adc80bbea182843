//! A network with two paths between a client and a server, of any rates and round trips.

use crate::Scenario;
use crate::scenario::Flow;
use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr};

/// The queue of a path is as many times what is under way at its full rate.
const QUEUE: f64 = 2.0;
/// Metrics of the better and of the other default route, those of NetworkManager for Wi-Fi.
const METRICS: [u32; 2] = [600, 700];

/// One of the paths, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// Mbit/s of IP packets.
    pub rate: f64,
    /// Round trip without a queue, in milliseconds.
    pub round_trip: f64,
    /// Random loss in per cent.
    pub loss: f64,
}

/// Which of the paths a connection begins on: the main default route is over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Begin {
    /// The link `wifi`, the interface `wifi0`.
    First,
    /// The link `lte`, the interface `lte0`.
    Second,
}

/// Both paths: the links `wifi` and `lte` of the scenario `two-providers`, with other figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair(pub [Path; 2]);

/// The links of a pair, in order.
pub const LINKS: [&str; 2] = ["wifi", "lte"];
/// The client's interfaces to them.
pub const INTERFACES: [&str; 2] = ["wifi0", "lte0"];
/// Its addresses there.
pub const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2))];

impl Path {
    /// A path without random loss.
    pub const fn new(rate: f64, round_trip: f64) -> Self {
        Self { rate, round_trip, loss: 0.0 }
    }

    /// The same path with random loss, in per cent.
    pub const fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    fn shape(self, flow: &mut Flow) {
        flow.rate_mbit = self.rate;
        flow.delay_ms = self.round_trip / 2.0;
        flow.queue_kb = QUEUE * self.rate * self.round_trip / 8.0;
        flow.loss_percent = self.loss;
    }
}

impl Pair {
    /// The network.
    ///
    /// # Errors
    /// When `two-providers` is not what it was.
    pub fn scenario(&self, begin: Begin) -> Result<Scenario> {
        let mut scenario = Scenario::load("two-providers")?;
        for (path, name) in self.0.iter().zip(LINKS) {
            let link = scenario.link(name)?;
            path.shape(&mut link.up);
            path.shape(&mut link.down);
        }
        let [better, other] = METRICS;
        let metrics = if begin == Begin::First { [better, other] } else { [other, better] };
        for (metric, interface) in metrics.into_iter().zip(INTERFACES) {
            let mut ends = scenario.cables.iter_mut().flat_map(|cable| &mut cable.end);
            let end = ends.find(|end| end.node == "client" && end.interface == interface);
            end.with_context(|| format!("the client has no {interface}"))?.metric = Some(metric);
        }
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_the_paths() {
        let pair = Pair([Path::new(50.0, 20.0).with_loss(0.5), Path::new(20.0, 80.0)]);
        let mut scenario = pair.scenario(Begin::Second).unwrap();
        let [wifi, lte] = LINKS.map(|name| scenario.link(name).unwrap().down.clone());
        assert_eq!((wifi.queue_kb, wifi.loss_percent, lte.delay_ms, lte.queue_kb), (250.0, 0.5, 40.0, 400.0));
        let metric = |name: &str| {
            let mut ends = scenario.cables.iter().flat_map(|cable| &cable.end);
            ends.find(|end| end.interface == name).unwrap().metric
        };
        assert!(metric("lte0") < metric("wifi0"));
    }
}
