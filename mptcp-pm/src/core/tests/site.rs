//! What happens to a machine: links, addresses, routes, other programs.
use std::net::IpAddr;

use proptest::prelude::*;

use super::kernel::{Kernel, strict};
use crate::core::action::NewEndpoint;
use crate::core::world::{
    Address, EndpointFlags, Family, Hop, IfIndex, Limits, Link, MAIN_TABLE, Route, RouteKind, Rule, Sysctl,
};

/// One thing that happens. Slots are the interfaces of [`NAMES`].
#[derive(Clone, Debug)]
pub enum Step {
    Plug(usize),
    Unplug(usize),
    Up(usize, bool),
    Carrier(usize, bool),
    Rename(usize),
    Address(usize, usize),
    NoAddress(usize, usize),
    Detected(usize, usize),
    Deprecated(usize, usize, bool),
    Default(usize, Family, u32),
    NoDefault(usize, Family),
    /// The default route as `ip route replace` writes it, with the other gateway.
    Replace(usize, u8),
    /// One default route over two interfaces.
    Multipath(usize, usize),
    VpnNetwork(bool),
    VpnHalf(bool),
    ForeignEndpoint(usize, usize, bool),
    ForeignDelete(usize),
    ForeignLimits(u32),
    ForeignSysctl(usize, u8),
    ForeignRule(bool),
    /// Somebody deletes a rule or route of ours.
    Vandal(bool),
}

/// `wg0` is a VPN, `veth7` a container's end on the host, `wwan0` a modem in raw IP mode.
pub const NAMES: [&str; 5] = ["eth0", "wlan0", "wwan0", "wg0", "veth7"];
pub const VPN: usize = 3;
const PHYSICAL: usize = 3;

pub fn link_of(slot: usize, index: IfIndex) -> Link {
    let kind = [None, None, None, Some("wireguard"), Some("veth")][slot].map(str::to_owned);
    let hardware = [1, 1, 0xfffe, 0xfffe, 1][slot];
    Link {
        index,
        name: NAMES[slot].into(),
        kind,
        hardware,
        mac: Vec::new(),
        up: false,
        carrier: false,
        loopback: false,
        master: None,
    }
}

/// The addresses that an interface may have: two in one network, one in another, two of IPv6 in one, a unique local
/// one, and one that every interface may have.
pub fn address_of(slot: usize, which: usize, ifindex: IfIndex) -> Address {
    let texts = [
        format!("10.{slot}.0.2"),
        format!("10.{slot}.0.3"),
        format!("172.16.{slot}.2"),
        format!("2001:db8:{slot}::2"),
        format!("2001:db8:{slot}::99"),
        format!("fd00:{slot}::2"),
        "10.99.0.2".to_owned(),
    ];
    let addr: IpAddr = texts[which].parse().unwrap();
    Address {
        ifindex,
        addr,
        prefix_len: if addr.is_ipv4() { 24 } else { 64 },
        global: true,
        tentative: which == 4,
        deprecated: false,
        temporary: which == 4,
        secondary: which == 1,
    }
}

pub fn default_route(slot: usize, ifindex: IfIndex, family: Family, metric: u32, last: u8) -> Route {
    let gateway: IpAddr = match family {
        Family::V4 => IpAddr::from([10, u8::try_from(slot).unwrap(), 0, last]),
        Family::V6 => format!("fe80::{last}").parse().unwrap(),
    };
    Route {
        table: MAIN_TABLE,
        dst: crate::core::routes::default_net(family),
        metric,
        protocol: 4,
        kind: RouteKind::Unicast,
        hops: vec![Hop { ifindex, gateway: Some(gateway), onlink: false }],
        source: None,
        initial_window: None,
    }
}

/// A link with everything.
pub fn bring_up(kernel: &mut Kernel, slot: usize) {
    let index = 2 + u32::try_from(slot).unwrap();
    kernel.add_link(link_of(slot, index));
    kernel.set_up(index, true);
    kernel.add_address(address_of(slot, 0, index));
    kernel.add_address(address_of(slot, 3, index));
    for family in Family::BOTH {
        let route = default_route(slot, index, family, 100 * (index + 1), 1);
        kernel.add_route(route).unwrap();
    }
}

fn index_of(kernel: &Kernel, slot: usize) -> Option<IfIndex> {
    let matches = |link: &&Link| link.name.trim_end_matches('x') == NAMES[slot];
    kernel.links.values().find(matches).map(|link| link.index)
}

/// Lets a step happen, where it can.
pub fn happen(kernel: &mut Kernel, next_index: &mut IfIndex, step: &Step) {
    use Step::*;
    if let Plug(slot) = *step {
        if index_of(kernel, slot).is_none() {
            *next_index += 1;
            kernel.add_link(link_of(slot, *next_index));
        }
        return;
    }
    if others(kernel, step) {
        return;
    }
    let (Unplug(slot)
    | Up(slot, _)
    | Carrier(slot, _)
    | Rename(slot)
    | Address(slot, _)
    | NoAddress(slot, _)
    | Detected(slot, _)
    | Deprecated(slot, _, _)
    | Default(slot, _, _)
    | NoDefault(slot, _)
    | Replace(slot, _)
    | Multipath(slot, _)) = *step
    else {
        return;
    };
    let Some(index) = index_of(kernel, slot) else { return };
    let addr = |which| address_of(slot, which, index).addr;
    match *step {
        Unplug(_) => kernel.delete_link(index),
        Up(_, up) => kernel.set_up(index, up),
        Carrier(_, carrier) => kernel.set_carrier(index, carrier && kernel.links[&index].up),
        Rename(_) => {
            let name = &kernel.links[&index].name;
            let other = if name.ends_with('x') { NAMES[slot].to_owned() } else { format!("{name}x") };
            kernel.rename(index, &other);
        }
        Address(_, which) => kernel.add_address(address_of(slot, which, index)),
        NoAddress(_, which) => kernel.delete_address(index, addr(which)),
        Detected(_, which) => {
            kernel.change_address(index, addr(which), |address| address.tentative = false);
        }
        Deprecated(_, which, on) => {
            kernel.change_address(index, addr(which), |address| address.deprecated = on);
        }
        Default(_, family, metric) => {
            let _ = kernel.add_route(default_route(slot, index, family, metric, 1));
        }
        NoDefault(_, family) => {
            let ours = |route: &&Route| route.protocol == 4 && route.hops[0].ifindex == index;
            let gone = kernel.routes.iter().filter(ours).filter(|route| route.family() == family);
            for route in gone.cloned().collect::<Vec<_>>() {
                kernel.delete_route(&route);
            }
        }
        Replace(_, last) => kernel.replace_route(default_route(slot, index, Family::V4, 100, last)),
        Multipath(_, other) => {
            let Some(second) = index_of(kernel, other).filter(|second| *second != index) else { return };
            let mut route = default_route(slot, index, Family::V4, 50, 1);
            route.hops.extend(default_route(other, second, Family::V4, 50, 1).hops);
            let _ = kernel.add_route(route);
        }
        _ => {}
    }
}

/// What other programs do. Says whether it was that.
fn others(kernel: &mut Kernel, step: &Step) -> bool {
    use Step::*;
    match *step {
        VpnNetwork(on) => vpn_route(kernel, "10.200.0.0/16", on),
        VpnHalf(on) => vpn_route(kernel, "128.0.0.0/1", on),
        ForeignEndpoint(slot, which, plain) => {
            let Some(ifindex) = index_of(kernel, slot) else { return true };
            let addr = address_of(slot, which, ifindex).addr;
            let flags = if plain { EndpointFlags::SUBFLOW } else { EndpointFlags::SIGNAL };
            let _ = kernel.add_endpoint(&NewEndpoint { addr, ifindex, flags });
        }
        ForeignDelete(which) => {
            let id = kernel.endpoints.get(which).map(|endpoint| endpoint.id);
            id.into_iter().for_each(|id| kernel.delete_endpoint(id));
        }
        ForeignLimits(limit) => kernel.limits = Limits { subflows: limit, add_addr_accepted: limit },
        ForeignSysctl(0, value) => {
            kernel.sysctls.insert(Sysctl::Enabled, value.min(1).to_string());
        }
        ForeignSysctl(1, value) => {
            kernel.sysctls.insert(strict("all"), value.to_string());
        }
        ForeignSysctl(slot, value) => {
            if let Some(present) = kernel.sysctls.get_mut(&strict(NAMES[slot])) {
                *present = value.to_string();
            }
        }
        ForeignRule(on) => {
            let rule = foreign_rule();
            if on { drop(kernel.add_rule(rule)) } else { kernel.delete_rule(&rule) }
        }
        Vandal(true) => {
            let ours = |rule: &&Rule| rule.protocol == crate::core::world::OUR_PROTOCOL;
            let rule = kernel.rules.iter().find(ours).cloned();
            rule.into_iter().for_each(|rule| kernel.delete_rule(&rule));
        }
        Vandal(false) => {
            let ours = |route: &&Route| route.protocol == crate::core::world::OUR_PROTOCOL;
            let route = kernel.routes.iter().find(ours).cloned();
            route.into_iter().for_each(|route| kernel.delete_route(&route));
        }
        _ => return false,
    }
    true
}

fn foreign_rule() -> Rule {
    Rule {
        family: Family::V4,
        priority: 100,
        src: None,
        table: 51_820,
        suppress_prefix_len: None,
        protocol: 4,
        foreign_selectors: true,
    }
}

fn vpn_route(kernel: &mut Kernel, dst: &str, on: bool) {
    let Some(ifindex) = index_of(kernel, VPN) else { return };
    let route = Route {
        table: MAIN_TABLE,
        dst: dst.parse().unwrap(),
        metric: 0,
        protocol: 3,
        kind: RouteKind::Unicast,
        hops: vec![Hop { ifindex, gateway: None, onlink: false }],
        source: None,
        initial_window: None,
    };
    if on { drop(kernel.add_route(route)) } else { kernel.delete_route(&route) }
}

fn slot() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..PHYSICAL, 2 => Just(VPN), 1 => Just(4_usize)]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

/// What happens to links, addresses and routes.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => slot().prop_map(Step::Plug),
        1 => slot().prop_map(Step::Unplug),
        8 => (slot(), proptest::bool::weighted(0.8)).prop_map(|(slot, up)| Step::Up(slot, up)),
        4 => (slot(), any::<bool>()).prop_map(|(slot, on)| Step::Carrier(slot, on)),
        1 => slot().prop_map(Step::Rename),
        10 => (slot(), 0_usize..7).prop_map(|(slot, which)| Step::Address(slot, which)),
        4 => (slot(), 0_usize..7).prop_map(|(slot, which)| Step::NoAddress(slot, which)),
        2 => slot().prop_map(|slot| Step::Detected(slot, 4)),
        1 => (slot(), 0_usize..7, any::<bool>()).prop_map(|(slot, w, on)| Step::Deprecated(slot, w, on)),
        10 => (slot(), family(), 0_u32..4).prop_map(|(slot, family, m)| Step::Default(slot, family, 100 * m)),
        3 => (slot(), family()).prop_map(|(slot, family)| Step::NoDefault(slot, family)),
        2 => (slot(), 1_u8..3).prop_map(|(slot, last)| Step::Replace(slot, last)),
        1 => (0..PHYSICAL, 0..PHYSICAL).prop_map(|(a, b)| Step::Multipath(a, b)),
        1 => any::<bool>().prop_map(Step::VpnNetwork),
        1 => proptest::bool::weighted(0.3).prop_map(Step::VpnHalf),
    ]
}

/// What other programs do to the kernel.
pub fn meddling() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (slot(), 0_usize..7, any::<bool>()).prop_map(|(s, w, plain)| Step::ForeignEndpoint(s, w, plain)),
        2 => (0_usize..8).prop_map(Step::ForeignDelete),
        1 => (0_u32..9).prop_map(Step::ForeignLimits),
        1 => (0_usize..5, 0_u8..3).prop_map(|(slot, value)| Step::ForeignSysctl(slot, value)),
        1 => any::<bool>().prop_map(Step::ForeignRule),
        2 => any::<bool>().prop_map(Step::Vandal),
    ]
}
