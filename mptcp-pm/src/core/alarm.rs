//! What is measured of subflows and what the detector of silence says of them, in the core's terms.
use std::net::IpAddr;
use std::time::Duration;

pub use mptcp_common::silence::Kind;

use super::connections::{Ends, Token};
use super::world::IfIndex;

/// The figures of one subflow, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its connection.
    pub token: Token,
    /// Its ends.
    pub ends: Ends,
    /// This end has opened it.
    pub opened: bool,
    /// The smoothed round-trip time; none while there is none.
    pub rtt: Option<Duration>,
    /// The least round-trip time of late: without what waits in queues.
    pub least: Option<Duration>,
    /// Payload bytes that the peer has acknowledged.
    pub acked: u64,
    /// Payload bytes that have come.
    pub received: u64,
    /// There is more to send than its window takes.
    pub backlogged: bool,
}

/// Something about the silence of one subflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: Kind,
    /// Its connection.
    pub token: Token,
    /// Its ends.
    pub ends: Ends,
    /// How long it has been silent, or had been.
    pub silence: Duration,
    /// Its round-trip time, smoothed.
    pub rtt: Duration,
    /// The mean deviation of that.
    pub deviation: Duration,
}

/// A question to the other end of a way, which an answer proves to be alive: an ICMP echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The local address that it is sent from.
    pub local: IpAddr,
    /// The interface that it is sent over.
    pub ifindex: IfIndex,
    /// Whom it asks.
    pub remote: IpAddr,
}
