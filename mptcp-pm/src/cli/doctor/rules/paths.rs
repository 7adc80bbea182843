//! Whether there are several ways out, and whether the path manager is told to use them.
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::{Facts, Finding, Rule, found};
use crate::core::action::NewEndpoint;
use crate::core::observed::World;
use crate::core::uplink::Uplink;
use crate::core::world::{Endpoint, EndpointFlags, Family, IfIndex, Route, RouteKind, Sysctl};

pub(super) const RULES: &[Rule] =
    &[one_way_out, limits, missing_endpoints, gone_addresses, other_ways, reverse_path_filter];

/// What makes subflows of its own accord.
const MAKES_SUBFLOWS: EndpointFlags =
    EndpointFlags::SUBFLOW.union(EndpointFlags::FULLMESH).union(EndpointFlags::LAMINAR);

/// The uplinks, as the daemon would use them.
fn used(facts: &Facts) -> impl Iterator<Item = &Uplink> {
    facts.desired.uplinks.iter().filter(|uplink| uplink.unused.is_none())
}

/// How many paths one connection can have: the addresses in use of the family that has more.
fn paths(facts: &Facts) -> usize {
    let mut count = BTreeMap::new();
    for access in used(facts).flat_map(|uplink| &uplink.families) {
        *count.entry(access.family).or_insert(0) += access.addresses.len();
    }
    count.into_values().max().unwrap_or(0)
}

fn one_way_out(facts: &Facts) -> Vec<Finding> {
    let others: Vec<String> = facts
        .desired
        .uplinks
        .iter()
        .filter(|uplink| facts.world.links.get(&uplink.ifindex).is_some_and(|link| !link.loopback))
        .filter_map(|uplink| Some(format!("{} {}", uplink.name, uplink.unused.as_ref()?.reason)))
        .collect();
    let others = if others.is_empty() { "no other interface".into() } else { others.join("; ") };
    let names: Vec<&str> = used(facts).map(|uplink| uplink.name.as_str()).collect();
    let finding = match names.as_slice() {
        [] => format!("no interface leads to the Internet: {others}"),
        [only] => format!("only {only} leads to the Internet, so there is no second path: {others}"),
        several => format!("{} have no two addresses of one family: {others}", several.join(" and ")),
    };
    let which = if names.is_empty() { "an" } else { "a second" };
    let remedy = format!("connect {which} access; `ip route` then shows a default route for it");
    found(paths(facts) < 2, || Finding::problem("uplinks", finding, remedy))
}

fn limits(facts: &Facts) -> Vec<Finding> {
    let Some(limits) = facts.world.observation.as_ref().and_then(|seen| seen.limits) else {
        return Vec::new();
    };
    let needed = paths(facts).saturating_sub(1).max(1);
    let too_few = usize::try_from(limits.subflows).is_ok_and(|subflows| subflows < needed);
    let finding =
        format!("the limits allow {} subflows beside the initial one, {needed} can be", limits.subflows);
    let remedy = format!("mptcp-pm limits set --subflows {needed}");
    found(too_few, || Finding::problem("limits", finding, remedy))
}

/// Connections begin where the routing table leads: it takes endpoints at the other addresses.
fn missing_endpoints(facts: &Facts) -> Vec<Finding> {
    if paths(facts) < 2 {
        return Vec::new();
    }
    let mut begins = HashSet::new();
    let missing: Vec<&NewEndpoint> = facts
        .desired
        .endpoints
        .iter()
        .filter(|wanted| {
            let family = Family::of(&wanted.addr);
            way_out(&facts.world, family, None) != Some(wanted.ifindex) || !begins.insert(family)
        })
        .filter(|wanted| !endpoints(&facts.world).any(|endpoint| serves(endpoint, wanted)))
        .collect();
    let Some(first) = missing.first() else { return Vec::new() };
    let addresses: Vec<String> = missing.iter().map(|wanted| wanted.addr.to_string()).collect();
    let finding = format!("no endpoint makes use of {}", addresses.join(", "));
    // It may know of more: what costs money, what has fallen silent, what rests on battery.
    if facts.programs.daemon {
        let remedy = "mptcp-pm status says what the daemon has against it";
        return vec![Finding::note("endpoints", finding, remedy)];
    }
    let flag = if first.flags.contains(EndpointFlags::SIGNAL) { "--signal" } else { "--subflow" };
    let dev = facts.world.links.get(&first.ifindex).map_or("IFACE", |link| link.name.as_str());
    let remedy = format!("start the daemon, or `mptcp-pm endpoint add {} --dev {dev} {flag}`", first.addr);
    vec![Finding::problem("endpoints", finding, remedy)]
}

fn serves(endpoint: &Endpoint, wanted: &NewEndpoint) -> bool {
    let makes = wanted.flags.intersects(MAKES_SUBFLOWS) && endpoint.flags.intersects(MAKES_SUBFLOWS);
    let signals = (wanted.flags & endpoint.flags).contains(EndpointFlags::SIGNAL);
    endpoint.addr == wanted.addr && (makes || signals)
}

fn endpoints(world: &World) -> impl Iterator<Item = &Endpoint> {
    world.observation.iter().flat_map(|seen| &seen.endpoints)
}

/// Endpoints that make subflows, each with the interface of its address, if the machine has it.
fn makers(world: &World) -> impl Iterator<Item = (&Endpoint, Option<IfIndex>)> {
    let interface = |addr| world.addresses.keys().find(|(_, known)| *known == addr).map(|(index, _)| *index);
    endpoints(world)
        .filter(|endpoint| endpoint.flags.intersects(MAKES_SUBFLOWS))
        .map(move |endpoint| (endpoint, interface(endpoint.addr)))
}

/// The daemon keeps the last endpoint of a lost uplink on purpose.
fn gone_addresses(facts: &Facts) -> Vec<Finding> {
    let gone = makers(&facts.world).filter(|(_, interface)| interface.is_none() && !facts.programs.daemon);
    gone.map(|(endpoint, _)| {
        let finding =
            format!("endpoint {} is for {}, which this machine has not", endpoint.id, endpoint.addr);
        Finding::problem("endpoint-address", finding, format!("mptcp-pm endpoint delete {}", endpoint.id))
    })
    .collect()
}

/// Does what leaves from an endpoint's address leave by its interface?
fn other_ways(facts: &Facts) -> Vec<Finding> {
    if paths(facts) < 2 {
        return Vec::new();
    }
    let here = makers(&facts.world).filter_map(|(endpoint, interface)| Some((endpoint, interface?)));
    here.filter_map(|(endpoint, interface)| astray(endpoint, interface, &facts.world)).collect()
}

fn astray(endpoint: &Endpoint, interface: IfIndex, world: &World) -> Option<Finding> {
    let name = |index| world.links.get(&index).map_or("another interface", |link| link.name.as_str());
    let (Endpoint { id, addr, .. }, family, expected) =
        (endpoint, Family::of(&endpoint.addr), name(interface));
    if world.default_routes(interface, family).is_empty() {
        let finding = format!("no default route leaves by {expected}, where endpoint {id} is");
        let remedy = format!("connect {expected} again; `ip route` then shows a default route for it");
        return Some(Finding::problem("endpoint-route", finding, remedy));
    }
    let taken = endpoint.ifindex.or_else(|| way_out(world, family, Some(*addr)));
    let taken = name(taken.filter(|taken| *taken != interface)?);
    let finding = format!("what is sent from endpoint {id} ({addr}) leaves by {taken}, not by {expected}");
    let remedy = format!(
        "start the daemon, or delete it and `mptcp-pm endpoint add {addr} --dev {expected} --subflow`"
    );
    Some(Finding::problem("endpoint-route", finding, remedy))
}

/// The interface that an unbound packet to the Internet leaves by, as the rules have it; without a source where none
/// is chosen yet. Rules that look at more than
/// the source are passed over.
fn way_out(world: &World, family: Family, source: Option<IpAddr>) -> Option<IfIndex> {
    let mut rules: Vec<_> = world.rules.iter().filter(|rule| rule.family == family).collect();
    rules.sort_by_key(|rule| rule.priority);
    rules
        .into_iter()
        .filter(|rule| !rule.foreign_selectors && rule.suppress_prefix_len.is_none())
        .filter(|rule| rule.src.is_none_or(|net| source.is_some_and(|source| net.contains(&source))))
        .find_map(|rule| default_route(world, family, rule.table))
        .and_then(|route| Some(route.hops.first()?.ifindex))
}

fn default_route(world: &World, family: Family, table: u32) -> Option<&Route> {
    let routes = world.routes.iter().filter(|route| {
        let fits = route.table == table && route.family() == family;
        fits && route.is_default() && route.kind == RouteKind::Unicast
    });
    routes.min_by_key(|route| route.metric)
}

fn reverse_path_filter(facts: &Facts) -> Vec<Finding> {
    let several = used(facts).count() > 1;
    let strict = facts.desired.sysctls.keys().filter_map(|key| match key {
        Sysctl::ReversePathFilter(name) if several => Some((name, key)),
        _ => None,
    });
    strict
        .map(|(name, key)| {
            let finding = format!("{name} drops packets whose way back is another interface (rp_filter 1)");
            Finding::problem("rp-filter", finding, format!("sysctl {key}=2"))
        })
        .collect()
}
