//! Everything that the core can ask for.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::alarm::Probe;
use super::connections::Ends;
pub use super::connections::Token;
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
    /// Have what begins from a route that is there begin with another window. What uses the route is never without it.
    ChangeRoute(Route),
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
    /// Delete an endpoint whose uplink is held back. A connection that has no other path would lose its last one: who
    /// carries this out looks first, and refuses where there is one. As for deletion, the id is compared first.
    RetireEndpoint(Endpoint),
    /// Set or clear the backup flag of an endpoint: the kernel sends MP_PRIO on its subflows. As for deletion, the id
    /// is compared first.
    SetBackup(Endpoint, bool),
    /// Delete an endpoint that is wanted, so that the kernel tries the subflows that failed once more when it is added
    /// again. Those that live would be closed: who carries this out looks first, and refuses where there is one. As for
    /// deletion, the id is compared first.
    RetrySubflows(Endpoint),
    /// Close the initial subflows that began at an address before it was an endpoint (DEL id 0). The kernel closes all of
    /// them or none, and what has no other path, as in its handshake, would end a minute later though the address came
    /// back: who carries this out looks first, and leaves all alone where there is such a connection.
    CloseInitial(IpAddr),
    /// Read the connections and their subflows from sock_diag.
    LookAtConnections,
    /// Do something for one connection that the daemon manages.
    Manage(Token, Step),
    /// Ask the other end of a way whether it is there. The answer, if there is one, is an event of its own.
    Ask(Probe),
    /// Bear silences up to this length on an interface before they count; zero takes that back.
    Bear(IfIndex, Duration),
}

/// What can be done for one connection (userspace path manager).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a subflow. It is established when the event says so.
    Create(NewSubflow),
    /// Tell the peer that the address is gone (RM_ADDR), and close the subflow: what it has not delivered is sent on
    /// another one at once. With the id of its local address.
    Destroy(Ends, u8),
    /// Set or clear the backup flag of a subflow, and tell the peer (MP_PRIO).
    SetBackup(Ends, bool),
    /// Announce an address to the peer (ADD_ADDR) under an id.
    Announce(NewEndpoint, u8),
    /// Withdraw an announced address (RM_ADDR), which has this id.
    Withdraw(IpAddr, u8),
}

/// A subflow as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubflow {
    /// Where it starts; the kernel picks the port.
    pub local: IpAddr,
    /// The interface that it is bound to.
    pub ifindex: IfIndex,
    /// The id of the local address in this connection.
    pub id: u8,
    /// It stands by from the start, where the kernel takes that.
    pub backup: bool,
    /// Where it goes.
    pub remote: SocketAddr,
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

impl NewEndpoint {
    /// Whether its subflows stand by.
    pub const fn is_backup(&self) -> bool {
        self.flags.contains(EndpointFlags::BACKUP)
    }
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
    /// What is known of the connections.
    Connections,
    /// Whether an uplink is alive, by interface.
    Way(IfIndex),
    /// Something of one connection: what is done, to which local address, and for subflows where they lead, in less room than
    /// a socket address takes: thousands of these are kept.
    Part(Token, Deed, IpAddr, Option<(IpAddr, u16)>),
}

/// The kinds of [`Step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the steps of the same names")]
pub enum Deed {
    Create,
    Destroy,
    SetBackup,
    Announce,
    Withdraw,
}

impl Deed {
    const fn words(self) -> &'static str {
        match self {
            Self::Create | Self::Destroy => "subflow from",
            Self::SetBackup => "priority of the subflow from",
            Self::Announce | Self::Withdraw => "announcement of",
        }
    }
}

impl Step {
    /// What the step is done to.
    pub fn subject(&self, token: Token) -> Subject {
        match self {
            Self::Create(new) => Self::creation(token, new.local, new.remote),
            Self::Destroy(ends, _) => Subject::of(token, Deed::Destroy, ends.local().ip(), ends.remote()),
            Self::SetBackup(ends, _) => Subject::of(token, Deed::SetBackup, ends.local().ip(), ends.remote()),
            Self::Announce(way, _) => Subject::Part(token, Deed::Announce, way.addr, None),
            Self::Withdraw(addr, _) => Subject::Part(token, Deed::Withdraw, *addr, None),
        }
    }

    /// The making of a subflow.
    pub const fn creation(token: Token, local: IpAddr, remote: SocketAddr) -> Subject {
        Subject::of(token, Deed::Create, local, remote)
    }
}

impl Subject {
    const fn of(token: Token, deed: Deed, local: IpAddr, remote: SocketAddr) -> Self {
        Self::Part(token, deed, local, Some((remote.ip(), remote.port())))
    }

    /// The local address that something of a connection is about.
    pub const fn local(&self) -> Option<IpAddr> {
        match self {
            Self::Part(_, _, local, _) => Some(*local),
            _ => None,
        }
    }
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
            Self::Connections => f.write_str("connections"),
            Self::Way(ifindex) => write!(f, "whether interface {ifindex} is alive"),
            Self::Part(token, deed, local, remote) => {
                write!(f, "{} {local}", deed.words())?;
                remote.map_or(Ok(()), |remote| write!(f, " to {}", SocketAddr::from(remote)))?;
                write!(f, " of connection {token:#010x}")
            }
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
            Self::AddRoute(route) | Self::ChangeRoute(route) | Self::DeleteRoute(route) => {
                Subject::Route(route.table, route.dst)
            }
            Self::AddRule(rule) | Self::DeleteRule(rule) => {
                Subject::Rule(rule.family, rule.priority, rule.src)
            }
            Self::AddEndpoint(endpoint) => Subject::Endpoint(endpoint.addr),
            Self::DeleteEndpoint(endpoint)
            | Self::RetireEndpoint(endpoint)
            | Self::SetBackup(endpoint, _) => Subject::Endpoint(endpoint.addr),
            Self::RetrySubflows(endpoint) => Subject::Subflows(endpoint.addr),
            Self::CloseInitial(addr) => Subject::Endpoint(*addr),
            Self::LookAtConnections => Subject::Connections,
            Self::Ask(Probe { ifindex, .. }) | Self::Bear(ifindex, _) => Subject::Way(*ifindex),
            Self::Manage(token, step) => step.subject(*token),
        }
    }
}
