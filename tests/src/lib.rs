//! The lab: networks of namespaces with emulated links, on which every claim is tested.
//!
//! A [`Scenario`] is a TOML file in `scenarios/`: hosts and routers, the cables between them, and the emulated
//! links, each with a rate, a delay, a queue and whatever else goes wrong on it. [`Lab::start`] builds it on this
//! machine's kernel, in IPv4, IPv6 or both:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use tests::traffic::{self, Job, Options, Protocol, Server};
//! use tests::{Family, Lab, Outage, Scenario};
//!
//! let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
//! let client = lab.host("client");
//! client.ip("mptcp endpoint add 10.2.0.2 dev lte0 subflow")?;
//! let daemon = client.command("mptcp-pm").arg("run").spawn()?; // killed when dropped
//!
//! let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
//! let upload = traffic::start(client, &server, Job::BulkUp, Options::bytes(20 << 20))?;
//! upload.wait_for(5 << 20, Duration::from_secs(10))?;
//! lab.link("wifi").outage(Outage::Silent)?;
//! let report = upload.join()?;
//! assert!(report.intact());
//! println!("stalled for {:?}; {:?}", report.stall.length, lab.link("lte").counters().up);
//! # Ok(())
//! # }
//! ```
//!
//! # The networks
//! | scenario | paths | round trip, rate |
//! |---|---|---|
//! | `two-providers` | `client` by `wifi0` and `lte0`, links `wifi` and `lte` | 20 ms, 50 Mbit/s; 80 ms, 20 Mbit/s |
//! | `two-lines-one-provider` | `client` by `dsl0` and `lte0`, links `dsl` and `lte` | 16 ms, 10 up and 50 down; 50 ms, 10 up and 30 down |
//! | `one-line-two-addresses` | `client` by `dsl0` with two addresses, links `transit-a` and `transit-b` | 20 ms, 40 Mbit/s; 60 ms, 20 Mbit/s |
//! | `site` | `server` by `eth0` and `eth1`, links `alpha` and `beta`; `client` by `access` | 20 ms, 50 Mbit/s; 40 ms, 40 Mbit/s |
//!
//! ```text
//! client wifi0 ═══ lan0 wifi-router wifi ─ emulator ─ wifi internet server0 ═══ eth0 server
//!        (veth: carrier, ARP, ND)   (a TUN device on each side)
//! ```
//! A host has ordinary Ethernet interfaces, one default route per interface with the metric that NetworkManager
//! would give it, and no source rules: those are the daemon's job. Access routers silently drop what comes from
//! addresses that are not their provider's. Hosts have the kernel's default sysctls (no MPTCP setting is touched)
//! unless the scenario's `sysctl` says otherwise. Duplicate address detection is off for speed; `dad = true` in a
//! node turns it on.
//!
//! # Links
//! [`queue`] is the model, pure and seeded; each link has a thread that carries packets between its two devices
//! through two such queues. [`Link::set`] changes anything while packets are under way, [`Link::outage`]
//! interrupts, and [`Link::counters`] tells exactly what became of every IP packet. Packets to link-scope
//! multicast addresses are not carried and not counted.
//!
//! # Nothing is left behind
//! Namespaces have no name: they, and the devices in them, end with the process that holds them, however that
//! ends. Children die with it, too. Scratch folders carry the process id; those of dead processes are removed when
//! the next lab starts. Nothing on the machine itself is changed, except for the real-time priority of the
//! emulator's own threads.
//!
//! # Requirements
//! Root, MPTCP, `/dev/net/tun`, iproute2 and util-linux; [`require`] says what is missing, and a test then fails.

pub mod bench;
pub mod by_hand;
pub mod cgroup;
pub mod congestion;
pub mod crowd;
pub mod daemon;
pub mod demo;
pub mod desktop;
mod emulator;
pub mod faults;
pub mod flaps;
pub mod flood;
pub mod footprint;
mod host;
pub mod http;
pub mod kernel;
mod lab;
mod link;
mod namespace;
pub mod observer;
pub mod pair;
mod process;
pub mod prometheus;
pub mod queue;
mod require;
mod rng;
pub mod running;
pub mod scenario;
mod scratch;
pub mod servers;
pub mod stand_in;
pub mod stillness;
pub mod terminal;
pub mod traffic;
pub mod unit;

pub use emulator::{Direction, keep_time};
pub use host::{Address, Host};
pub use lab::Lab;
pub use link::{Link, LinkCounters, Outage};
pub use namespace::Namespace;
pub use process::{Child, Command};
pub use require::require;
pub use rng::Rng;
pub use scenario::{Family, Scenario};
pub use scratch::{parent as scratch_parent, remove_all as remove_scratch_folders};
