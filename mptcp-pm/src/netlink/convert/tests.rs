//! Conversions on messages that this kernel sent, both ways, and on arbitrary bytes.
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::address::AddressHeaderFlags;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::core::world::MAIN_TABLE;

/// Each message after a line that begins with `#` and names the command that caused it.
const CAPTURES: &str = include_str!("captures.txt");

/// The bytes that the command caused.
fn captured(command: &str) -> Vec<u8> {
    let mut lines = CAPTURES.lines().skip_while(|line| line.strip_prefix("# ") != Some(command)).skip(1);
    let hex = lines.next().unwrap_or_else(|| panic!("no capture of {command}"));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn all_captured() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    CAPTURES
        .lines()
        .skip(1)
        .filter_map(|line| line.strip_prefix("# "))
        .map(|command| (command, captured(command)))
}

fn decoded(command: &str) -> Option<Message> {
    decode(&captured(command)).unwrap()
}

fn new(object: Object) -> Option<Message> {
    Some(Message { object, gone: false, replaces: false })
}

fn gone(object: Object) -> Option<Message> {
    Some(Message { object, gone: true, replaces: false })
}

fn hop(gateway: &str) -> Hop {
    Hop { ifindex: 7, gateway: Some(gateway.parse().unwrap()), onlink: false }
}

fn unicast(dst: &str, hops: Vec<Hop>) -> Route {
    let dst = dst.parse().unwrap();
    Route {
        table: MAIN_TABLE,
        dst,
        metric: 0,
        protocol: 3,
        kind: RouteKind::Unicast,
        hops,
        source: None,
        initial_window: None,
    }
}

#[test]
fn links() {
    let east = Link {
        index: 7,
        name: "east".into(),
        kind: Some("veth".into()),
        hardware: 1,
        mac: vec![2, 0, 0, 0, 0, 1],
        up: true,
        carrier: true,
        loopback: false,
        master: None,
    };
    assert_eq!(decoded("ip link set east mtu 1400"), new(Object::Link(east)));
    // What the bridge says of its port.
    assert_eq!(decoded("ip link set east master br0"), None);
    assert_eq!(decoded("ip link set east nomaster"), None);
}

#[test]
fn an_attribute_that_does_not_decode_hides_no_link() {
    let mut message = captured("ip link set east mtu 1400");
    let mtu = [8, 0, 4, 0, 0x78, 5, 0, 0];
    let at = message.windows(8).position(|window| window == mtu).unwrap();
    let whole = decode(&message).unwrap();
    // An MTU of one byte.
    message[at] = 5;
    assert!(LinkMessage::parse(&message[16..]).is_err());
    assert_eq!(decode(&message).unwrap(), whole);
}

#[test]
fn a_dormant_link_has_no_carrier() {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
    assert!(link(&message).unwrap().carrier);
    message.header.flags |= LinkFlags::Dormant;
    assert!(!link(&message).unwrap().carrier);
}

#[test]
fn addresses() {
    let own = Address {
        ifindex: 7,
        addr: "10.8.0.1".parse().unwrap(),
        prefix_len: 32,
        global: true,
        tentative: false,
        deprecated: false,
        temporary: false,
        secondary: false,
    };
    assert_eq!(decoded("ip addr add 10.8.0.1 peer 10.8.0.9/32 dev east"), new(Object::Address(own.clone())));
    // IFA_F_SECONDARY, which is IFA_F_TEMPORARY in IPv6.
    let second =
        Address { addr: "10.7.0.22".parse().unwrap(), prefix_len: 24, secondary: true, ..own.clone() };
    assert_eq!(decoded("ip addr add 10.7.0.22/24 dev east"), new(Object::Address(second)));
    let old = Address { addr: "2001:db8:7::2".parse().unwrap(), prefix_len: 64, deprecated: true, ..own };
    assert_eq!(
        decoded("ip addr change 2001:db8:7::2/64 dev east valid_lft 1000 preferred_lft 0"),
        new(Object::Address(old))
    );
}

#[test]
fn what_an_address_is_fit_for() {
    let with = |family, flags: AddressFlags| {
        let mut message = AddressMessage::default();
        message.header.family = family;
        let addr: IpAddr = if family == AddressFamily::Inet {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        message.attributes = vec![AddressAttribute::Address(addr), AddressAttribute::Flags(flags)];
        address(&message).unwrap()
    };
    let v6 = |flags| with(AddressFamily::Inet6, flags);
    assert!(v6(AddressFlags::Tentative).tentative);
    assert!(v6(AddressFlags::Dadfailed).tentative);
    assert!(!v6(AddressFlags::Optimistic | AddressFlags::Tentative).tentative);
    assert!(v6(AddressFlags::Optimistic | AddressFlags::Tentative | AddressFlags::Dadfailed).tentative);
    assert!(v6(AddressFlags::Secondary).temporary);
    let second = with(AddressFamily::Inet, AddressFlags::Secondary);
    assert!(second.secondary && !second.temporary);
    // Old kernels give the flags of the header only.
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.flags = AddressHeaderFlags::Tentative;
    message.attributes = vec![AddressAttribute::Address(Ipv6Addr::LOCALHOST.into())];
    assert!(address(&message).unwrap().tentative);
}

#[test]
fn routes() {
    let default = Route {
        metric: 100,
        protocol: 77,
        source: Some("10.7.0.2".parse().unwrap()),
        ..unicast("0.0.0.0/0", vec![hop("10.7.0.1")])
    };
    let sent = "ip -4 route add default via 10.7.0.1 metric 100 src 10.7.0.2 proto 77";
    assert_eq!(decoded(sent), new(Object::Route(default.clone())));
    assert_eq!(decoded("ip -4 route del default via 10.7.0.1 metric 100"), gone(Object::Route(default)));

    let onlink = Hop { onlink: true, ..hop("10.99.0.1") };
    let far = Route { table: 7700, ..unicast("192.0.2.0/24", vec![onlink]) };
    let sent = "ip -4 route add 192.0.2.0/24 via 10.99.0.1 dev east onlink table 7700";
    assert_eq!(decoded(sent), new(Object::Route(far.clone())));
    let near = Route { hops: vec![hop("10.7.0.1")], ..far };
    let replacing = Message { object: Object::Route(near), gone: false, replaces: true };
    assert_eq!(decoded("ip -4 route replace 192.0.2.0/24 via 10.7.0.1 table 7700"), Some(replacing));

    let several =
        unicast("198.51.100.0/24", vec![hop("10.7.0.1"), Hop { onlink: true, ..hop("2001:db8:7::1") }]);
    let sent = "ip -4 route add 198.51.100.0/24 nexthop via 10.7.0.1 dev east nexthop via inet6 2001:db8:7::1 dev east onlink";
    assert_eq!(decoded(sent), new(Object::Route(several)));

    let refusing = Route {
        metric: 1024,
        protocol: 77,
        kind: RouteKind::Unreachable,
        ..unicast("2001:db8:5::/48", vec![])
    };
    assert_eq!(decoded("ip -6 route add unreachable 2001:db8:5::/48 proto 77"), new(Object::Route(refusing)));

    assert_eq!(decoded("ip -4 route add 192.0.3.0/24 via 10.7.0.1 proto bgp"), None);
}

#[test]
fn rules() {
    let ours = Rule {
        family: Family::V4,
        priority: 5000,
        src: Some("10.7.0.0/24".parse().unwrap()),
        table: 7700,
        suppress_prefix_len: None,
        protocol: 77,
        foreign_selectors: false,
    };
    let add = "ip -4 rule add from 10.7.0.0/24 lookup 7700 pref 5000 protocol 77";
    assert_eq!(decoded(add), new(Object::Rule(ours.clone())));
    assert_eq!(decoded(&add.replace("add", "del")), gone(Object::Rule(ours.clone())));
    let suppressing = Rule {
        family: Family::V6,
        priority: 5001,
        src: None,
        table: MAIN_TABLE,
        suppress_prefix_len: Some(0),
        ..ours.clone()
    };
    assert_eq!(
        decoded("ip -6 rule add lookup main suppress_prefixlength 0 pref 5001 protocol 77"),
        new(Object::Rule(suppressing))
    );
    let foreign = Rule {
        priority: 5002,
        src: Some("10.7.0.2/32".parse().unwrap()),
        protocol: 0,
        foreign_selectors: true,
        ..ours
    };
    assert_eq!(
        decoded("ip -4 rule add fwmark 0x100/0xff00 from 10.7.0.2 lookup 7700 pref 5002"),
        new(Object::Rule(foreign.clone()))
    );
    let prohibiting = Rule { priority: 5003, table: 0, ..foreign };
    assert_eq!(
        decoded("ip -4 rule add not from 10.7.0.2 prohibit pref 5003"),
        new(Object::Rule(prohibiting))
    );
}

/// The other way: what is sent to make a route or rule is what the kernel then reports, but for what it adds.
#[test]
fn what_is_sent_is_what_comes_back() {
    let mut compared = 0;
    for (command, bytes) in all_captured() {
        match decode(&bytes).unwrap().map(|message| message.object) {
            Some(Object::Route(route)) => {
                let reported = RouteMessage::parse(&bytes[16..]).unwrap();
                let sent = route_message(&route);
                let byte = |table: u32| if table < 256 { table as u8 } else { 0 };
                let header = RouteHeader { table: byte(route.table), ..reported.header };
                assert_eq!(sent.header, header, "{command}");
                let sorted = sort_next_hops(reported.attributes);
                sent.attributes
                    .iter()
                    .for_each(|a| assert!(sorted.contains(a), "{command}: {a:?} not in {sorted:?}"));
                compared += 1;
            }
            Some(Object::Rule(rule)) if !rule.foreign_selectors => {
                let reported = RuleMessage::parse(&bytes[16..]).unwrap();
                let sent = rule_message(&rule);
                assert_eq!(
                    (sent.header.src_len, sent.header.action),
                    (reported.header.src_len, reported.header.action)
                );
                let seen = &reported.attributes;
                sent.attributes
                    .iter()
                    .for_each(|a| assert!(seen.contains(a), "{command}: {a:?} not in {seen:?}"));
                compared += 1;
            }
            _ => {}
        }
    }
    assert!(compared >= 10, "only {compared} captures compared");
}

fn sort_next_hops(mut attributes: Vec<RouteAttribute>) -> Vec<RouteAttribute> {
    for attribute in &mut attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            hops.sort_by_key(|hop| gateway(&hop.attributes));
        }
    }
    attributes
}

fn any_ip(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<Ipv4Addr>().prop_map_into().boxed(),
        Family::V6 => any::<Ipv6Addr>().prop_map_into().boxed(),
    }
}

fn any_net(family: Family) -> impl Strategy<Value = IpNet> {
    let longest = if family == Family::V4 { 32 } else { 128 };
    (any_ip(family), 0_u8..=longest).prop_map(|(addr, len)| IpNet::new(addr, len).unwrap().trunc())
}

fn any_family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn any_hop() -> impl Strategy<Value = Hop> {
    let gateway = prop::option::of(any_family().prop_flat_map(any_ip));
    (1_u32.., gateway, any::<bool>()).prop_map(|(ifindex, gateway, onlink)| Hop { ifindex, gateway, onlink })
}

fn any_route() -> impl Strategy<Value = Route> {
    let numbers = any::<(u32, u32, u8)>();
    let parts = any_family().prop_flat_map(move |f| {
        (any_net(f), prop::option::of(any_ip(f)), vec(any_hop(), 0..4), numbers, prop::option::of(1_u32..))
    });
    parts.prop_map(|(dst, source, mut hops, (table, metric, protocol), initial_window)| {
        hops.sort_unstable_by_key(|hop| (hop.ifindex, hop.gateway));
        let kind = if hops.is_empty() { RouteKind::Unreachable } else { RouteKind::Unicast };
        Route { table, dst, metric, protocol, kind, hops, source, initial_window }
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let parts = any_family().prop_flat_map(|family| {
        let src = any_net(family).prop_filter("a source of all is none", |net| net.prefix_len() > 0);
        (Just(family), prop::option::of(src), prop::option::of(0..u32::MAX), any::<(u32, u32, u8)>())
    });
    parts.prop_map(|(family, src, suppress_prefix_len, (priority, table, protocol))| Rule {
        family,
        priority,
        src,
        table,
        suppress_prefix_len,
        protocol,
        foreign_selectors: false,
    })
}

fn bytes(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

/// A message of one of the types that are decoded, with a true length.
fn framed(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = ((16 + payload.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    message
}

/// Arbitrary attributes, well-formed on the outside, so that the decoding reaches their values.
fn any_attributes() -> impl Strategy<Value = Vec<u8>> {
    vec((0_u16..30, vec(any::<u8>(), 0..40)), 0..8).prop_map(|attributes| {
        let mut bytes = Vec::new();
        attributes.iter().for_each(|(kind, value)| push(&mut bytes, *kind, value));
        bytes
    })
}

proptest! {
    #[test]
    fn routes_survive_the_way_there_and_back(r in any_route()) {
        let parsed = RouteMessage::parse(bytes(&route_message(&r)).as_slice()).unwrap();
        prop_assert_eq!(route(&parsed), Some(r));
    }

    #[test]
    fn rules_survive_the_way_there_and_back(r in any_rule()) {
        let parsed = RuleMessage::parse(bytes(&rule_message(&r)).as_slice()).unwrap();
        prop_assert_eq!(rule(&parsed), Some(r));
    }

    #[test]
    fn arbitrary_bytes_never_panic(message in vec(any::<u8>(), 0..300)) {
        let _ = decode(&message);
    }

    #[test]
    fn arbitrary_attributes_never_panic(
        kind in prop::sample::select(vec![16_u16, 17, 20, 21, 24, 25, 32, 33]), flags: u16,
        family in prop::sample::select(vec![0_u8, 2, 7, 10, 28]), rest: [u8; 15], attributes in any_attributes(),
    ) {
        let header = match kind { 16 | 17 => 15, 20 | 21 => 7, _ => 11 };
        let _ = decode(&framed(kind, flags, &[&[family], &rest[..header], &attributes].concat()));
    }

    #[test]
    fn damaged_messages_never_panic(
        pick: prop::sample::Index, cut: prop::sample::Index,
        damage in vec(any::<(prop::sample::Index, u8)>(), 1..8),
    ) {
        let captures: Vec<_> = all_captured().map(|(_, bytes)| bytes).collect();
        let mut message = pick.get(&captures).clone();
        for (at, value) in damage {
            let at = at.index(message.len());
            message[at] = value;
        }
        let _ = decode(&message);
        message.truncate(cut.index(message.len()));
        let _ = decode(&message);
    }
}
