//! Tests of the doctor: a healthy machine has no problem, and each illness has its own.
use std::net::IpAddr;

use super::facts::{Unit, mptcp_counters, wish};
use super::*;
use crate::config::Config;
use crate::core::observed::World;
use crate::core::routes::Routes;
use crate::core::world::{
    Address, Endpoint, EndpointFlags, Hop, IfIndex, Limits, Link, MAIN_TABLE, Observation, Route, RouteKind,
    Rule, Snapshot, Sysctl,
};

const ETH0: IfIndex = 2;
const WLAN0: IfIndex = 3;

fn link(index: IfIndex, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: None,
        hardware: 1,
        mac: Vec::new(),
        up: true,
        carrier: true,
        loopback: false,
        master: None,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("parses")
}

fn address(ifindex: IfIndex, addr: &str) -> Address {
    Address {
        ifindex,
        addr: ip(addr),
        prefix_len: 24,
        global: true,
        tentative: false,
        deprecated: false,
        temporary: false,
        secondary: false,
    }
}

fn default_route(ifindex: IfIndex, metric: u32, gateway: &str) -> Route {
    Route {
        table: MAIN_TABLE,
        dst: "0.0.0.0/0".parse().expect("parses"),
        metric,
        protocol: 16,
        kind: RouteKind::Unicast,
        hops: vec![Hop { ifindex, gateway: Some(ip(gateway)), onlink: false }],
        source: None,
        initial_window: None,
    }
}

fn endpoint(id: u8, addr: &str, ifindex: IfIndex) -> Endpoint {
    Endpoint { id, addr: ip(addr), port: 0, ifindex: Some(ifindex), flags: EndpointFlags::SUBFLOW }
}

fn world() -> World {
    let main = Rule {
        family: crate::core::world::Family::V4,
        priority: 32766,
        src: None,
        table: MAIN_TABLE,
        suppress_prefix_len: None,
        protocol: 2,
        foreign_selectors: false,
    };
    let sysctls = [
        (Sysctl::Enabled, "1"),
        (Sysctl::PathManager, "kernel"),
        (Sysctl::ReversePathFilter("eth0".into()), "2"),
        (Sysctl::ReversePathFilter("wlan0".into()), "0"),
    ];
    let mut world = World::default();
    world.replace(Snapshot {
        links: vec![link(ETH0, "eth0"), link(WLAN0, "wlan0")],
        addresses: vec![address(ETH0, "192.0.2.1"), address(WLAN0, "198.51.100.1")],
        routes: vec![default_route(ETH0, 100, "192.0.2.9"), default_route(WLAN0, 600, "198.51.100.9")],
        rules: vec![main],
    });
    world.observation = Some(Observation {
        endpoints: vec![endpoint(1, "192.0.2.1", ETH0), endpoint(2, "198.51.100.1", WLAN0)],
        limits: Some(Limits { subflows: 2, add_addr_accepted: 2 }),
        sysctls: sysctls.into_iter().map(|(key, value)| (key, value.to_owned())).collect(),
    });
    world
}

/// A machine with two accesses on which everything is right.
fn healthy() -> Facts {
    let counters = [
        ("MPCapableSYNTX", 3),
        ("MPCapableSYNACKRX", 2),
        ("MPJoinSynTx", 2),
        ("MPJoinSynAckRx", 1),
        ("Blackhole", 1),
    ];
    let mut facts = Facts { world: world(), ..Facts::default() };
    facts.counters = counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    facts.programs.daemon = true;
    facts
}

/// The second access loses its default route.
fn lose_wifi(facts: &mut Facts) {
    assert!(facts.world.routes.remove(&default_route(WLAN0, 600, "198.51.100.9")));
}

fn seen(facts: &mut Facts) -> &mut Observation {
    facts.world.observation.as_mut().expect("was looked at")
}

fn set(facts: &mut Facts, key: Sysctl, value: &str) {
    seen(facts).sysctls.insert(key, value.into());
}

/// The findings of one severity, once the healthy machine is changed.
fn checks<Unused>(severity: Severity, change: impl FnOnce(&mut Facts) -> Unused) -> Vec<&'static str> {
    let mut facts = healthy();
    change(&mut facts);
    facts.desired = wish(&facts.world, &Config::default());
    let findings = rules::apply(&facts);
    findings.iter().filter(|finding| finding.severity == severity).map(|finding| finding.check).collect()
}

fn problems<Unused>(change: impl FnOnce(&mut Facts) -> Unused) -> Vec<&'static str> {
    checks(Severity::Problem, change)
}

fn notes<Unused>(change: impl FnOnce(&mut Facts) -> Unused) -> Vec<&'static str> {
    checks(Severity::Note, change)
}

fn count(facts: &mut Facts, name: &str, value: u64) {
    facts.counters.insert(name.into(), value);
}

const SILENT: [&str; 0] = [];

#[test]
fn a_healthy_machine_has_no_finding() {
    assert_eq!(problems(|_| ()), SILENT);
    assert_eq!(notes(|_| ()), SILENT);
    assert_eq!(text(&[]), "ready: nothing found that keeps MPTCP from a second subflow\n");
}

#[test]
fn each_illness_of_the_machine_has_its_finding_and_no_other() {
    assert_eq!(problems(|facts| seen(facts).sysctls.clear()), ["kernel"]);
    assert_eq!(problems(|facts| facts.misconfigured = Some("x".into())), ["configuration"]);
    assert_eq!(problems(|facts| set(facts, Sysctl::Enabled, "0")), ["enabled"]);
    let userspace = |facts: &mut Facts| {
        facts.programs.daemon = false;
        set(facts, Sysctl::PathManager, "userspace");
    };
    assert_eq!(problems(userspace), ["path-manager"]);
    let installed = |facts: &mut Facts| {
        facts.programs.unit = Some(Unit::Enabled);
        facts.programs.daemon = false;
    };
    assert_eq!(problems(installed), ["daemon"]);
    assert_eq!(notes(installed), SILENT);
    assert_eq!(problems(|facts| facts.programs.mptcpd = Some(7)), ["mptcpd"]);
    assert_eq!(problems(|facts| facts.programs.network_manager = true), ["network-manager"]);
    assert_eq!(problems(|facts| facts.in_blackhole = true), ["blackhole"]);
    assert_eq!(problems(|facts| count(facts, "MPCapableSYNACKRX", 0)), ["peer"]);
    assert_eq!(problems(|facts| count(facts, "MPJoinSynAckRx", 0)), ["join"]);
}

#[test]
fn each_illness_of_the_paths_has_its_finding_and_no_other() {
    assert_eq!(problems(|facts| facts.world.routes = Routes::default()), ["uplinks"]);
    assert_eq!(problems(lose_wifi), ["uplinks"]);
    let none = Limits { subflows: 0, add_addr_accepted: 0 };
    assert_eq!(problems(|facts| seen(facts).limits = Some(none)), ["limits"]);
    let without = |facts: &mut Facts, number: usize| {
        facts.programs.daemon = false;
        seen(facts).endpoints.truncate(number);
    };
    assert_eq!(problems(|facts| without(facts, 0)), ["endpoints"]);
    assert_eq!(problems(|facts| without(facts, 1)), ["endpoints"]);
    // A daemon may have its reasons.
    assert_eq!(problems(|facts| seen(facts).endpoints.clear()), SILENT);
    assert_eq!(notes(|facts| seen(facts).endpoints.clear()), ["endpoints"]);
    let gone = |facts: &mut Facts| {
        facts.programs.daemon = false;
        seen(facts).endpoints.push(endpoint(3, "203.0.113.1", ETH0));
    };
    assert_eq!(problems(gone), ["endpoint-address"]);
    assert_eq!(problems(|facts| seen(facts).endpoints[1].ifindex = None), ["endpoint-route"]);
    assert_eq!(problems(|facts| seen(facts).endpoints[1].ifindex = Some(ETH0)), ["endpoint-route"]);
    let strict = |facts: &mut Facts| set(facts, Sysctl::ReversePathFilter("eth0".into()), "1");
    assert_eq!(problems(strict), ["rp-filter"]);
}

#[test]
fn what_is_good_to_know_is_no_problem() {
    assert_eq!(notes(|facts| facts.programs.daemon = false), ["daemon"]);
    assert_eq!(notes(|facts| facts.programs.unit = Some(Unit::Enabled)), SILENT);
    assert_eq!(notes(|facts| facts.programs.unit = Some(Unit::Disabled)), ["enabled-at-boot"]);
    assert_eq!(notes(|facts| facts.rights.net_admin = false), ["privilege"]);
    assert_eq!(notes(|facts| facts.rights.sysctls_read_only = true), ["read-only"]);
    assert_eq!(notes(|facts| facts.rights.btf = false), ["ebpf"]);
    assert_eq!(notes(|facts| count(facts, "MPCapableSYNTX", 0)), ["application"]);
    assert_eq!(notes(|facts| count(facts, "MPCapableFallbackSYNACK", 4)), ["fallback"]);
    assert_eq!(problems(|facts| count(facts, "MPCapableFallbackSYNACK", 4)), SILENT);
}

#[test]
fn what_is_right_after_all_is_not_found() {
    let before_6_15 = |facts: &mut Facts| {
        seen(facts).sysctls.remove(&Sysctl::PathManager);
        set(facts, Sysctl::PathManagerType, "0");
    };
    assert_eq!(problems(before_6_15), SILENT);
    assert_eq!(problems(|facts| seen(facts).endpoints.remove(0)), SILENT, "connections begin there anyway");
    let by_rule = |facts: &mut Facts| {
        seen(facts).endpoints[1].ifindex = None;
        let table = 100;
        facts.world.routes.insert(Route { table, ..default_route(WLAN0, 0, "198.51.100.9") });
        let src = Some("198.51.100.1/32".parse().expect("parses"));
        let rule = Rule { priority: 1000, src, table, ..facts.world.rules[0].clone() };
        facts.world.rules.push(rule);
    };
    assert_eq!(problems(by_rule), SILENT);
    let two_addresses_on_one_line = |facts: &mut Facts| {
        lose_wifi(facts);
        facts.world.addresses.insert((ETH0, ip("203.0.113.1")), address(ETH0, "203.0.113.1"));
        seen(facts).endpoints[1] = endpoint(2, "203.0.113.1", ETH0);
    };
    assert_eq!(problems(two_addresses_on_one_line), SILENT);
    let one_line_and_strict = |facts: &mut Facts| {
        two_addresses_on_one_line(facts);
        set(facts, Sysctl::ReversePathFilter("eth0".into()), "1");
    };
    assert_eq!(problems(one_line_and_strict), SILENT);
}

#[test]
fn findings_fit_eighty_columns() {
    let mut facts = healthy();
    facts.programs.network_manager = true;
    facts.programs.daemon = false;
    facts.in_blackhole = true;
    facts.counters =
        [("MPJoinSynTx".into(), 3), ("Blackhole".into(), 2), ("MPCapableSYNTX".into(), 9)].into();
    let text = text(&rules::apply(&facts));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("\n  remedy: ") && text.contains("\n\nnote, daemon: "), "{text}");
}

#[test]
fn counters_are_read_by_name() {
    let text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: Blackhole MPJoinSynTx\nMPTcpExt: 3 4\n";
    let counters = mptcp_counters(text);
    assert_eq!(
        counters.into_iter().collect::<Vec<_>>(),
        [("Blackhole".into(), 3), ("MPJoinSynTx".into(), 4)]
    );
}
