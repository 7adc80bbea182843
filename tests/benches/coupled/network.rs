//! The networks: one bottleneck for all, and two ways.
use anyhow::{Context, Result};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::unsent::Unsent;
use std::ops::Deref;
use std::time::Duration;
use tests::queue::{Codel, Settings};
use tests::{Family, Lab, Scenario};

/// As RFC 8289 has it for the Internet.
const CODEL: Codel = Codel { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

/// A client with four addresses, all behind the same link.
const ONE_BOTTLENECK: &str = r#"
description = "four addresses behind one bottleneck"
seed = 1
[[node]]
name = "client"
[[node]]
name = "router"
router = true
[[node]]
name = "internet"
router = true
[[node]]
name = "server"

[[ethernet]]
[[ethernet.end]]
node = "client"
interface = "eth0"
addresses = ["10.1.0.2/24", "10.1.0.3/24", "10.1.0.4/24", "10.1.0.5/24"]
gateways = ["10.1.0.1"]
metric = 100
[[ethernet.end]]
node = "router"
interface = "lan0"
addresses = ["10.1.0.1/24"]

[[link]]
name = "bottleneck"
from = "router"
to = "internet"
prefixes = ["10.1.0.0/24"]
up = { rate_mbit = 100, delay_ms = 1, queue_kb = 4000 }
down = { rate_mbit = 100, delay_ms = 1, queue_kb = 4000 }

[[ethernet]]
[[ethernet.end]]
node = "internet"
interface = "server0"
addresses = ["10.9.0.1/24"]
[[ethernet.end]]
node = "server"
interface = "eth0"
addresses = ["10.9.0.2/24"]
gateways = ["10.9.0.1"]
"#;

/// A lab whose client's subflows hold as little beyond what is under way as the daemon has them hold (`buffers`). What waits
/// in the socket of a subflow with a small window for seconds keeps the others from sending: what they have sent after it
/// stays in the connection's send buffer.
pub struct Network {
    _bound: Unsent,
    lab: Lab,
}

impl Deref for Network {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// What all share.
pub const BOTTLENECK: Way = Way { mbit: 100.0, round_trip_ms: 80.0 };

/// One bottleneck; connections have so many subflows.
pub fn one_bottleneck(subflows: usize) -> Result<Network> {
    let lab = start(&Scenario::parse(ONE_BOTTLENECK)?)?;
    lab.link("bottleneck").set(|settings| *settings = BOTTLENECK.settings(true));
    for host in ["client", "server"] {
        lab.host(host).ip(&format!("mptcp limits set subflow {}", subflows - 1))?;
    }
    for address in 3..2 + subflows {
        lab.host("client").ip(&format!("mptcp endpoint add 10.1.0.{address} dev eth0 subflow"))?;
    }
    Ok(lab)
}

/// A way: Mbit/s, and the round-trip time in milliseconds.
#[derive(Clone, Copy)]
pub struct Way {
    pub mbit: f64,
    pub round_trip_ms: f64,
}

impl Way {
    /// Bytes on their way when it is full.
    fn bytes(self) -> f64 {
        self.mbit * 1e6 * self.round_trip_ms / 1e3 / 8.0
    }

    /// One direction of a link like this, with CoDel or with a queue as long as the way.
    pub fn settings(self, has_codel: bool) -> Settings {
        Settings {
            rate: (self.mbit * 1e6) as u64,
            delay: Duration::from_secs_f64(self.round_trip_ms / 2e3),
            queue: if has_codel { 4 << 20 } else { self.bytes() as usize },
            codel: has_codel.then_some(CODEL),
            ..Settings::default()
        }
    }
}

/// Two ways of the client's, `wifi0` and `lte0`, with CoDel or with queues as long as the ways; connections take both.
pub fn two_ways(ways: [Way; 2], has_codel: bool) -> Result<Network> {
    let lab = start(&Scenario::load("two-providers")?)?;
    for (name, way) in ["wifi", "lte"].into_iter().zip(ways) {
        lab.link(name).set(|settings| *settings = way.settings(has_codel));
    }
    Ok(lab)
}

/// Has connections take the second way too.
pub fn join(lab: &Lab) -> Result<()> {
    lab.host("client").ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow").map(drop)
}

fn start(scenario: &Scenario) -> Result<Network> {
    let lab = Lab::start(scenario, Family::V4)?;
    for host in ["client", "server"] {
        // Or each flow would begin with what the one before has learned.
        lab.host(host).set_sysctl("net.ipv4.tcp_no_metrics_save", "1")?;
    }
    let bound = lab.host("client").run(|| Unsent::attach(&Kernel::default()));
    Ok(Network { _bound: bound.context("bound what subflows hold")?, lab })
}
