//! The kernel's state as routing netlink told it so far: turns messages into changes, also those that the kernel
//! makes without a word; pure.
use super::convert::{Message, Object};
use crate::core::world::{Address, Change, Family, IfIndex, Link, MAIN_TABLE, Route, Rule, Snapshot};

/// A copy of what the kernel holds.
///
/// The kernel does not report everything, so that who only applies its messages goes wrong:
/// - IPv4 routes vanish silently with the link that they lead over being set down, with the last IPv4 address of
///   that link, and (before 6.6) with the address that they suggest; IPv6 ones too when
///   `net.ipv6.route.skip_notify_on_dev_down` is set.
/// - IPv6 routes silently lose the suggested source address that is removed.
/// - A route that replaces another is reported, the one that was replaced is not.
/// - IPv6 routes of one destination and metric are merged into one with several next hops, and taken apart again.
///
/// The first two follow from the message that causes them. Where the last two leave a doubt, [`Mirror::in_doubt`]
/// asks for a dump. What says nothing new (an IPv6 lifetime that is renewed, link statistics) is no change.
#[derive(Debug, Default)]
pub struct Mirror {
    seen: Snapshot,
    in_doubt: bool,
}

impl Mirror {
    /// What the kernel holds, as far as it is known.
    pub fn snapshot(&self) -> &Snapshot {
        &self.seen
    }

    /// Whether [`Mirror::reconcile`] is due.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Takes in one message.
    pub fn apply(&mut self, message: Message) -> Vec<Change> {
        let Message { object, gone, replaces } = message;
        match (object, gone) {
            (Object::Link(link), false) => self.link(link),
            (Object::Link(link), true) => self.link_gone(link),
            (Object::Address(address), false) => self.address(address),
            (Object::Address(address), true) => self.address_gone(&address),
            (Object::Route(route), false) => self.route(route, replaces),
            (Object::Route(route), true) => self.route_gone(route),
            (Object::Rule(rule), false) => self.rule(rule),
            (Object::Rule(rule), true) => self.rule_gone(rule),
        }
    }

    /// Takes in a dump: what it shows otherwise than the messages did is a change.
    pub fn reconcile(&mut self, mut dump: Snapshot) -> Vec<Change> {
        let old = std::mem::take(&mut self.seen);
        // Of a link that came while the dump was made, all will be told again.
        dump.addresses.retain(|address| dump.links.iter().any(|link| link.index == address.ifindex));
        deduplicate(&mut dump.routes);
        deduplicate(&mut dump.rules);
        *self = Self { seen: dump, in_doubt: false };
        // The dump may have overtaken the kernel, which says that a link is down before it removes the routes.
        self.sweep(|_, _| false);
        let new = &self.seen;
        let is_there = |index| new.links.iter().any(|link| link.index == index);
        let mut changes = Vec::new();
        changes.extend(missing(&old.rules, &new.rules).map(Change::RuleGone));
        changes.extend(missing(&old.routes, &new.routes).map(Change::RouteGone));
        changes.extend(
            old.addresses
                .iter()
                .filter(|old| !new.addresses.iter().any(|new| same_address(old, new)))
                .map(|old| Change::AddressGone(old.ifindex, old.addr)),
        );
        changes.extend(old.links.iter().map(|l| l.index).filter(|l| !is_there(*l)).map(Change::LinkGone));
        changes.extend(missing(&new.links, &old.links).map(Change::Link));
        changes.extend(missing(&new.addresses, &old.addresses).map(Change::Address));
        changes.extend(missing(&new.routes, &old.routes).map(Change::Route));
        changes.extend(missing(&new.rules, &old.rules).map(Change::Rule));
        changes
    }

    fn link(&mut self, link: Link) -> Vec<Change> {
        let mut changes = Vec::new();
        if !self.seen.links.contains(&link) {
            self.seen.links.retain(|old| old.index != link.index);
            self.seen.links.push(link.clone());
            self.in_doubt |= !link.up && self.has_multipath_over(link.index);
            changes.push(Change::Link(link));
        }
        // Also when the link says nothing new: a dump may have shown it before its routes were removed.
        changes.extend(self.sweep(|_, _| false));
        changes
    }

    fn link_gone(&mut self, link: Link) -> Vec<Change> {
        let Snapshot { links, addresses, .. } = &mut self.seen;
        let before = links.len() + addresses.len();
        links.retain(|old| old.index != link.index);
        addresses.retain(|address| address.ifindex != link.index);
        let known = links.len() + addresses.len() < before;
        let mut changes: Vec<_> = known.then_some(Change::LinkGone(link.index)).into_iter().collect();
        // IPv4 gives up a route as a whole when one of its next hops loses its device (`fib_sync_down_dev`).
        let over_it = |r: &Route| r.hops.iter().any(|hop| hop.ifindex == link.index);
        changes.extend(self.remove_routes(|r| r.family() == Family::V4 && over_it(r)));
        changes.extend(self.sweep(|_, ifindex| ifindex == link.index));
        changes
    }

    fn address(&mut self, address: Address) -> Vec<Change> {
        if self.seen.addresses.contains(&address) {
            return Vec::new();
        }
        let same = |old: &Address| same_address(old, &address) && old.prefix_len == address.prefix_len;
        self.seen.addresses.retain(|old| !same(old));
        self.seen.addresses.push(address.clone());
        vec![Change::Address(address)]
    }

    fn address_gone(&mut self, gone: &Address) -> Vec<Change> {
        let before = self.seen.addresses.len();
        let same = |old: &Address| same_address(old, gone) && old.prefix_len == gone.prefix_len;
        self.seen.addresses.retain(|old| !same(old));
        let mut changes = Vec::new();
        if self.seen.addresses.len() < before {
            // The same IPv4 address may be there a second time, with another prefix length.
            let other = self.seen.addresses.iter().find(|old| same_address(old, gone));
            let is_gone = Change::AddressGone(gone.ifindex, gone.addr);
            changes.push(other.map_or(is_gone, |other| Change::Address(other.clone())));
        }
        changes.extend(match Family::of(&gone.addr) {
            Family::V4 => self.without_v4_address(gone),
            Family::V6 => self.without_v6_source(gone),
        });
        changes
    }

    fn route(&mut self, route: Route, replaces: bool) -> Vec<Change> {
        if self.seen.routes.contains(&route) {
            return Vec::new();
        }
        let rivals: Vec<_> = self.seen.routes.iter().filter(|old| same_key(old, &route)).cloned().collect();
        let merged = route.family() == Family::V6 && route.hops.len() > 1 && !rivals.is_empty();
        if merged || (replaces && rivals.len() > 1) {
            self.in_doubt = true;
            return Vec::new();
        }
        let mut changes = Vec::new();
        if replaces {
            self.seen.routes.retain(|old| !rivals.contains(old));
            changes.extend(rivals.into_iter().map(Change::RouteGone));
        }
        self.seen.routes.push(route.clone());
        changes.push(Change::Route(route));
        changes
    }

    fn route_gone(&mut self, route: Route) -> Vec<Change> {
        let before = self.seen.routes.len();
        self.seen.routes.retain(|old| *old != route);
        if self.seen.routes.len() < before {
            return vec![Change::RouteGone(route)];
        }
        self.in_doubt |= self.seen.routes.iter().any(|old| same_key(old, &route));
        Vec::new()
    }

    fn rule(&mut self, rule: Rule) -> Vec<Change> {
        if self.seen.rules.contains(&rule) {
            return Vec::new();
        }
        self.seen.rules.push(rule.clone());
        vec![Change::Rule(rule)]
    }

    fn rule_gone(&mut self, rule: Rule) -> Vec<Change> {
        if rule.foreign_selectors {
            // Such rules may look alike here while the kernel tells them apart.
            self.in_doubt = true;
            return Vec::new();
        }
        let before = self.seen.rules.len();
        self.seen.rules.retain(|old| *old != rule);
        (self.seen.rules.len() < before).then_some(Change::RuleGone(rule)).into_iter().collect()
    }

    /// What the kernel removes silently with an IPv4 address (`fib_inetaddr_event`, `fib_sync_down_addr` in
    /// `net/ipv4/`).
    fn without_v4_address(&mut self, gone: &Address) -> Vec<Change> {
        let addresses = &self.seen.addresses;
        let is_v4 = |a: &&Address| Family::of(&a.addr) == Family::V4;
        let is_last = !addresses.iter().filter(is_v4).any(|a| a.ifindex == gone.ifindex);
        let is_elsewhere = addresses.iter().any(|a| a.addr == gone.addr);
        let mut changes = Vec::new();
        if !is_elsewhere {
            changes = self.remove_routes(|r| r.table == MAIN_TABLE && r.source == Some(gone.addr));
        }
        if is_last {
            changes.extend(self.sweep(|family, ifindex| family == Family::V4 && ifindex == gone.ifindex));
            self.in_doubt |= self.has_multipath_over(gone.ifindex);
        }
        changes
    }

    /// What the kernel changes silently with an IPv6 address (`rt6_remove_prefsrc` in `net/ipv6/route.c`).
    fn without_v6_source(&mut self, gone: &Address) -> Vec<Change> {
        let suggests =
            |r: &Route| r.source == Some(gone.addr) && r.hops.iter().any(|hop| hop.ifindex == gone.ifindex);
        let mut changes = self.remove_routes(suggests);
        for change in changes.clone() {
            if let Change::RouteGone(route) = change {
                changes.extend(self.route(Route { source: None, ..route }, false));
            }
        }
        changes
    }

    /// Whether the loss of this link or its addresses may leave an IPv4 route with some next hops dead. Which of
    /// them are is remembered by the kernel alone, which removes the route with the last one.
    fn has_multipath_over(&self, ifindex: IfIndex) -> bool {
        self.seen.routes.iter().any(|route| {
            let over_it = route.hops.iter().any(|hop| hop.ifindex == ifindex);
            over_it && route.hops.len() > 1 && route.family() == Family::V4
        })
    }

    /// Removes the routes all of whose next hops are dead: their link is down, or `dead` says so.
    fn sweep(&mut self, dead: impl Fn(Family, IfIndex) -> bool) -> Vec<Change> {
        let down: Vec<_> = self.seen.links.iter().filter(|link| !link.up).map(|link| link.index).collect();
        self.remove_routes(|route| {
            let is_dead = |ifindex| down.contains(&ifindex) || dead(route.family(), ifindex);
            !route.hops.is_empty() && route.hops.iter().all(|hop| is_dead(hop.ifindex))
        })
    }

    fn remove_routes(&mut self, is_gone: impl Fn(&Route) -> bool) -> Vec<Change> {
        let (gone, kept) = std::mem::take(&mut self.seen.routes).into_iter().partition(is_gone);
        self.seen.routes = kept;
        Vec::into_iter(gone).map(Change::RouteGone).collect()
    }
}

fn same_address(a: &Address, b: &Address) -> bool {
    (a.ifindex, a.addr) == (b.ifindex, b.addr)
}

/// What the kernel tells routes apart by; more than one route may have it.
fn same_key(a: &Route, b: &Route) -> bool {
    (a.table, a.dst, a.metric) == (b.table, b.dst, b.metric)
}

/// What is in `these` and not in `those`.
fn missing<'a, T: Clone + PartialEq>(these: &'a [T], those: &'a [T]) -> impl Iterator<Item = T> + 'a {
    these.iter().filter(|this| !those.contains(this)).cloned()
}

/// Routes and rules that the kernel tells apart by what the types of the core do not hold count as one.
fn deduplicate<T: Clone + PartialEq>(list: &mut Vec<T>) {
    let mut kept: Vec<T> = Vec::with_capacity(list.len());
    list.drain(..).for_each(|item| {
        if !kept.contains(&item) {
            kept.push(item)
        }
    });
    *list = kept;
}

#[cfg(test)]
mod tests;
