//! Tests of the doctor: a healthy machine has no finding, and each illness has its own.
use super::facts::{counters, ipv4_default_routes, ipv6_default_routes};
use super::*;
use crate::core::world::{Endpoint, EndpointFlags, Family, Limits};

/// A machine with two accesses on which everything is right.
fn healthy() -> Facts {
    let endpoint = |id: u8, addr: &str| Endpoint {
        id,
        addr: addr.parse().expect("parses"),
        port: 0,
        ifindex: None,
        flags: EndpointFlags::SUBFLOW,
    };
    let interface = |name: &str| (Family::V4, name.to_owned());
    let address = |name: &str, addr: &str| (name.to_owned(), addr.parse().expect("parses"));
    let pairs = |text: &str| {
        text.split(' ')
            .map(|pair| pair.split_once('=').expect("a pair"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<Vec<_>>()
    };
    let sysctls = pairs("enabled=1 path_manager=kernel blackhole_timeout=3600");
    let counters = pairs("MPCapableSYNTX=3 MPCapableSYNACKRX=2 MPJoinSynTx=2 MPJoinSynAckRx=1 Blackhole=0");
    Facts {
        sysctls: sysctls.into_iter().collect(),
        counters: counters.into_iter().map(|(name, value)| (name, value.parse().expect("parses"))).collect(),
        default_routes: [interface("eth0"), interface("wlan0")].into(),
        rp_filter: [("eth0".into(), 2), ("wlan0".into(), 0)].into(),
        addresses: vec![address("eth0", "192.0.2.1"), address("wlan0", "198.51.100.1")],
        limits: Some(Limits { subflows: 2, add_addr_accepted: 2 }),
        endpoints: Some(vec![endpoint(1, "192.0.2.1"), endpoint(2, "198.51.100.1")]),
        ..Facts::default()
    }
}

fn set(facts: &mut Facts, sysctl: &str, value: &str) {
    facts.sysctls.insert(sysctl.into(), value.into());
}

/// The checks that find something once the healthy machine is changed.
fn checks<Unused>(change: impl FnOnce(&mut Facts) -> Unused) -> Vec<&'static str> {
    let mut facts = healthy();
    change(&mut facts);
    rules::apply(&facts).iter().map(|finding| finding.check).collect()
}

#[test]
fn a_healthy_machine_has_no_finding() {
    assert_eq!(rules::apply(&healthy()), []);
    assert_eq!(text(&[]), "nothing found that keeps MPTCP from a second subflow\n");
}

#[test]
fn each_illness_has_its_finding_and_no_other() {
    assert_eq!(checks(|facts| facts.sysctls.clear()), ["kernel"]);
    assert_eq!(checks(|facts| set(facts, "enabled", "0")), ["enabled"]);
    assert_eq!(checks(|facts| set(facts, "path_manager", "userspace")), ["path-manager"]);
    assert_eq!(checks(|facts| facts.processes.insert("mptcpd".into())), ["mptcpd"]);
    assert_eq!(checks(|facts| facts.processes.insert("NetworkManager".into())), ["network-manager"]);
    assert_eq!(checks(|facts| facts.default_routes.clear()), ["routes"]);
    assert_eq!(checks(|facts| facts.default_routes.pop_last()), ["routes"]);
    assert_eq!(checks(|facts| facts.limits = Some(Limits { subflows: 0, add_addr_accepted: 0 })), ["limits"]);
    assert_eq!(checks(|facts| facts.endpoints = Some(Vec::new())), ["endpoints"]);
    assert_eq!(checks(|facts| facts.addresses.pop()), ["endpoint-address"]);
    assert_eq!(checks(|facts| facts.rp_filter.insert("eth0".into(), 1)), ["rp-filter"]);
    assert_eq!(checks(|facts| facts.counters.insert("Blackhole".into(), 1)), ["blackhole"]);
    assert_eq!(checks(|facts| facts.counters.insert("MPCapableSYNTX".into(), 0)), ["application"]);
    assert_eq!(checks(|facts| facts.counters.remove("MPCapableSYNACKRX")), ["peer"]);
    assert_eq!(checks(|facts| facts.counters.remove("MPJoinSynAckRx")), ["join"]);
}

#[test]
fn what_is_right_after_all_is_not_found() {
    let silent: [&'static str; 0] = [];
    let before_6_15 = |facts: &mut Facts| {
        facts.sysctls.remove("path_manager");
        set(facts, "pm_type", "0");
    };
    assert_eq!(checks(before_6_15), silent);
    let told = |facts: &mut Facts| {
        facts.processes.insert("NetworkManager".into());
        facts.network_manager_told = true;
    };
    assert_eq!(checks(told), silent);
    let two_addresses_on_one_line = |facts: &mut Facts| {
        facts.default_routes.pop_last();
        facts.addresses = facts.addresses.iter().map(|(_, addr)| ("eth0".into(), *addr)).collect();
    };
    assert_eq!(checks(two_addresses_on_one_line), silent);
    let unreadable = |facts: &mut Facts| (facts.limits, facts.endpoints, facts.counters) = Default::default();
    assert_eq!(checks(unreadable), silent);
}

#[test]
fn findings_fit_eighty_columns() {
    let mut facts = healthy();
    facts.processes.insert("NetworkManager".into());
    facts.counters =
        [("MPJoinSynTx".into(), 3), ("Blackhole".into(), 2), ("MPCapableSYNTX".into(), 9)].into();
    let text = text(&rules::apply(&facts));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("\n  remedy: "), "{text}");
}

#[test]
fn default_routes_are_read_as_the_kernel_prints_them() {
    // ip route: default via 192.0.2.1 dev eth0; 192.0.2.0/24 dev eth0; unreachable default metric 9.
    let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
              eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
              eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
              *\t00000000\t00000000\t0201\t0\t0\t9\t00000000\t0\t0\t0\n";
    assert_eq!(ipv4_default_routes(v4).collect::<Vec<_>>(), ["eth0"]);
    let zero = "0".repeat(32);
    let v6 = format!(
        "fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n\
         {zero} 00 {zero} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth1\n\
         {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
    );
    assert_eq!(ipv6_default_routes(&v6).collect::<Vec<_>>(), ["eth1"]);
    assert_eq!(ipv4_default_routes("nonsense\nnonsense").count() + ipv6_default_routes("x").count(), 0);
}

#[test]
fn counters_are_read_by_name() {
    let text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: Blackhole MPJoinSynTx\nMPTcpExt: 3 4\n";
    let counters = counters(text, "MPTcpExt:");
    assert_eq!(
        counters.into_iter().collect::<Vec<_>>(),
        [("Blackhole".into(), 3), ("MPJoinSynTx".into(), 4)]
    );
}
