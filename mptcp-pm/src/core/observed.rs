//! What is known of the kernel: the last dump, and every change since.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::hints::Desktop;
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
    /// What the desktop's services tell.
    pub desktop: Desktop,
    /// Addresses over which nobody answers. Only where the kernel manages the paths: the daemon knows of each connection
    /// what to do then.
    pub unanswered: BTreeSet<IpAddr>,
}

impl World {
    /// Takes a dump for what it is: everything that is not in it is gone.
    pub fn replace(&mut self, snapshot: Snapshot) {
        self.links = snapshot.links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses = snapshot.addresses.into_iter().map(|a| ((a.ifindex, a.addr), a)).collect();
        self.routes = snapshot.routes.into_iter().collect();
        self.rules = snapshot.rules;
    }

    /// Applies one change; says whether something that matters is different now. Changes that the kernel makes without a
    /// word are told too (`netlink::mirror`).
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Link(link) => {
                let index = link.index;
                let before = self.links.insert(index, link);
                before.as_ref() != self.links.get(&index)
            }
            Change::LinkGone(index) => {
                self.addresses.retain(|(ifindex, _), _| *ifindex != index);
                self.links.remove(&index).is_some()
            }
            Change::Address(address) => {
                let before = self.addresses.insert((address.ifindex, address.addr), address.clone());
                before != Some(address)
            }
            Change::AddressGone(ifindex, addr) => self.addresses.remove(&(ifindex, addr)).is_some(),
            Change::Route(route) => {
                let matters = self.matters(&route);
                self.routes.insert(route) && matters
            }
            Change::RouteGone(route) => self.routes.remove(&route) && self.matters(&route),
            Change::Rule(rule) if self.rules.contains(&rule) => false,
            Change::Rule(rule) => {
                let is_ours = rule.protocol == OUR_PROTOCOL;
                self.rules.push(rule);
                is_ours
            }
            Change::RuleGone(rule) => {
                let known = self.rules.len();
                self.rules.retain(|known| *known != rule);
                rule.protocol == OUR_PROTOCOL && self.rules.len() != known
            }
        }
    }

    /// Whether there is a route like this one, whatever window it has connections begin with.
    pub fn has_way_of(&self, route: &Route) -> bool {
        self.routes.to(route.dst).any(|known| known.is_way_of(route))
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
        self.links.get(&ifindex).is_some_and(|link| self.class(link) == Class::Vpn)
    }

    /// What sort of interface a link is: by its kind, and where that is ordinary, by what is told of it.
    pub fn class(&self, link: &Link) -> Class {
        match uplink::class(link) {
            Class::Access | Class::Cellular if self.desktop.is_vpn(&link.name) => Class::Vpn,
            class => class,
        }
    }

    /// Whether anything depends on a route: it is a default route or half of one, leads into a VPN, or is ours.
    fn matters(&self, route: &Route) -> bool {
        route.dst.prefix_len() <= 1
            || route.protocol == OUR_PROTOCOL
            || route.hops.iter().any(|hop| self.is_vpn(hop.ifindex))
    }
}
