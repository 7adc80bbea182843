//! World and configuration to the desired state of the kernel.
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::action::NewEndpoint;
use super::observed::World;
use super::owned::Owned;
use super::rest;
use super::routes::{default_net, leaves_by};
use super::subflows::Aims;
use super::uplink::{self, Class, Unused, Uplink};
use super::world::{
    Endpoint, EndpointFlags, Family, Hop, IfIndex, Limits, MAIN_TABLE, OUR_PROTOCOL, Route, RouteKind, Rule,
    Sysctl,
};
use crate::config::{Buffers, Config, Endpoints, Manager, Profile, Role};

/// The tables of the uplinks start here; an uplink's is this plus the index of its interface.
pub const TABLE_BASE: u32 = 0x4d50_0000;

/// The rule that looks up the main table without its default routes for traffic from an uplink's address.
/// After what VPNs and administrators put in place by hand, before the main table's own rule at 32766.
pub const RULE_MAIN: u32 = 30_500;

/// The rule that then looks up the uplink's own table.
pub const RULE_UPLINK: u32 = 30_501;

/// How many subflows and announced addresses every kernel takes (`MPTCP_PM_ADDR_MAX`; 64 from 7.2).
pub const LIMITS_EVERYWHERE: u32 = 8;

/// How many endpoints every kernel holds (255 from 7.2).
pub const ENDPOINTS_EVERYWHERE: usize = 8;

/// The state of the kernel that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Every interface with what was decided for it.
    pub uplinks: Vec<Uplink>,
    /// Our endpoints.
    pub endpoints: Vec<NewEndpoint>,
    /// Endpoints of ours whose uplink is lost and that stay because there is no other: a connection whose last
    /// subflow is closed dies after `net.mptcp.close_timeout`, one that is left alone goes on when the path returns.
    pub stranded: Vec<Endpoint>,
    /// Endpoints of ours whose uplink is held back: they go when no connection needs them.
    pub retiring: Vec<Endpoint>,
    /// How many endpoints the kernel holds, ours and others.
    pub room: usize,
    /// The limits.
    pub limits: Option<Limits>,
    /// What is wanted of connections that the daemon manages.
    pub aims: Aims,
    /// Our rules.
    pub rules: Vec<Rule>,
    /// Our routes.
    pub routes: Vec<Route>,
    /// The sysctls that have to be other than they are or were.
    pub sysctls: BTreeMap<Sysctl, String>,
}

/// What was learned of this kernel by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How many endpoints it holds.
    pub endpoints: usize,
    /// The greatest limit that it takes.
    pub limits: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { endpoints: usize::from(u8::MAX), limits: 64 }
    }
}

/// What is wanted.
pub fn desire(world: &World, config: &Config, owned: &Owned, capacity: Capacity) -> Desired {
    let mut uplinks = uplink::find(world, config);
    let beside_vpn = separate_vpns(&mut uplinks, world, config);
    let best = |uplinks: &[Uplink]| {
        let preferred = preferred(uplinks);
        preferred.iter().find(|uplink| !uplink.held).or(preferred.first()).map(|uplink| uplink.ifindex)
    };
    rest::mark(&mut uplinks, world, config, best);
    let places = places(&uplinks);
    let others = others(&places, world, owned);
    let by_others = config.endpoints == Endpoints::NetworkManager;
    let stranded =
        if beside_vpn || by_others { Vec::new() } else { stranded(&uplinks, &places, world, owned) };
    let retiring = if by_others { Vec::new() } else { retiring(&places, &uplinks, world, owned, config) };
    let room = match by_others {
        false => capacity.endpoints.saturating_sub(others.len() + stranded.len() + retiring.len()),
        true => 0,
    };
    let best = best_of_each(&uplinks);
    let flags = |uplink: &Uplink, family| flags(uplink, family, best(uplink, family), config);
    let endpoints = endpoints(&places, &uplinks, &others, config, room, flags);
    let used: Vec<&Uplink> = uplinks.iter().filter(|uplink| uplink.unused.is_none()).collect();
    let routes = used.iter().flat_map(|uplink| routes(uplink, world, config, &best)).collect();
    let limits = Some(limits(endpoints.len() + made_by_others(&others), world, config, owned, capacity));
    Desired {
        room: capacity.endpoints,
        aims: aims(&places, &uplinks, world, config, limits),
        limits,
        rules: places.iter().flat_map(rules).collect(),
        routes,
        sysctls: sysctls(&used, world, config),
        endpoints,
        stranded,
        retiring,
        uplinks,
    }
}

/// The sysctls that matter for these links; the core asks for them.
pub fn relevant_sysctls(world: &World) -> Vec<Sysctl> {
    let names = world.links.values().filter(|link| !link.loopback).map(|link| link.name.clone());
    Sysctl::SINGLE
        .into_iter()
        .chain(std::iter::once("all".to_owned()).chain(names).map(Sysctl::ReversePathFilter))
        .collect()
}

/// The routing table of an uplink.
pub const fn table_of(ifindex: IfIndex) -> u32 {
    TABLE_BASE.wrapping_add(ifindex)
}

/// While a VPN carries the default route, connections begin inside it, and the kernel's path manager would add
/// subflows beside it: the other uplinks stand aside. The same the other way round. Says whether a VPN carries.
fn separate_vpns(uplinks: &mut [Uplink], world: &World, config: &Config) -> bool {
    if config.vpn {
        return false;
    }
    let carrier = vpn_with_default_route(uplinks, world).map(|vpn| vpn.name.clone());
    for uplink in uplinks.iter_mut().filter(|uplink| uplink.unused.is_none()) {
        uplink.unused = match &carrier {
            Some(name) if uplink.class != Class::Vpn => Some(Unused::deliberate(format!(
                "stands aside: {name} is a VPN and carries the default route (share-with-vpn = true lifts this)"
            ))),
            None if uplink.class == Class::Vpn => {
                Some(Unused::deliberate("stands aside: it is a VPN, and the default route is beside it"))
            }
            _ => None,
        };
    }
    carrier.is_some()
}

/// The VPN that new connections go through. In the main table the metrics decide; a default route in another table
/// is how VPNs overrule the main one by rules. A pair of halves of the address space counts as a default route.
fn vpn_with_default_route<'a>(uplinks: &'a [Uplink], world: &World) -> Option<&'a Uplink> {
    let covers = |route: &&Route| {
        route.dst.prefix_len() <= 1 && route.kind == RouteKind::Unicast && route.protocol != OUR_PROTOCOL
    };
    let covering: Vec<&Route> = world.routes.iter().filter(covers).collect();
    uplinks.iter().filter(|uplink| uplink.class == Class::Vpn).find(|vpn| {
        covering.iter().any(|route| {
            leaves_by(route, vpn.ifindex)
                && (route.table != MAIN_TABLE || route.dst.prefix_len() == 1 || is_best(route, world))
        })
    })
}

fn is_best(route: &Route, world: &World) -> bool {
    !world.routes.to(route.dst).any(|other| other.table == route.table && other.metric < route.metric)
}

/// An address in use and the uplink that it is used on.
struct Place {
    addr: IpAddr,
    ifindex: IfIndex,
}

/// The addresses in use, best uplink first. An address that stands on two interfaces is used on the better one:
/// the kernel holds one endpoint for it.
fn places(uplinks: &[Uplink]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for uplink in preferred(uplinks) {
        for addr in uplink.families.iter().flat_map(|access| access.addresses.iter().copied()) {
            if !places.iter().any(|place| place.addr == addr) {
                places.push(Place { addr, ifindex: uplink.ifindex });
            }
        }
    }
    places
}

/// The uplinks in use, best first: those that reach the Internet, then by role, then what costs nothing, then as the
/// routing table prefers them.
fn preferred(uplinks: &[Uplink]) -> Vec<&Uplink> {
    let mut used: Vec<&Uplink> = uplinks.iter().filter(|uplink| uplink.unused.is_none()).collect();
    used.sort_by_key(|uplink| {
        let order = (uplink.role.map_or(1, rank), uplink.metered, uplink.metric(), uplink.ifindex);
        (uplink.is_idle(), order)
    });
    used
}

/// The best uplink of a family: the best one of all, unless it rests in this family.
fn best(uplinks: &[Uplink], family: Family) -> Option<IfIndex> {
    let preferred = preferred(uplinks);
    let awake = |uplink: &&&Uplink| !uplink.rests_in(family);
    let other = || preferred.iter().filter(awake).find(|uplink| uplink.access(family).is_some());
    let first = preferred.first().filter(awake).or_else(other).or(preferred.first());
    first.map(|uplink| uplink.ifindex)
}

/// Whether an uplink has no endpoint while another one carries. Where the daemon manages the connections, that concerns
/// their subflows and not the endpoints, which do nothing for them.
fn has_no_endpoint(uplink: &Uplink, config: &Config) -> bool {
    uplink.held && config.manager != Some(Manager::Daemon)
}

/// See [`Desired::retiring`].
fn retiring(
    places: &[Place],
    uplinks: &[Uplink],
    world: &World,
    owned: &Owned,
    config: &Config,
) -> Vec<Endpoint> {
    let retires =
        |ifindex| uplinks.iter().any(|uplink| uplink.ifindex == ifindex && has_no_endpoint(uplink, config));
    let here = |endpoint: &&Endpoint| {
        places.iter().any(|place| place.addr == endpoint.addr && retires(place.ifindex))
    };
    let seen = world.observation.iter().flat_map(|seen| &seen.endpoints);
    seen.filter(|endpoint| owned.has(endpoint)).filter(here).cloned().collect()
}

/// Our endpoints, as many as the kernel's table has room for.
fn endpoints(
    places: &[Place],
    uplinks: &[Uplink],
    others: &[&Endpoint],
    config: &Config,
    room: usize,
    flags: impl Fn(&Uplink, Family) -> EndpointFlags,
) -> Vec<NewEndpoint> {
    let free = |place: &&NewEndpoint| !others.iter().any(|other| other.addr == place.addr && other.port == 0);
    let has_none =
        |ifindex| uplinks.iter().any(|uplink| uplink.ifindex == ifindex && has_no_endpoint(uplink, config));
    let wanted = ways(places, uplinks, flags).into_iter().filter(|way| !has_none(way.ifindex));
    wanted.filter(|way| free(&way)).take(room).collect()
}

/// How the addresses are used, best uplink first.
fn ways(
    places: &[Place],
    uplinks: &[Uplink],
    flags: impl Fn(&Uplink, Family) -> EndpointFlags,
) -> Vec<NewEndpoint> {
    let flags_of = |ifindex, family| {
        let uplink = uplinks.iter().find(|uplink| uplink.ifindex == ifindex);
        uplink.map_or(EndpointFlags::SUBFLOW, |uplink| flags(uplink, family))
    };
    let way = |&Place { addr, ifindex }: &Place| NewEndpoint {
        addr,
        ifindex,
        flags: flags_of(ifindex, Family::of(&addr)),
    };
    places.iter().map(way).collect()
}

/// What is wanted of connections that the daemon manages: where those with endpoints have one policy for all, the service
/// type decides which paths carry, and only what the owner has said of an uplink holds for each. An address of an uplink
/// beside the one that is used (a further one of its network, a former privacy address) stands for that one. What is on
/// a lost uplink is lost; what is anywhere else on this machine is no business of ours.
fn aims(
    places: &[Place],
    uplinks: &[Uplink],
    world: &World,
    config: &Config,
    limits: Option<Limits>,
) -> Aims {
    let ways = ways(places, uplinks, |uplink, family| wishes(uplink, family, config));
    let mut aims = Aims { ways, limits, ..Aims::default() };
    for place in places {
        let Some(uplink) = uplinks.iter().find(|uplink| uplink.ifindex == place.ifindex) else { continue };
        if uplink.flags.is_none() && uplink.rests_in(Family::of(&place.addr)) {
            aims.resting.insert(place.addr, uplink.held);
        }
    }
    let is_lost = |uplink: &&Uplink| uplink.unused.as_ref().is_some_and(|unused| unused.lost);
    let lost: BTreeSet<IfIndex> = uplinks.iter().filter(is_lost).map(|uplink| uplink.ifindex).collect();
    for address in world.addresses.values() {
        let on = places.iter().filter(|place| place.ifindex == address.ifindex);
        let family = Family::of(&address.addr);
        let alike: Vec<&Place> = on.filter(|place| Family::of(&place.addr) == family).collect();
        let near = alike.iter().find(|place| address.network().is_some_and(|net| net.contains(&place.addr)));
        if places.iter().any(|place| place.addr == address.addr) {
            continue;
        } else if let Some(place) = near.or_else(|| alike.first()) {
            aims.aliases.insert(address.addr, place.addr);
        } else if !lost.contains(&address.ifindex) {
            aims.elsewhere.insert(address.addr);
        }
    }
    aims
}

/// The sysctls that say who manages the paths of new connections: the kernel has one of them or both.
const IN_CHARGE: [(Sysctl, &str, &str); 2] =
    [(Sysctl::PathManager, "kernel", "userspace"), (Sysctl::PathManagerType, "0", "1")];

impl Desired {
    /// New connections are to be the daemon's, where it is able to manage them; while that is not known yet, whose they
    /// are stays as it is.
    pub fn entrust(&mut self, able: bool) {
        for (key, _, daemon) in IN_CHARGE {
            if able && let Some(value) = self.sysctls.get_mut(&key) {
                daemon.clone_into(value);
            } else {
                self.sysctls.remove(&key);
            }
        }
    }
}

/// Whether a sysctl says who manages the paths of new connections.
pub fn is_in_charge(key: &Sysctl) -> bool {
    IN_CHARGE.iter().any(|(known, ..)| known == key)
}

/// Whether this puts the daemon in charge.
pub fn entrusts(key: &Sysctl, value: &str) -> bool {
    IN_CHARGE.iter().any(|(known, _, daemon)| known == key && *daemon == value)
}

/// Endpoints that are not ours. One of them with an address that we want serves as well as ours, but for those that
/// the kernel made (`implicit`): ours takes their place.
fn others<'a>(places: &[Place], world: &'a World, owned: &Owned) -> Vec<&'a Endpoint> {
    let makes_way = |endpoint: &Endpoint| {
        endpoint.flags.contains(EndpointFlags::IMPLICIT)
            && places.iter().any(|place| place.addr == endpoint.addr)
    };
    let seen = world.observation.iter().flat_map(|seen| &seen.endpoints);
    seen.filter(|endpoint| !owned.has(endpoint) && !makes_way(endpoint)).collect()
}

fn made_by_others(others: &[&Endpoint]) -> usize {
    others.iter().filter(|endpoint| !endpoint.flags.contains(EndpointFlags::IMPLICIT)).count()
}

const fn rank(role: Role) -> u8 {
    match role {
        Role::Primary => 0,
        Role::Secondary => 1,
        Role::Backup => 2,
        Role::Off => 3,
    }
}

/// `light`: one path carries, the others stand by. `heavy`: all carry; what costs money stands by. `site`: the
/// addresses are announced, and the clients decide. A role in the configuration overrules the profile; what rests stands
/// by whatever its role.
fn flags(uplink: &Uplink, family: Family, best: bool, config: &Config) -> EndpointFlags {
    if let Some(flags) = uplink.flags {
        return flags;
    }
    let stands_by = uplink.rests_in(family) || is_to_stand_by(uplink, best, config);
    if stands_by { base(config) | EndpointFlags::BACKUP } else { base(config) }
}

/// Whether an uplink is to stand by while it works as well as the others.
fn is_to_stand_by(uplink: &Uplink, best: bool, config: &Config) -> bool {
    match (uplink.flags, uplink.role, config.profile) {
        (Some(flags), ..) => flags.contains(EndpointFlags::BACKUP),
        (_, Some(Role::Primary | Role::Off), _) => false,
        (_, Some(Role::Backup), _) => true,
        (_, Some(Role::Secondary) | None, Profile::Light) => !best,
        (_, Some(Role::Secondary), Profile::Heavy | Profile::Site) => false,
        (_, None, Profile::Heavy | Profile::Site) => uplink.metered,
    }
}

/// The best uplink of each family, by the order that they have now.
fn best_of_each(uplinks: &[Uplink]) -> impl Fn(&Uplink, Family) -> bool + use<> {
    let best = Family::BOTH.map(|family| (family, best(uplinks, family)));
    move |uplink, family| best.contains(&(family, Some(uplink.ifindex)))
}

const fn base(config: &Config) -> EndpointFlags {
    match config.profile {
        Profile::Light | Profile::Heavy => EndpointFlags::SUBFLOW,
        Profile::Site => EndpointFlags::SIGNAL,
    }
}

/// The same without the profile: what stands by whatever an application wants.
fn wishes(uplink: &Uplink, family: Family, config: &Config) -> EndpointFlags {
    if let Some(flags) = uplink.flags {
        return flags;
    }
    let unwanted = uplink.role.map_or(uplink.metered, |role| role == Role::Backup);
    let stands_by = unwanted || uplink.rests_in(family);
    if stands_by { base(config) | EndpointFlags::BACKUP } else { base(config) }
}

/// See [`Desired::stranded`]. What the owner switched off, or what would leak beside a VPN, is not lost but unwanted.
fn stranded(uplinks: &[Uplink], places: &[Place], world: &World, owned: &Owned) -> Vec<Endpoint> {
    let unwanted = |ifindex| {
        uplinks.iter().any(|uplink| {
            uplink.ifindex == ifindex && uplink.unused.as_ref().is_some_and(|unused| !unused.lost)
        })
    };
    let ours = world.observation.iter().flat_map(|seen| &seen.endpoints).filter(|seen| owned.has(seen));
    ours.filter(|endpoint| {
        let family = Family::of(&endpoint.addr);
        !places.iter().any(|place| Family::of(&place.addr) == family)
            && !endpoint.ifindex.is_some_and(unwanted)
    })
    .cloned()
    .collect()
}

/// Room for every uplink and for what the peer announces, never smaller than what was there before us.
fn limits(endpoints: usize, world: &World, config: &Config, owned: &Owned, capacity: Capacity) -> Limits {
    let seen = world.observation.as_ref().and_then(|seen| seen.limits);
    let before = owned.limits.as_ref().map(|replaced| replaced.before).or(seen);
    let accepted = match config.profile {
        Profile::Light => 2,
        Profile::Heavy | Profile::Site => 4,
    };
    let accepted = accepted.max(before.map_or(0, |limits| limits.add_addr_accepted));
    let accepted = config.limits.add_addr_accepted.unwrap_or(accepted).min(capacity.limits);
    let needed = u32::try_from(endpoints).unwrap_or(u32::MAX).saturating_add(accepted);
    let needed = needed.max(LIMITS_EVERYWHERE).max(before.map_or(0, |limits| limits.subflows));
    Limits {
        subflows: config.limits.subflows.unwrap_or(needed).min(capacity.limits),
        add_addr_accepted: accepted,
    }
}

/// Two rules for each address: specific routes of the main table first (the local network, containers, VPNs), then
/// the uplink's own default route.
fn rules(place: &Place) -> [Rule; 2] {
    let rule = |priority, table, suppress_prefix_len| Rule {
        family: Family::of(&place.addr),
        priority,
        src: Some(IpNet::from(place.addr)),
        table,
        suppress_prefix_len,
        protocol: OUR_PROTOCOL,
        foreign_selectors: false,
    };
    [rule(RULE_MAIN, MAIN_TABLE, Some(0)), rule(RULE_UPLINK, table_of(place.ifindex), None)]
}

/// The uplink's table: its default route, and a refusal for every network that a VPN leads to, so that no subflow
/// that is bound to the uplink goes there beside the VPN.
fn routes(
    uplink: &Uplink,
    world: &World,
    config: &Config,
    best: impl Fn(&Uplink, Family) -> bool,
) -> Vec<Route> {
    uplink
        .families
        .iter()
        .flat_map(|access| {
            let default = Route {
                table: table_of(uplink.ifindex),
                dst: default_net(access.family),
                metric: metric_in_table(access.family),
                protocol: OUR_PROTOCOL,
                kind: RouteKind::Unicast,
                hops: vec![access.hop.clone()],
                source: None,
                initial_window: initial_window(uplink, best(uplink, access.family), config),
            };
            let refusals = vpn_networks(uplink, access.family, world).into_iter().map(|dst| Route {
                dst,
                kind: refusal(access.family),
                hops: vec![Hop { ifindex: uplink.ifindex, gateway: None, onlink: false }],
                initial_window: None,
                ..default.clone()
            });
            refusals.chain([default.clone()]).collect::<Vec<_>>()
        })
        .collect()
}

/// What keeps TCP from connecting through an uplink. Routes that refuse do not stop a socket that is bound to an
/// interface: IPv4 then takes the destination for one on the link (`ip_route_output_key_hash_rcu` in
/// net/ipv4/route.c), IPv6 looks further, since they do not lead over the interface. To a broadcast TCP does not
/// connect (`tcp_v4_connect`); IPv6 has none, and there the attempt ends at this machine, which refuses it.
const fn refusal(family: Family) -> RouteKind {
    match family {
        Family::V4 => RouteKind::Broadcast,
        Family::V6 => RouteKind::Local,
    }
}

/// IPv6 turns a metric of 0 into 1024 (`IP6_RT_PRIO_USER`): say it, so that what is read equals what was asked for.
const fn metric_in_table(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

fn vpn_networks(uplink: &Uplink, family: Family, world: &World) -> Vec<IpNet> {
    if uplink.class == Class::Vpn {
        return Vec::new();
    }
    let mut networks: Vec<IpNet> = world
        .routes
        .iter()
        .filter(|route| {
            route.family() == family
                && route.table == MAIN_TABLE
                && route.kind == RouteKind::Unicast
                && route.dst.prefix_len() > 1
                && !is_link_scoped(&route.dst)
                && route.hops.iter().any(|hop| world.is_vpn(hop.ifindex))
        })
        .map(|route| route.dst)
        .collect();
    networks.sort();
    networks.dedup();
    networks
}

/// Networks that mean another link on every link: fe80::/10, ff00::/8, 169.254.0.0/16.
fn is_link_scoped(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(addr) => addr.is_link_local() || addr.is_multicast(),
        IpAddr::V6(addr) => addr.is_unicast_link_local() || addr.is_multicast(),
    }
}

/// MPTCP on, the kernel's path manager in charge, and no strict reverse path filter where several ways are in use.
fn sysctls(used: &[&Uplink], world: &World, config: &Config) -> BTreeMap<Sysctl, String> {
    let mut wanted = BTreeMap::new();
    if used.is_empty() {
        return wanted;
    }
    let fixed = [(Sysctl::Enabled, "1"), (Sysctl::PathManager, "kernel")];
    wanted.extend(fixed.into_iter().map(|(key, value)| (key, value.to_owned())));
    if world.sysctl(&Sysctl::PathManager).is_none() {
        wanted.insert(Sysctl::PathManagerType, "0".into());
    }
    // One path does as well with what the kernel begins with.
    if config.buffers == Buffers::Fit && used.len() > 1 {
        let greater = world.sysctl(&Sysctl::ReceiveBuffer).and_then(greater_buffer);
        wanted.extend(greater.map(|value| (Sysctl::ReceiveBuffer, value)));
    }
    let everywhere = strictness(world, "all");
    for uplink in used {
        if everywhere.max(strictness(world, &uplink.name)) == 1 {
            wanted.insert(Sysctl::ReversePathFilter(uplink.name.clone()), "2".into());
        }
    }
    wanted
}

/// What subflows begin with that stand by, segments. When a path fails, the other one first repeats what the peer has
/// already and could not acknowledge any more (`__mptcp_retransmit_pending_data`, net/mptcp/protocol.c): what was under way to
/// it, 60 KB over 50 Mbit/s and 20 ms. The packet scheduler hands over 64 KB at a time (`MPTCP_SEND_BURST_SIZE`), so
/// that this goes in one round trip and not in three. The route says it because an option of the socket
/// (`TCP_BPF_IW`) would not last: what has been idle falls back to what its route says (`tcp_cwnd_restart`).
const INITIAL_WINDOW: u32 = 45;

/// Only where the owner has paths stand by: whatever else begins from an uplink's address finds the route too. What rests
/// for a moment keeps the route that it has.
fn initial_window(uplink: &Uplink, best: bool, config: &Config) -> Option<u32> {
    (config.buffers == Buffers::Fit && is_to_stand_by(uplink, best, config)).then_some(INITIAL_WINDOW)
}

/// What the receive buffer of a connection begins with: twice what is under way over 100 Mbit/s and 160 ms, since the
/// kernel counts its bookkeeping too (`tcp_adv_win_scale`). It takes no memory before data is there.
const RECEIVE_BUFFER: u64 = 4 << 20;

/// MPTCP's window grows as the application reads, and data that waits for a slower path keeps it from reading: until
/// then a short transfer is held up by the window, not by its paths (`mptcp_rcv_space_adjust`, net/mptcp/protocol.c).
/// Never beyond the greatest size, and never smaller than it was. The kernel separates the three sizes by tabs.
fn greater_buffer(present: &str) -> Option<String> {
    let sizes: Vec<u64> = present.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [least, initial, greatest] = sizes[..] else { return None };
    Some(format!("{least}\t{}\t{greatest}", initial.max(RECEIVE_BUFFER.min(greatest))))
}

fn strictness(world: &World, interface: &str) -> u8 {
    let key = Sysctl::ReversePathFilter(interface.to_owned());
    world.sysctl(&key).and_then(|value| value.parse().ok()).unwrap_or(0)
}
