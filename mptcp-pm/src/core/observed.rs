//! What is known of the kernel: the last dump, and every change since.
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::world::{
    Address, Change, Family, IfIndex, Link, Observation, Route, RouteKind, Rule, Snapshot, Sysctl,
};

/// The kernel as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Links by index.
    pub links: BTreeMap<IfIndex, Link>,
    /// Addresses by interface and address.
    pub addresses: BTreeMap<(IfIndex, IpAddr), Address>,
    /// Routes of all tables.
    pub routes: Vec<Route>,
    /// Rules of both families.
    pub rules: Vec<Rule>,
    /// Endpoints, limits and sysctls; none before the first look.
    pub observation: Option<Observation>,
}

/// What a change did to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Something is different now.
    pub changed: bool,
    /// More may be different than is known.
    pub unsure: bool,
}

impl World {
    /// Takes a dump for what it is: everything that is not in it is gone.
    pub fn replace(&mut self, snapshot: Snapshot) {
        self.links = snapshot.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = snapshot.addresses.into_iter().map(|a| ((a.ifindex, a.addr), a)).collect();
        self.routes = snapshot.routes;
        self.rules = snapshot.rules;
    }

    /// Applies one change. Where more may have changed than the kernel tells, what is known has to be read again: it
    /// flushes IPv4 routes in silence when a link goes down or an address goes (`fib_disable_ip` and
    /// `fib_sync_down_addr` in net/ipv4/fib_frontend.c and fib_semantics.c).
    pub fn apply(&mut self, change: Change) -> Effect {
        match change {
            Change::Link(link) => {
                let before = self.links.insert(link.index, link.clone());
                let went_down = before.as_ref().is_some_and(|before| before.up && !link.up);
                Effect { changed: before.as_ref() != Some(&link), unsure: went_down }
            }
            Change::LinkGone(index) => {
                let known = self.links.remove(&index).is_some();
                self.addresses.retain(|(ifindex, _), _| *ifindex != index);
                self.routes.retain(|route| route.hops.iter().all(|hop| hop.ifindex != index));
                Effect { changed: known, unsure: known }
            }
            Change::Address(address) => {
                let before = self.addresses.insert((address.ifindex, address.addr), address.clone());
                Effect { changed: before != Some(address), unsure: false }
            }
            Change::AddressGone(ifindex, addr) => {
                let known = self.addresses.remove(&(ifindex, addr)).is_some();
                Effect { changed: known, unsure: known }
            }
            Change::Route(route) => self.insert_route(route),
            Change::RouteGone(route) => {
                let known = self.routes.len();
                self.routes.retain(|known| !(same_key(known, &route) && same_hops(known, &route)));
                let changed = self.routes.len() != known;
                Effect {
                    changed,
                    unsure: !changed && self.routes.iter().any(|known| same_key(known, &route)),
                }
            }
            Change::Rule(rule) => {
                let changed = !self.rules.contains(&rule);
                if changed {
                    self.rules.push(rule);
                }
                Effect { changed, unsure: false }
            }
            Change::RuleGone(rule) => {
                let known = self.rules.len();
                self.rules.retain(|known| *known != rule);
                Effect { changed: self.rules.len() != known, unsure: false }
            }
        }
    }

    /// The default routes that leave by an interface, best first, without those of tables that are ours.
    pub fn default_routes(&self, ifindex: IfIndex, family: Family) -> Vec<&Route> {
        let mut routes: Vec<&Route> = self
            .routes
            .iter()
            .filter(|route| {
                route.is_default()
                    && route.family() == family
                    && route.kind == RouteKind::Unicast
                    && route.protocol != super::world::OUR_PROTOCOL
                    && route.hops.iter().any(|hop| hop.ifindex == ifindex)
            })
            .collect();
        // The gateway breaks the tie, so that the order of events does not.
        routes.sort_by_key(|route| (route.metric, route.table, route.hops.first().map(|hop| hop.gateway)));
        routes
    }

    /// The addresses of an interface and family, in a stable order.
    pub fn addresses_of(&self, ifindex: IfIndex, family: Family) -> impl Iterator<Item = &Address> {
        self.addresses
            .values()
            .filter(move |address| address.ifindex == ifindex && Family::of(&address.addr) == family)
    }

    /// The present value of a sysctl.
    pub fn sysctl(&self, key: &Sysctl) -> Option<&str> {
        self.observation.as_ref()?.sysctls.get(key).map(String::as_str)
    }

    /// A route with the key of another one has replaced it (`ip route replace` reports nothing else) or has joined
    /// it (IPv6 siblings, `ip route append`): both are kept, and a dump has to tell.
    fn insert_route(&mut self, route: Route) -> Effect {
        if self.routes.contains(&route) {
            return Effect { changed: false, unsure: false };
        }
        self.routes.retain(|known| !(same_key(known, &route) && same_hops(known, &route)));
        let unsure = self.routes.iter().any(|known| same_key(known, &route));
        self.routes.push(route);
        Effect { changed: true, unsure }
    }
}

fn same_key(a: &Route, b: &Route) -> bool {
    a.table == b.table && a.dst == b.dst && a.metric == b.metric
}

fn same_hops(a: &Route, b: &Route) -> bool {
    a.hops.len() == b.hops.len()
        && a.hops.iter().zip(&b.hops).all(|(a, b)| a.ifindex == b.ifindex && a.gateway == b.gateway)
}
