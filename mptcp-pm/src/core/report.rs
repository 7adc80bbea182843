//! What the core knows and intends, in words for people and machines.
use serde::{Deserialize, Serialize};

use super::uplink::Uplink;
use super::world::{Endpoint, Limits};
use crate::config::Manager;

/// The core's part of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The profile in force.
    pub profile: String,
    /// Who manages the paths of new connections: `daemon`, or `kernel`, by means of the endpoints.
    #[serde(default)]
    pub manager: Manager,
    /// Every interface, used or not, with the reason.
    pub uplinks: Vec<Uplink>,
    /// The endpoints in the kernel.
    pub endpoints: Vec<EndpointReport>,
    /// The limits in the kernel.
    pub limits: Option<Limits>,
    /// What is not as it is wanted, and why.
    pub findings: Vec<Finding>,
    /// Nothing is left to do.
    pub settled: bool,
}

/// An endpoint and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Its interface's name.
    pub interface: Option<String>,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// This daemon's.
    Ours,
    /// This daemon's; its uplink is lost, and it stays because no other could take its connections.
    Stranded,
    /// Somebody else's.
    Foreign,
    /// The kernel's own (`implicit`).
    Kernel,
}

/// Something that is not as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    pub object: String,
    /// What is wrong.
    pub reason: String,
    /// Whether the daemon has stopped trying.
    pub given_up: bool,
}
