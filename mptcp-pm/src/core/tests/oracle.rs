//! What should be there, said independently of the policy's own code: address by address.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::kernel::{Kernel, strict};
use crate::config::{Config, Endpoints, Manager, Profile, Role};
use crate::core::hints::Hint;
use crate::core::world::{
    Address, Endpoint, EndpointFlags, Family, Hop, IfIndex, Link, OUR_PROTOCOL, Route, RouteKind, Sysctl,
};

/// An address in use, its interface, its default route's hop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// No Internet, role, cost, metric, index: lower is better.
    rank: (bool, u8, bool, u32, IfIndex),
    pub addr: IpAddr,
    pub ifindex: IfIndex,
}

/// All that is wrong with the kernel's state.
pub fn faults_in(kernel: &Kernel, config: &Config) -> Vec<String> {
    let uses = uses(kernel, config);
    let mut wrong = Vec::new();
    endpoints(kernel, config, &uses, &mut wrong);
    rules(kernel, &uses, &mut wrong);
    routes(kernel, config, &mut wrong);
    settings(kernel, config, &uses, &mut wrong);
    wrong
}

/// The addresses in use, best first, each once.
pub fn uses(kernel: &Kernel, config: &Config) -> Vec<Use> {
    let mut all = Vec::new();
    for address in &kernel.addresses {
        let Some(link) = kernel.links.get(&address.ifindex) else { continue };
        let family = Family::of(&address.addr);
        let metric = best_metric(kernel, address.ifindex, family);
        if metric.is_none() || !works(kernel, config, link) || !is_chosen(kernel, address) {
            continue;
        }
        let metrics = Family::BOTH.into_iter().filter(|family| has_address(kernel, link.index, *family));
        let metric = metrics.filter_map(|family| best_metric(kernel, link.index, family)).min();
        let role = role(kernel, config, link);
        let rank = match role {
            Some(Role::Primary) => 0,
            Some(Role::Backup) => 2,
            _ => 1,
        };
        let metered = is_metered(kernel, link);
        let mut without = Family::BOTH.into_iter().filter(|family| has_way(kernel, link, *family));
        let idle = without.all(|family| is_idle(kernel, config, link, family));
        let rank = (idle, rank, metered, metric.unwrap_or(u32::MAX), link.index);
        all.push(Use { rank, addr: address.addr, ifindex: link.index });
    }
    all.sort();
    let mut seen = BTreeSet::new();
    all.retain(|one| seen.insert(one.addr));
    all
}

fn hint<'a>(kernel: &'a Kernel, link: &Link) -> Option<&'a Hint> {
    kernel.desktop.interfaces.get(&link.name)
}

fn role(kernel: &Kernel, config: &Config, link: &Link) -> Option<Role> {
    let configured = config.rule_for(link).and_then(|rule| rule.role);
    configured.or(hint(kernel, link).and_then(|hint| hint.wishes.role))
}

fn is_metered(kernel: &Kernel, link: &Link) -> bool {
    let told = hint(kernel, link).and_then(|hint| hint.metered);
    told.map_or(link.hardware == 0xfffe && link.kind.is_none(), |told| told.yes)
}

fn has_way(kernel: &Kernel, link: &Link, family: Family) -> bool {
    has_address(kernel, link.index, family) && best_metric(kernel, link.index, family).is_some()
}

fn is_without(kernel: &Kernel, link: &Link, family: Family) -> bool {
    hint(kernel, link).is_some_and(|hint| hint.connectivity(family).is_without())
}

/// Whether NetworkManager sees no Internet over an interface, and does not say that of all.
fn is_idle(kernel: &Kernel, config: &Config, link: &Link, family: Family) -> bool {
    let reaches = |other: &Link| {
        works(kernel, config, other) && has_way(kernel, other, family) && !is_without(kernel, other, family)
    };
    is_without(kernel, link, family) && kernel.links.values().any(reaches)
}

/// Whether an interface is held back: as a radio, or because it costs money.
fn is_held(kernel: &Kernel, config: &Config, link: &Link, uses: &[Use]) -> bool {
    let role = role(kernel, config, link);
    let radio = link.name.starts_with("wlan") || link.name.starts_with("wwan");
    let on_battery = kernel.desktop.on_battery == Some(true) && config.holds_back();
    let wanted = matches!(role, Some(Role::Primary | Role::Secondary));
    let spared = config.profile == Profile::Light && is_metered(kernel, link) && role.is_none();
    ((on_battery && radio && !wanted) || spared) && uses[0].ifindex != link.index
}

fn has_address(kernel: &Kernel, ifindex: IfIndex, family: Family) -> bool {
    kernel
        .addresses
        .iter()
        .any(|a| a.ifindex == ifindex && Family::of(&a.addr) == family && is_chosen(kernel, a))
}

fn is_vpn(link: &Link) -> bool {
    link.kind.as_deref() == Some("wireguard")
}

/// Whether an interface is meant to be used, and can be.
fn works(kernel: &Kernel, config: &Config, link: &Link) -> bool {
    link.up && link.carrier && !is_unwanted(kernel, config, link)
}

pub fn is_unwanted(kernel: &Kernel, config: &Config, link: &Link) -> bool {
    let rule = config.rule_for(link);
    let in_profile = role(kernel, config, link).is_some() && rule.is_none_or(|rule| rule.role.is_none());
    let named = rule.is_some_and(|rule| rule.is_explicit()) || in_profile;
    let off = role(kernel, config, link) == Some(Role::Off);
    let odd = is_vpn(link) || link.name.starts_with("veth");
    let aside = !config.vpn && vpn_carries(kernel) != is_vpn(link);
    off || (odd && !named) || aside
}

/// Whether new connections go through a VPN.
pub fn vpn_carries(kernel: &Kernel) -> bool {
    let over_vpn = |route: &&Route| {
        route.protocol != OUR_PROTOCOL
            && route.hops.iter().any(|hop| kernel.links.get(&hop.ifindex).is_some_and(is_vpn))
    };
    kernel.routes.iter().filter(over_vpn).any(|route| match route.dst.prefix_len() {
        0 => !kernel.routes.iter().any(|r| r.dst == route.dst && r.table == 254 && r.metric < route.metric),
        1 => true,
        _ => false,
    })
}

fn best_metric(kernel: &Kernel, ifindex: IfIndex, family: Family) -> Option<u32> {
    defaults(kernel, ifindex, family).map(|(metric, _)| metric).min()
}

fn defaults(kernel: &Kernel, ifindex: IfIndex, family: Family) -> impl Iterator<Item = (u32, Hop)> {
    kernel.routes.iter().filter_map(move |route| {
        let hop = route.hops.iter().find(|hop| hop.ifindex == ifindex)?;
        let fits = route.dst.prefix_len() == 0 && route.family() == family && route.protocol != OUR_PROTOCOL;
        fits.then(|| (route.metric, hop.clone()))
    })
}

/// Whether it is the address of its network that is used.
fn is_chosen(kernel: &Kernel, address: &Address) -> bool {
    let usable = |a: &&Address| a.global && !a.tentative;
    let local = |a: &Address| a.addr.to_string().starts_with("fd");
    let alike = kernel.addresses.iter().filter(|other| {
        other.ifindex == address.ifindex && Family::of(&other.addr) == Family::of(&address.addr)
    });
    if !usable(&address) || (local(address) && alike.clone().filter(usable).any(|other| !local(other))) {
        return false;
    }
    let order = |a: &Address| (a.deprecated, a.secondary, !a.temporary, a.addr);
    alike.filter(usable).filter(|a| a.network() == address.network()).all(|a| order(a) >= order(address))
}

fn endpoints(kernel: &Kernel, config: &Config, uses: &[Use], wrong: &mut Vec<String>) {
    let is_ours = |endpoint: &&Endpoint| kernel.ours.contains(&endpoint.id);
    let full = kernel.endpoints.len() >= kernel.capacity();
    let has_endpoint = |one: &Use| {
        let held = is_held(kernel, config, &kernel.links[&one.ifindex], uses);
        config.endpoints == Endpoints::Ours && !(held && config.manager != Some(Manager::Daemon))
    };
    for one in uses.iter().filter(|one| has_endpoint(one)) {
        match kernel.endpoints.iter().find(|endpoint| endpoint.addr == one.addr) {
            None if !full => wrong.push(format!("no endpoint for {one:?}")),
            Some(endpoint) if is_ours(&endpoint) => {
                if endpoint.ifindex != Some(one.ifindex) {
                    wrong.push(format!("{endpoint:?} is not on {one:?}"));
                }
                let flags = flags(kernel, config, one, uses);
                if endpoint.flags != flags {
                    wrong.push(format!("{endpoint:?} should have {flags:?}"));
                }
            }
            _ => {}
        }
    }
    for endpoint in kernel.endpoints.iter().filter(is_ours) {
        let family = Family::of(&endpoint.addr);
        let alone = !uses.iter().any(|one| Family::of(&one.addr) == family);
        let link = endpoint.ifindex.and_then(|index| kernel.links.get(&index));
        let lost = link.is_none_or(|link| !is_unwanted(kernel, config, link));
        let vpn = !config.vpn && vpn_carries(kernel);
        let stranded = alone && lost && !vpn && config.endpoints == Endpoints::Ours;
        if !stranded && !uses.iter().any(|one| one.addr == endpoint.addr && has_endpoint(one)) {
            wrong.push(format!("orphan {endpoint:?}"));
        }
    }
}

fn flags(kernel: &Kernel, config: &Config, one: &Use, uses: &[Use]) -> EndpointFlags {
    let family = Family::of(&one.addr);
    let rests = |one: &Use| {
        let link = &kernel.links[&one.ifindex];
        is_held(kernel, config, link, uses)
            || (has_way(kernel, link, family) && is_idle(kernel, config, link, family))
    };
    let has_family = |other: &&Use| has_way(kernel, &kernel.links[&other.ifindex], family);
    let other = || uses.iter().find(|other| !rests(other) && has_family(other));
    let best = if rests(&uses[0]) { other().unwrap_or(&uses[0]) } else { &uses[0] };
    let metered = one.rank.2;
    let best = best.ifindex == one.ifindex;
    let backup = match (config.profile, role(kernel, config, &kernel.links[&one.ifindex])) {
        _ if rests(one) => true,
        (_, Some(Role::Backup)) => true,
        (_, Some(Role::Primary)) => false,
        (Profile::Light, _) => !best,
        (_, Some(Role::Secondary)) => false,
        _ => metered,
    };
    let base = if config.profile == Profile::Site { EndpointFlags::SIGNAL } else { EndpointFlags::SUBFLOW };
    if backup { base | EndpointFlags::BACKUP } else { base }
}

fn rules(kernel: &Kernel, uses: &[Use], wrong: &mut Vec<String>) {
    let ours = kernel.rules.iter().filter(|rule| rule.protocol == OUR_PROTOCOL);
    let there: BTreeSet<_> = ours
        .map(|rule| (rule.src.unwrap().addr(), rule.priority, rule.table, rule.suppress_prefix_len))
        .collect();
    let wanted: BTreeSet<_> = uses
        .iter()
        .flat_map(|one| {
            let table = 0x4d50_0000 + one.ifindex;
            [(one.addr, 30_500, 254, Some(0)), (one.addr, 30_501, table, None)]
        })
        .collect();
    if there != wanted {
        wrong.push(format!("rules {there:?}, not {wanted:?}"));
    }
}

fn routes(kernel: &Kernel, config: &Config, wrong: &mut Vec<String>) {
    let mut left: Vec<&Route> = kernel.routes.iter().filter(|r| r.protocol == OUR_PROTOCOL).collect();
    for link in kernel.links.values().filter(|link| works(kernel, config, link)) {
        for family in Family::BOTH.into_iter().filter(|family| has_address(kernel, link.index, *family)) {
            let Some(metric) = best_metric(kernel, link.index, family) else { continue };
            let table = 0x4d50_0000 + link.index;
            let hops: Vec<Hop> =
                defaults(kernel, link.index, family).filter(|(m, _)| *m == metric).map(|(_, h)| h).collect();
            let is_it = |r: &&Route| {
                r.table == table
                    && r.dst.prefix_len() == 0
                    && r.family() == family
                    && hops.contains(&r.hops[0])
            };
            if !left.iter().any(is_it) && hops.iter().any(|hop| kernel.is_reachable(hop)) {
                wrong.push(format!("no {family:?} default route in the table of {}", link.name));
            }
            left.retain(|route| !is_it(route));
            for dst in vpn_networks(kernel, family, link) {
                let refuses =
                    |r: &&Route| r.table == table && r.dst.to_string() == dst && r.kind != RouteKind::Unicast;
                if !left.iter().any(refuses) {
                    wrong.push(format!("{} leads to {dst} beside the VPN", link.name));
                }
                left.retain(|route| !refuses(route));
            }
        }
    }
    wrong.extend(left.into_iter().map(|route| format!("stale {route:?}")));
}

fn vpn_networks(kernel: &Kernel, family: Family, link: &Link) -> BTreeSet<String> {
    let vpn = |index| kernel.links.get(&index).is_some_and(is_vpn);
    let routes = kernel.routes.iter().filter(|r| r.family() == family && r.table == 254);
    let specific = routes.filter(|r| r.dst.prefix_len() > 1 && r.hops.iter().any(|hop| vpn(hop.ifindex)));
    specific.filter(|_| !is_vpn(link)).map(|route| route.dst.to_string()).collect()
}

fn settings(kernel: &Kernel, config: &Config, uses: &[Use], wrong: &mut Vec<String>) {
    let value = |key: &Sysctl| kernel.sysctls.get(key).map_or("", String::as_str);
    if !uses.is_empty() && value(&Sysctl::Enabled) != "1" {
        wrong.push("MPTCP is off".into());
    }
    let names = uses.iter().map(|one| kernel.links[&one.ifindex].name.as_str());
    for name in names.filter(|name| value(&strict(name)).max(value(&strict("all"))) == "1") {
        wrong.push(format!("strict reverse path filter on {name}"));
    }
    let accepted = if config.profile == Profile::Light { 2 } else { 4 };
    let room = kernel.limits.subflows.min(kernel.limits.add_addr_accepted + 6);
    if kernel.limits.add_addr_accepted < accepted || room < 8 {
        wrong.push(format!("limits {:?}", kernel.limits));
    }
}
