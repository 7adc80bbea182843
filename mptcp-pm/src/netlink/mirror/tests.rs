//! Whatever the kernel says in whatever order: the changes that are told lead to what the mirror holds.
use std::net::Ipv4Addr;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::core::world::{Hop, RouteKind};

/// Takes a change as a reader of the watch does. What is gone must have been there.
fn take(world: &mut Snapshot, change: Change) {
    match change {
        Change::Link(link) => {
            world.links.retain(|old| old.index != link.index);
            world.links.push(link);
        }
        Change::LinkGone(index) => {
            world.links.retain(|old| old.index != index);
            world.addresses.retain(|old| old.ifindex != index);
        }
        Change::Address(address) => {
            world.addresses.retain(|old| !same_address(old, &address));
            world.addresses.push(address);
        }
        Change::AddressGone(index, addr) => {
            world.addresses.retain(|old| (old.ifindex, old.addr) != (index, addr));
        }
        Change::Route(route) => world.routes.push(route),
        Change::RouteGone(route) => take_out(&mut world.routes, &route),
        Change::Rule(rule) => world.rules.push(rule),
        Change::RuleGone(rule) => take_out(&mut world.rules, &rule),
    }
}

fn take_out<T: PartialEq>(list: &mut Vec<T>, item: &T) {
    let at = list.iter().position(|old| old == item).expect("what is gone was there");
    list.swap_remove(at);
}

fn sorted(snapshot: &Snapshot) -> Vec<String> {
    let Snapshot { links, addresses, routes, rules } = snapshot;
    let mut lines: Vec<_> = links.iter().map(|l| format!("{l:?}")).collect();
    lines.extend(addresses.iter().map(|a| format!("{a:?}")));
    lines.extend(routes.iter().map(|r| format!("{r:?}")));
    lines.extend(rules.iter().map(|r| format!("{r:?}")));
    lines.sort();
    lines
}

fn addr(family: Family, last: u8) -> std::net::IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 0, 0, last).into(),
        Family::V6 => Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().into(),
    }
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn any_link() -> impl Strategy<Value = Link> {
    (1_u32..4, any::<(bool, bool)>()).prop_map(|(index, (up, carrier))| Link {
        index,
        name: format!("eth{index}"),
        kind: None,
        hardware: 1,
        mac: Vec::new(),
        up,
        carrier,
        loopback: false,
        master: None,
    })
}

fn any_address() -> impl Strategy<Value = Address> {
    (1_u32..4, any_family(), 1_u8..4, any::<bool>()).prop_map(|(ifindex, family, last, tentative)| Address {
        ifindex,
        addr: addr(family, last),
        prefix_len: 24,
        global: true,
        tentative,
        deprecated: false,
        temporary: false,
        secondary: false,
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    let hop = (1_u32..4, 1_u8..3);
    let place = (0_u32..2, prop::sample::select(vec![MAIN_TABLE, 1000]));
    (any_family(), place, vec(hop, 0..3), prop::option::of(1_u8..4)).prop_map(
        |(family, (metric, table), hops, source)| Route {
            table,
            dst: IpNet::new(addr(family, 0), 0).expect("a length of 0").trunc(),
            metric,
            protocol: 3,
            kind: if hops.is_empty() { RouteKind::Unreachable } else { RouteKind::Unicast },
            hops: hops
                .into_iter()
                .map(|(ifindex, last)| Hop { ifindex, gateway: Some(addr(family, last)), onlink: false })
                .collect(),
            source: source.map(|last| addr(family, last)),
            initial_window: None,
        },
    )
}

fn any_rule() -> impl Strategy<Value = Rule> {
    (any_family(), 0_u32..3, any::<bool>()).prop_map(|(family, priority, foreign_selectors)| Rule {
        family,
        priority,
        src: None,
        table: 1000,
        suppress_prefix_len: None,
        protocol: 0,
        foreign_selectors,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let object = prop_oneof![
        any_link().prop_map(Object::Link),
        any_address().prop_map(Object::Address),
        any_route().prop_map(Object::Route),
        any_rule().prop_map(Object::Rule),
    ];
    (object, any::<(bool, bool)>()).prop_map(|(object, (gone, replaces))| Message {
        object,
        gone,
        replaces: replaces && !gone,
    })
}

fn any_dump() -> impl Strategy<Value = Snapshot> {
    vec(any_message(), 0..20).prop_map(|messages| {
        let mut mirror = Mirror::default();
        messages.into_iter().for_each(|message| drop(mirror.apply(message)));
        mirror.seen
    })
}

proptest! {
    #[test]
    fn the_changes_lead_to_what_is_known(
        messages in vec(any_message(), 0..30), dump in any_dump(), more in vec(any_message(), 0..10),
    ) {
        let (mut mirror, mut world) = (Mirror::default(), Snapshot::default());
        for message in messages {
            mirror.apply(message).into_iter().for_each(|change| take(&mut world, change));
            prop_assert_eq!(sorted(&world), sorted(mirror.snapshot()));
        }
        mirror.reconcile(dump).into_iter().for_each(|change| take(&mut world, change));
        prop_assert!(!mirror.in_doubt());
        prop_assert_eq!(sorted(&world), sorted(mirror.snapshot()));
        for message in more {
            mirror.apply(message).into_iter().for_each(|change| take(&mut world, change));
        }
        prop_assert_eq!(sorted(&world), sorted(mirror.snapshot()));
    }

    #[test]
    fn a_message_that_is_repeated_says_nothing(messages in vec(any_message(), 1..30)) {
        let mut mirror = Mirror::default();
        for message in messages {
            mirror.apply(message.clone());
            let known = mirror.snapshot().clone();
            prop_assert_eq!(mirror.apply(message), []);
            prop_assert_eq!(mirror.snapshot(), &known);
        }
    }

    #[test]
    fn no_route_leads_over_links_that_are_down_only(messages in vec(any_message(), 0..30), link in any_link()) {
        let mut mirror = Mirror::default();
        messages.into_iter().for_each(|message| drop(mirror.apply(message)));
        let down = Link { up: false, ..link };
        mirror.apply(Message { object: Object::Link(down.clone()), gone: false, replaces: false });
        let only_over_it = |r: &&Route| !r.hops.is_empty() && r.hops.iter().all(|hop| hop.ifindex == down.index);
        prop_assert_eq!(mirror.snapshot().routes.iter().find(only_over_it), None);
    }
}
