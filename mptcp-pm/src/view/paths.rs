//! What each uplink and each provider delivers, as `status`, `top` and the metrics endpoint show it.
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::figures::Figures;

/// The figures of all uplinks and providers that carried something since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paths {
    /// One for each uplink, also those that are gone, by name. Subflows of no uplink count under `other`.
    pub uplinks: Vec<UplinkFigures>,
    /// One for each provider that the configuration names, by name.
    pub providers: Vec<ProviderFigures>,
    /// What could not be counted.
    pub lost: Losses,
}

/// An uplink and what it delivers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkFigures {
    /// The name of its interface.
    pub name: String,
    /// Its provider, as the configuration names it.
    pub provider: Option<String>,
    /// Its figures.
    pub figures: Figures,
    /// The last 120 moments, the oldest first: one each second while something flows or somebody looks, else none.
    pub history: Vec<Moment>,
}

/// A provider and what all its uplinks deliver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProviderFigures {
    /// Its name.
    pub name: String,
    /// Its figures.
    pub figures: Figures,
}

/// One second of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Payload that the peers acknowledged, bytes per second.
    pub acknowledged_bytes_per_second: f64,
    /// Payload received, bytes per second.
    pub received_bytes_per_second: f64,
    /// The mean smoothed round-trip time of its living subflows.
    pub rtt_seconds: Option<f64>,
}

/// What the kernel's programs had to leave out, since the daemon started; all zeros when all is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Subflows that could not be followed: no memory.
    pub subflows: u64,
    /// Subflows whose beginning was not told: the ring buffer was full.
    pub openings: u64,
    /// Subflows whose last figures were not told.
    pub closings: u64,
    /// Alarms that were not told.
    pub alarms: u64,
}

/// A connection and what it delivers.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionFigures {
    /// Its local token.
    pub token: u32,
    /// Its remote end: that of the initial subflow.
    pub remote: SocketAddr,
    /// Its figures.
    pub figures: Figures,
    /// Its subflows.
    pub subflows: Vec<SubflowFigures>,
}

/// A subflow and what it delivers.
#[derive(Clone, Debug, PartialEq)]
pub struct SubflowFigures {
    /// The name of the interface that it goes over.
    pub uplink: Option<String>,
    /// Its local end.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// Its figures.
    pub figures: Figures,
}
