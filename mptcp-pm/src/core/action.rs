//! Everything that the core can ask for.
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::owned::Owned;
use super::world::{Endpoint, EndpointFlags, Family, IfIndex, Limits, Route, Rule, Sysctl};

/// One thing to do. Each is answered by an [`Event`](super::event::Event) before the next one is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dump links, addresses, routes and rules.
    Resync,
    /// Read endpoints, limits and these sysctls.
    Observe(Vec<Sysctl>),
    /// Write the state file: what is ours, known before it is made.
    Save(Owned),
    /// Write a sysctl.
    WriteSysctl(Sysctl, String),
    /// Set the path manager's limits.
    SetLimits(Limits),
    /// Add a route. That its place is taken is a failure ([`FailureKind::Exists`](super::event::FailureKind)): what
    /// stands there may be another one.
    AddRoute(Route),
    /// Delete a route.
    DeleteRoute(Route),
    /// Add a rule. That its place is taken is a failure, as for a route.
    AddRule(Rule),
    /// Delete a rule.
    DeleteRule(Rule),
    /// Add an endpoint; the kernel assigns the id.
    AddEndpoint(NewEndpoint),
    /// Delete an endpoint: the kernel closes its subflows and withdraws its address from the peers. The id may have
    /// passed to another endpoint since it was read: who carries this out compares first, and leaves that one alone.
    DeleteEndpoint(Endpoint),
    /// Set or clear the backup flag of an endpoint: the kernel sends MP_PRIO on its subflows. As for deletion, the id
    /// is compared first.
    SetBackup(Endpoint, bool),
    /// Delete an endpoint and add it again: the kernel then tries the subflows that failed once more. Those that live
    /// would be closed: who carries this out looks first, and refuses where there is one. As for deletion, the id is
    /// compared first.
    RetrySubflows(Endpoint, NewEndpoint),
    /// Close the initial subflows that began at an address before it was an endpoint (DEL id 0).
    CloseInitial(IpAddr),
}

/// An endpoint as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewEndpoint {
    /// The local address.
    pub addr: IpAddr,
    /// The interface that its subflows are bound to.
    pub ifindex: IfIndex,
    /// Its flags.
    pub flags: EndpointFlags,
}

/// What an action is done to: two actions with the same subject are attempts at the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An endpoint, by address.
    Endpoint(IpAddr),
    /// The subflows of an endpoint, by address.
    Subflows(IpAddr),
    /// The limits.
    Limits,
    /// A sysctl.
    Sysctl(Sysctl),
    /// A rule, by family, priority and source.
    Rule(Family, u32, Option<IpNet>),
    /// A route, by table and destination.
    Route(u32, IpNet),
    /// The state file.
    State,
    /// What is known of the kernel.
    Knowledge,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(addr) => write!(f, "endpoint {addr}"),
            Self::Subflows(addr) => write!(f, "subflows from {addr}"),
            Self::Limits => f.write_str("limits of the path manager"),
            Self::Sysctl(key) => write!(f, "sysctl {key}"),
            Self::Rule(_, priority, Some(src)) => write!(f, "rule {priority} from {src}"),
            Self::Rule(_, priority, None) => write!(f, "rule {priority} from all"),
            Self::Route(table, dst) => write!(f, "route {dst} in table {table}"),
            Self::State => f.write_str("state file"),
            Self::Knowledge => f.write_str("state of the kernel"),
        }
    }
}

impl Action {
    /// What the action is done to.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Resync | Self::Observe(_) => Subject::Knowledge,
            Self::Save(_) => Subject::State,
            Self::WriteSysctl(key, _) => Subject::Sysctl(key.clone()),
            Self::SetLimits(_) => Subject::Limits,
            Self::AddRoute(route) | Self::DeleteRoute(route) => Subject::Route(route.table, route.dst),
            Self::AddRule(rule) | Self::DeleteRule(rule) => {
                Subject::Rule(rule.family, rule.priority, rule.src)
            }
            Self::AddEndpoint(endpoint) => Subject::Endpoint(endpoint.addr),
            Self::DeleteEndpoint(endpoint) | Self::SetBackup(endpoint, _) => Subject::Endpoint(endpoint.addr),
            Self::RetrySubflows(endpoint, _) => Subject::Subflows(endpoint.addr),
            Self::CloseInitial(addr) => Subject::Endpoint(*addr),
        }
    }
}
