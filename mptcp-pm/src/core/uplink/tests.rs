//! What is an uplink, and why not; which of its addresses are used.
use super::*;
use crate::config::{Match, NameGlob};
use crate::core::world::{Route, RouteKind, Snapshot};

fn link(name: &str, kind: Option<&str>, hardware: u16) -> Link {
    Link {
        index: 2,
        name: name.into(),
        kind: kind.map(str::to_owned),
        hardware,
        mac: Vec::new(),
        up: true,
        carrier: true,
        loopback: false,
        master: None,
    }
}

fn address(text: &str) -> Address {
    let net: ipnet::IpNet = text.parse().unwrap();
    Address {
        ifindex: 2,
        addr: net.addr(),
        prefix_len: net.prefix_len(),
        global: true,
        tentative: false,
        deprecated: false,
        temporary: false,
        secondary: false,
    }
}

fn default_route(ifindexes: &[IfIndex]) -> Route {
    let hop = |ifindex: &IfIndex| Hop {
        ifindex: *ifindex,
        gateway: Some(IpAddr::from([10, 0, u8::try_from(*ifindex).unwrap(), 1])),
        onlink: false,
    };
    Route {
        table: 254,
        dst: "0.0.0.0/0".parse().unwrap(),
        metric: 100,
        protocol: 16,
        kind: RouteKind::Unicast,
        hops: ifindexes.iter().map(hop).collect(),
        source: None,
        initial_window: None,
    }
}

fn world(links: Vec<Link>, addresses: Vec<Address>, routes: Vec<Route>) -> World {
    let mut world = World::default();
    world.replace(Snapshot { links, addresses, routes, rules: Vec::new() });
    world
}

fn reason(link: Link, config: &Config) -> String {
    let world = world(vec![link], vec![address("10.0.2.2/24")], vec![default_route(&[2])]);
    find(&world, config).remove(0).unused.map_or_else(String::new, |unused| unused.reason)
}

fn named(name: &str, role: Option<Role>) -> Config {
    let matching = Match { name: Some(NameGlob::new(name).unwrap()), ..Match::default() };
    let rule = UplinkRule { matching, provider: None, role, metered: None, flags: None };
    Config { uplinks: vec![rule], ..Config::default() }
}

#[test]
fn every_kind_of_interface() {
    const ETHER: u16 = 1;
    let cases = [
        ("eth0", None, ETHER, ""),
        ("wlan0", None, ETHER, ""),
        ("eth0.5", Some("vlan"), ETHER, ""),
        ("bond0", Some("bond"), ETHER, ""),
        ("eth0", Some("veth"), ETHER, ""),
        ("wwan0", None, 0xfffe, ""),
        ("wwan0", Some("wwan"), 519, ""),
        ("rmnet0", Some("rmnet"), 519, ""),
        ("ppp0", Some("ppp"), 512, ""),
        ("veth12ab", Some("veth"), ETHER, "internal (veth)"),
        ("cali1234", Some("veth"), ETHER, "internal (veth)"),
        ("docker0", Some("bridge"), ETHER, "internal (bridge)"),
        ("dummy0", Some("dummy"), ETHER, "internal (dummy)"),
        ("wg0", Some("wireguard"), 0xfffe, "VPN or tunnel (wireguard)"),
        ("tun0", Some("tun"), 0xfffe, "VPN or tunnel (tun)"),
        ("tunl0", None, 768, "VPN or tunnel"),
        ("gre1", Some("gre"), 778, "VPN or tunnel (gre)"),
    ];
    for (name, kind, hardware, expected) in cases {
        let reason = reason(link(name, kind, hardware), &Config::default());
        assert_eq!(reason.is_empty(), expected.is_empty(), "{name} {kind:?}: {reason:?}");
        assert!(reason.contains(expected), "{name} {kind:?}: {reason:?}");
    }
}

#[test]
fn a_name_in_the_configuration_overrules_the_kind() {
    for (name, kind) in [("wg0", "wireguard"), ("dummy0", "dummy"), ("veth7", "veth")] {
        assert_eq!(reason(link(name, Some(kind), 1), &named(name, None)), "");
    }
    assert!(reason(link("eth0", None, 1), &named("eth*", Some(Role::Off))).contains("role = \"off\""));
    let by_mac = Match { mac: Some([2, 0, 0, 0, 0, 1]), ..Match::default() };
    let rule = UplinkRule { matching: by_mac, provider: None, role: None, metered: None, flags: None };
    let bridge = Link { mac: vec![2, 0, 0, 0, 0, 1], ..link("br0", Some("bridge"), 1) };
    let config = Config { uplinks: vec![rule], ..Config::default() };
    assert!(reason(bridge, &config).contains("internal"), "a bridge has the hardware address of its port");
}

#[test]
fn ports_and_links_without_a_line() {
    let port = Link { master: Some(9), ..link("eth0", None, 1) };
    assert_eq!(reason(port, &Config::default()), "is a port of another interface");
    let loopback = Link { loopback: true, ..link("lo", None, 772) };
    assert_eq!(reason(loopback, &named("lo", None)), "is the loopback interface");
    let down = Link { up: false, carrier: false, ..link("eth0", None, 1) };
    assert_eq!(reason(down, &Config::default()), "is down");
    let unplugged = Link { carrier: false, ..link("eth0", None, 1) };
    assert_eq!(reason(unplugged, &Config::default()), "has no carrier");
}

#[test]
fn what_an_interface_lacks() {
    let judged = |addresses, routes| {
        let world = world(vec![link("eth0", None, 1)], addresses, routes);
        find(&world, &Config::default()).remove(0).unused.expect("is not used")
    };
    let tentative = Address { tentative: true, ..address("10.0.2.2/24") };
    let local = Address { global: false, ..address("fe80::2/64") };
    let cases = [
        (vec![], vec![default_route(&[2])], "has no global address"),
        (vec![local], vec![default_route(&[2])], "has no global address"),
        (vec![tentative], vec![default_route(&[2])], "waits for duplicate address detection, or it failed"),
        (vec![address("10.0.2.2/24")], vec![], "has no default route"),
        (vec![address("10.0.2.2/24")], vec![default_route(&[3])], "has no default route"),
    ];
    for (addresses, routes, expected) in cases {
        let unused = judged(addresses, routes);
        assert_eq!((unused.reason.as_str(), unused.lost), (expected, true));
    }
}

#[test]
fn a_multipath_default_route_serves_both() {
    let second = Link { index: 3, ..link("eth1", None, 1) };
    let addresses = vec![address("10.0.2.2/24"), Address { ifindex: 3, ..address("10.0.3.2/24") }];
    let world = world(vec![link("eth0", None, 1), second], addresses, vec![default_route(&[2, 3])]);
    for uplink in find(&world, &Config::default()) {
        assert_eq!(uplink.unused, None);
        assert_eq!(uplink.families[0].hop.ifindex, uplink.ifindex);
        let gateway = IpAddr::from([10, 0, u8::try_from(uplink.ifindex).unwrap(), 1]);
        assert_eq!(uplink.families[0].hop.gateway, Some(gateway));
    }
}

#[test]
fn the_best_default_route_holds() {
    let near = Route { metric: 50, ..default_route(&[2]) };
    let world =
        world(vec![link("eth0", None, 1)], vec![address("10.0.2.2/24")], vec![default_route(&[2]), near]);
    assert_eq!(find(&world, &Config::default())[0].families[0].metric, 50);
}

#[test]
fn a_route_outside_the_main_table_counts_as_the_last() {
    let by_rule = Route { table: 100, metric: 0, ..default_route(&[2]) };
    let metric = |routes| {
        let world = world(vec![link("eth0", None, 1)], vec![address("10.0.2.2/24")], routes);
        find(&world, &Config::default())[0].families[0].metric
    };
    assert_eq!(metric(vec![by_rule.clone()]), u32::MAX);
    assert_eq!(metric(vec![by_rule, default_route(&[2])]), 100);
}

#[test]
fn which_addresses_are_used() {
    let temporary = Address { temporary: true, ..address("2001:db8::99/64") };
    let old = Address { deprecated: true, ..temporary.clone() };
    let tentative = Address { tentative: true, ..address("2001:db8::98/64") };
    let secondary = Address { secondary: true, ..address("10.0.2.1/24") };
    let cases = [
        (
            "one of each network",
            vec![address("10.0.2.2/24"), address("10.0.2.3/24"), address("10.0.9.2/24")],
            vec!["10.0.2.2", "10.0.9.2"],
        ),
        ("the first before further ones", vec![secondary, address("10.0.2.2/24")], vec!["10.0.2.2"]),
        ("temporary before permanent", vec![address("2001:db8::2/64"), temporary], vec!["2001:db8::99"]),
        ("preferred before deprecated", vec![old.clone(), address("2001:db8::2/64")], vec!["2001:db8::2"]),
        ("deprecated where there is no other", vec![old], vec!["2001:db8::99"]),
        ("no tentative one", vec![tentative, address("2001:db8::2/64")], vec!["2001:db8::2"]),
        (
            "a lease within the network",
            vec![address("2001:db8::5/128"), address("2001:db8::2/64")],
            vec!["2001:db8::2"],
        ),
        (
            "global before unique local",
            vec![address("fd00::2/64"), address("2001:db8::2/64")],
            vec!["2001:db8::2"],
        ),
        ("unique local where there is no other", vec![address("fd00::2/64")], vec!["fd00::2"]),
    ];
    for (what, addresses, expected) in cases {
        let chosen: Vec<String> = choose(addresses.iter()).iter().map(IpAddr::to_string).collect();
        assert_eq!(chosen, expected, "{what}");
    }
}
