//! Which attempts a change in the world gives a new chance.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::action::Subject;
use super::observed::World;
use super::policy;
use super::world::{Change, IfIndex, OUR_PROTOCOL, Sysctl};

/// What a change is about.
pub(super) struct Cause {
    ifindex: Option<IfIndex>,
    name: Option<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Cause {
    /// What a change is about, to be asked before it is applied; none for routes and rules of our own, which are the
    /// echo of what we did, or undone by somebody else: no reason to do it again at once.
    pub(super) fn of(change: &Change, world: &World) -> Option<Self> {
        let ifindex = match change {
            Change::Link(link) => Some(link.index),
            Change::LinkGone(ifindex) | Change::AddressGone(ifindex, _) => Some(*ifindex),
            Change::Address(address) => Some(address.ifindex),
            Change::Route(route) | Change::RouteGone(route) if route.protocol == OUR_PROTOCOL => return None,
            Change::Route(route) | Change::RouteGone(route) => route.hops.first().map(|hop| hop.ifindex),
            Change::Rule(_) | Change::RuleGone(_) => return None,
        };
        let mut addresses: BTreeSet<IpAddr> = world
            .addresses
            .keys()
            .filter(|(known, _)| Some(*known) == ifindex)
            .map(|(_, addr)| *addr)
            .collect();
        if let Change::Address(address) = change {
            addresses.insert(address.addr);
        }
        let name = ifindex.and_then(|ifindex| world.links.get(&ifindex)).map(|link| link.name.clone());
        Some(Self { ifindex, name, addresses })
    }

    /// Whether an attempt may go otherwise now.
    pub(super) fn concerns(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Endpoint(addr) | Subject::Subflows(addr) => self.addresses.contains(addr),
            Subject::Rule(_, _, src) => src.is_some_and(|src| self.addresses.contains(&src.addr())),
            Subject::Route(table, _) => self.ifindex.map(policy::table_of) == Some(*table),
            Subject::Sysctl(Sysctl::ReversePathFilter(name)) => self.name.as_ref() == Some(name),
            Subject::Limits
            | Subject::Sysctl(_)
            | Subject::State
            | Subject::Knowledge
            | Subject::Connections
            | Subject::Way(_)
            | Subject::Part(..) => false,
        }
    }
}
