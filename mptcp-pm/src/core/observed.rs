//! What is known of the kernel: the last dump, and every change since.
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::routes::{Routes, default_net, leaves_by};
use super::uplink::{self, Class};
use super::world::{
    Address, Change, Family, IfIndex, Link, MAIN_TABLE, OUR_PROTOCOL, Observation, Route, RouteKind, Rule,
    Snapshot, Sysctl,
};

/// The kernel as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Links by index.
    pub links: BTreeMap<IfIndex, Link>,
    /// Addresses by interface and address.
    pub addresses: BTreeMap<(IfIndex, IpAddr), Address>,
    /// Routes of all tables.
    pub routes: Routes,
    /// Rules of both families.
    pub rules: Vec<Rule>,
    /// Endpoints, limits and sysctls; none before the first look.
    pub observation: Option<Observation>,
}

/// What a change did to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Something that matters is different now.
    pub changed: bool,
    /// More may be different than is known.
    pub unsure: bool,
}

impl Effect {
    const NONE: Self = Self { changed: false, unsure: false };
}

impl World {
    /// Takes a dump for what it is: everything that is not in it is gone.
    pub fn replace(&mut self, snapshot: Snapshot) {
        self.links = snapshot.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = snapshot.addresses.into_iter().map(|a| ((a.ifindex, a.addr), a)).collect();
        self.routes = snapshot.routes.into_iter().collect();
        self.rules = snapshot.rules;
    }

    /// Applies one change. Where more may have changed than the kernel tells, what is known has to be read again: it
    /// flushes IPv4 routes in silence when a link goes down or an address goes (`fib_disable_ip` and
    /// `fib_sync_down_addr` in net/ipv4/fib_frontend.c and fib_semantics.c). That holds also for a change that is
    /// known already: a dump may have overtaken it, and not what was told before it.
    pub fn apply(&mut self, change: Change) -> Effect {
        match change {
            Change::Link(link) => {
                let (index, up) = (link.index, link.up);
                let before = self.links.insert(index, link);
                let went_down = !up && before.as_ref().is_some_and(|before| before.up);
                let unsure = went_down || (!up && self.routes.iter().any(|route| leaves_by(route, index)));
                Effect { changed: before.as_ref() != self.links.get(&index), unsure }
            }
            Change::LinkGone(index) => {
                let known = self.links.remove(&index).is_some();
                self.addresses.retain(|(ifindex, _), _| *ifindex != index);
                self.routes.remove_link(index);
                Effect { changed: known, unsure: true }
            }
            Change::Address(address) => {
                let before = self.addresses.insert((address.ifindex, address.addr), address.clone());
                Effect { changed: before != Some(address), unsure: false }
            }
            Change::AddressGone(ifindex, addr) => {
                let known = self.addresses.remove(&(ifindex, addr)).is_some();
                Effect { changed: known, unsure: true }
            }
            Change::Route(route) => self.route(route),
            Change::RouteGone(route) => self.route_gone(&route),
            Change::Rule(rule) if self.rules.contains(&rule) => Effect::NONE,
            Change::Rule(rule) => {
                let changed = rule.protocol == OUR_PROTOCOL;
                self.rules.push(rule);
                Effect { changed, unsure: false }
            }
            Change::RuleGone(rule) => {
                let known = self.rules.len();
                self.rules.retain(|known| *known != rule);
                let changed = rule.protocol == OUR_PROTOCOL && self.rules.len() != known;
                Effect { changed, unsure: false }
            }
        }
    }

    /// The default routes that leave by an interface, best first: those of the main table before those that only rules
    /// lead to, without those of tables that are ours.
    pub fn default_routes(&self, ifindex: IfIndex, family: Family) -> Vec<&Route> {
        let mut routes: Vec<&Route> = self
            .routes
            .to(default_net(family))
            .filter(|route| {
                route.kind == RouteKind::Unicast
                    && route.protocol != OUR_PROTOCOL
                    && leaves_by(route, ifindex)
            })
            .collect();
        // The gateway breaks the tie, so that the order of events does not.
        routes.sort_by_key(|route| {
            (route.table != MAIN_TABLE, route.metric, route.table, route.hops.first().map(|hop| hop.gateway))
        });
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

    /// The links that are VPNs or tunnels.
    pub fn is_vpn(&self, ifindex: IfIndex) -> bool {
        self.links.get(&ifindex).is_some_and(|link| uplink::class(link) == Class::Vpn)
    }

    /// A route with the key of another one has replaced it (`ip route replace` reports nothing else) or has joined
    /// it (IPv6 siblings, `ip route append`): both are kept, and a dump has to tell.
    fn route(&mut self, route: Route) -> Effect {
        let matters = self.matters(&route) || self.routes.like(&route).iter().any(|r| self.matters(r));
        let changed = self.routes.insert(route.clone()) && matters;
        Effect { changed, unsure: changed && self.routes.like(&route).len() > 1 }
    }

    fn route_gone(&mut self, route: &Route) -> Effect {
        let matters = self.matters(route) || self.routes.like(route).iter().any(|r| self.matters(r));
        let removed = self.routes.remove(route);
        let unsure = matters && !removed && !self.routes.like(route).is_empty();
        Effect { changed: removed && matters, unsure }
    }

    /// Whether anything depends on a route: it is a default route or half of one, leads into a VPN, or is ours.
    fn matters(&self, route: &Route) -> bool {
        route.dst.prefix_len() <= 1
            || route.protocol == OUR_PROTOCOL
            || route.hops.iter().any(|hop| self.is_vpn(hop.ifindex))
    }
}
