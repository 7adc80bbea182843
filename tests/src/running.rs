//! A lab in which the daemon runs and connections are open.
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::daemon::{Daemon, PATIENCE};
use crate::kernel::{self, Subflow};
use crate::traffic::{Job, Options, Protocol, Server, Transfer, start};
use crate::{Family, Host, Lab, Scenario};

/// A configuration for the scenario `two-providers`: all uplinks carry, and each has the name of its provider.
pub const NAMED_PROVIDERS: &str = r#"
profile = "heavy"
[[uplink]]
match = { name = "wifi0" }
provider = "Alpha"
[[uplink]]
match = { name = "lte0" }
provider = "Beta"
"#;

/// What gives the client of the scenario `two-providers` its way over the Wi-Fi, as a DHCP client does it.
pub const WIFI_ROUTE: &str = "route add default via 10.1.0.1 dev wifi0 proto dhcp metric 600";

/// A lab, the daemon on its host `client`, and an MPTCP server on its host `server`.
pub struct Running {
    /// Ends before the network does.
    pub daemon: Daemon,
    /// The server of all connections.
    pub server: Server,
    /// The network.
    pub lab: Lab,
}

impl Running {
    /// Starts all three.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(scenario: &str, family: Family, config: &str) -> Result<Self> {
        let lab = Lab::start(&Scenario::load(scenario)?, family)?;
        Self::in_lab(lab, config)
    }

    /// Starts daemon and server in a lab.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn in_lab(lab: Lab, config: &str) -> Result<Self> {
        let daemon = Daemon::start(lab.host("client"), config)?;
        let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
        Ok(Self { daemon, server, lab })
    }

    /// The host with the daemon.
    pub fn client(&self) -> &Arc<Host> {
        self.lab.host("client")
    }

    /// Another address for the Wi-Fi interface, as a DHCP client does it: the old one goes, and the routes with it.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn renew(&self) -> Result<()> {
        let lines = ["address del 10.1.0.2/24 dev wifi0", "address add 10.1.0.77/24 dev wifi0", WIFI_ROUTE];
        self.client().ip_batch(&[], &lines.map(str::to_owned))
    }

    /// Opens a connection that exchanges messages until it is dropped.
    ///
    /// # Errors
    /// When it is not open in time.
    pub fn talk(&self) -> Result<Transfer> {
        let transfer = start(self.client(), &self.server, Job::RequestResponse, talk_options())?;
        goes_on(&transfer)?;
        Ok(transfer)
    }

    /// Waits until the endpoints are these, sorted, without ids: `10.1.0.2 subflow dev wifi0`.
    ///
    /// # Errors
    /// With those that there are, and the daemon's log.
    pub fn await_endpoints(&self, expected: &[&str]) -> Result<()> {
        let look = || kernel::endpoints(self.client());
        self.daemon.await_that(&format!("endpoints {expected:?}"), look, |seen| seen == expected).map(drop)
    }

    /// Waits until the client's established subflows begin at these addresses.
    ///
    /// # Errors
    /// With those that there are, and the daemon's log.
    pub fn await_subflows(&self, expected: &[&str]) -> Result<Vec<Subflow>> {
        let look = || kernel::subflows(self.client());
        let from = |seen: &Vec<Subflow>| {
            seen.iter().map(|subflow| subflow.local.ip().to_string()).collect::<Vec<_>>()
        };
        let reached = self
            .daemon
            .await_that(&format!("subflows from {expected:?}"), look, |seen| from(seen) == expected);
        reached.with_context(|| self.joins())
    }

    /// What both ends say of joining, for an error.
    fn joins(&self) -> String {
        let server = self.lab.host("server");
        let counters = |host| {
            kernel::counters(host).map(|mut all| {
                all.retain(|(name, value)| *value > 0 && (name.contains("Join") || name.contains("Rm")));
                all
            })
        };
        let (here, there) = (counters(self.client()), counters(server));
        format!("client: {here:?}\nserver: {there:?}\nserver's subflows: {:#?}", kernel::subflows(server))
    }

    /// Waits until the status says that all is as wanted, and that this holds.
    ///
    /// # Errors
    /// With the status that there is, and the daemon's log.
    pub fn await_status(&self, expected: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let settled = |status: &Value| status["settled"] == true && holds(status);
        // Asking makes the daemon look, and it looks no oftener than every 25 ms: asked all the time, it would
        // never have looked since the last question.
        let look = || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            self.daemon.status()
        };
        self.daemon.await_that(expected, look, settled)
    }

    /// Waits until the status says of an interface why it is not used, with these words among others.
    ///
    /// # Errors
    /// With the status that there is, and the daemon's log.
    pub fn await_reason(&self, interface: &str, words: &str) -> Result<()> {
        let says = |status: &Value| reason(status, interface).is_some_and(|reason| reason.contains(words));
        self.await_status(&format!("{interface} unused: {words}"), says).map(drop)
    }
}

/// The scenario `two-providers`, in which the client has no addresses: something else is to give it some.
///
/// # Errors
/// When the lab does not start.
pub fn bare(family: Family) -> Result<Lab> {
    let lab = Lab::start(&Scenario::load("two-providers")?, family)?;
    for interface in ["wifi0", "lte0"] {
        lab.host("client").ip(&format!("address flush dev {interface}"))?;
    }
    Ok(lab)
}

/// Why an interface is not used, according to a status.
pub fn reason<'a>(status: &'a Value, interface: &str) -> Option<&'a str> {
    uplink(status, interface)?["unused"]["reason"].as_str()
}

/// What a status says of an interface.
pub fn uplink<'a>(status: &'a Value, interface: &str) -> Option<&'a Value> {
    status["uplinks"].as_array()?.iter().find(|uplink| uplink["name"] == interface)
}

/// Waits until a connection has got further.
///
/// # Errors
/// When it has not in time, or has ended.
pub fn goes_on(transfer: &Transfer) -> Result<()> {
    transfer.wait_for(transfer.bytes() + 2000, PATIENCE).context("the connection does not go on")
}

/// Messages without end, and no more than a few hundred a second.
pub fn talk_options() -> Options {
    Options {
        interval: std::time::Duration::from_millis(5),
        deadline: std::time::Duration::from_secs(300),
        ..Options::messages(1_000_000, 200, 200)
    }
}
