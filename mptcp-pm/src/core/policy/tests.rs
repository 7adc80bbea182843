//! Flags by profile, role and cost; limits; VPNs.
use super::*;
use crate::core::hints::{Connectivity, Sources};
use crate::core::owned::Replaced;
use crate::core::uplink::FamilyAccess;
use crate::core::world::{Hop, Observation};

fn uplink(role: Option<Role>, metered: bool) -> Uplink {
    Uplink {
        ifindex: 2,
        name: "eth0".into(),
        class: Class::Access,
        provider: None,
        role,
        metered,
        sources: Sources::default(),
        profile: None,
        radio: false,
        rests: None,
        held: false,
        flags: None,
        families: Vec::new(),
        unused: None,
    }
}

/// The same with an access of this metric.
fn reaching(metric: u32, uplink: Uplink) -> Uplink {
    let access = FamilyAccess {
        family: Family::V4,
        metric,
        hop: Hop { ifindex: 2, gateway: None, onlink: false },
        addresses: Vec::new(),
        connectivity: Connectivity::Unknown,
        idle: false,
    };
    Uplink { families: vec![access], ..uplink }
}

#[test]
fn flags_by_profile_role_and_cost() {
    use Profile::{Heavy, Light, Site};
    const CARRIES: EndpointFlags = EndpointFlags::SUBFLOW;
    const STANDS_BY: EndpointFlags = EndpointFlags::SUBFLOW.union(EndpointFlags::BACKUP);
    const SIGNALS: EndpointFlags = EndpointFlags::SIGNAL;
    const SIGNALS_BACKUP: EndpointFlags = EndpointFlags::SIGNAL.union(EndpointFlags::BACKUP);
    // (profile, role, metered, best) -> flags
    let cases = [
        (Light, None, false, true, CARRIES),
        (Light, None, false, false, STANDS_BY),
        (Light, None, true, true, CARRIES),
        (Light, Some(Role::Primary), true, false, CARRIES),
        (Light, Some(Role::Secondary), false, false, STANDS_BY),
        (Light, Some(Role::Secondary), false, true, CARRIES),
        (Light, Some(Role::Backup), false, true, STANDS_BY),
        (Heavy, None, false, false, CARRIES),
        (Heavy, None, true, false, STANDS_BY),
        (Heavy, Some(Role::Secondary), true, false, CARRIES),
        (Heavy, Some(Role::Backup), false, true, STANDS_BY),
        (Site, None, false, false, SIGNALS),
        (Site, None, true, false, SIGNALS_BACKUP),
        (Site, Some(Role::Primary), true, false, SIGNALS),
    ];
    for (profile, role, metered, best, expected) in cases {
        let config = Config { profile, ..Config::default() };
        let seen = flags(&uplink(role, metered), Family::V4, best, &config);
        assert_eq!(seen, expected, "{profile:?} {role:?} metered {metered} best {best}");
    }
}

#[test]
fn configured_flags_overrule_all() {
    let own = EndpointFlags::SIGNAL | EndpointFlags::SUBFLOW;
    let uplink = Uplink { flags: Some(own), ..uplink(Some(Role::Backup), true) };
    assert_eq!(flags(&uplink, Family::V4, false, &Config::default()), own);
}

#[test]
fn the_better_uplink_comes_first() {
    let one = |ifindex, role, metered, metric| Uplink { ifindex, ..reaching(metric, uplink(role, metered)) };
    let all = [
        one(6, Some(Role::Backup), false, 1),
        one(5, None, true, 10),
        one(4, None, false, 600),
        one(3, Some(Role::Secondary), false, 100),
        one(2, Some(Role::Primary), true, 900),
    ];
    let order: Vec<IfIndex> = preferred(&all).iter().map(|uplink| uplink.ifindex).collect();
    assert_eq!(order, [2, 3, 4, 5, 6]);
}

fn seen(subflows: u32, add_addr_accepted: u32) -> World {
    let limits = Some(Limits { subflows, add_addr_accepted });
    World { observation: Some(Observation { limits, ..Observation::default() }), ..World::default() }
}

#[test]
fn limits_have_room_for_all() {
    let owned = Owned::default();
    let (old, new) = (Capacity { limits: 8, ..Capacity::default() }, Capacity::default());
    let heavy = Config { profile: Profile::Heavy, ..Config::default() };
    let mut fixed = Config::default();
    fixed.limits.subflows = Some(3);
    let cases = [
        (2, seen(2, 0), Config::default(), new, (8, 2)),
        (2, seen(2, 3), Config::default(), new, (8, 3)),
        (7, seen(2, 0), heavy.clone(), new, (11, 4)),
        (7, seen(2, 0), heavy, old, (8, 4)),
        (2, seen(20, 0), Config::default(), new, (20, 2)),
        (2, seen(2, 0), fixed, new, (3, 2)),
    ];
    for (endpoints, world, config, capacity, (subflows, add_addr_accepted)) in cases {
        let wanted = limits(endpoints, &world, &config, &owned, capacity);
        assert_eq!(wanted, Limits { subflows, add_addr_accepted });
    }
}

#[test]
fn limits_go_down_again_with_the_uplinks() {
    let before = Limits { subflows: 2, add_addr_accepted: 0 };
    let owned = Owned { limits: Some(Replaced { before, ours: Vec::new() }), ..Owned::default() };
    let wanted = limits(2, &seen(11, 4), &Config::default(), &owned, Capacity::default());
    assert_eq!(wanted, Limits { subflows: 8, add_addr_accepted: 2 });
}

#[test]
fn the_reverse_path_filter_is_loosened_where_it_is_strict() {
    let cases =
        [("0", "0", None), ("0", "1", Some("2")), ("1", "0", Some("2")), ("2", "1", None), ("1", "2", None)];
    for (all, own, expected) in cases {
        let mut world = seen(2, 0);
        let values = &mut world.observation.as_mut().unwrap().sysctls;
        values.insert(Sysctl::ReversePathFilter("all".into()), all.into());
        values.insert(Sysctl::ReversePathFilter("eth0".into()), own.into());
        let wanted = sysctls(&[&uplink(None, false)], &world, &Config::default());
        let value = wanted.get(&Sysctl::ReversePathFilter("eth0".into())).map(String::as_str);
        assert_eq!(value, expected, "all {all}, own {own}");
    }
}

#[test]
fn what_stands_by_begins_with_what_the_scheduler_hands_over() {
    let one = |ifindex, metric| Uplink { ifindex, ..reaching(metric, uplink(None, false)) };
    let mut all = [one(2, 100), one(3, 600)];
    let windows = |config: &Config| {
        let best = best_of_each(&all);
        let routes = all.iter().flat_map(|uplink| routes(uplink, &World::default(), config, &best));
        routes.map(|route| route.initial_window).collect::<Vec<_>>()
    };
    let light = Config::default();
    assert_eq!(windows(&light), [None, Some(INITIAL_WINDOW)]);
    assert_eq!(windows(&Config { buffers: Buffers::Keep, ..light.clone() }), [None, None]);
    let heavy = Config { profile: Profile::Heavy, ..light };
    assert_eq!(windows(&heavy), [None, None]);

    // What rests for a while is not what stands by.
    all[0].families[0].idle = true;
    let flags = flags(&all[0], Family::V4, true, &heavy);
    assert!(flags.contains(EndpointFlags::BACKUP));
    let best = best_of_each(&all);
    assert!(
        all.iter().all(|uplink| routes(uplink, &World::default(), &heavy, &best)[0].initial_window.is_none())
    );
}

#[test]
fn networks_of_every_link_are_not_a_vpn_s() {
    let is = |text: &str| is_link_scoped(&text.parse().unwrap());
    assert!(is("fe80::/64") && is("ff00::/8") && is("169.254.0.0/16") && is("224.0.0.0/4"));
    assert!(!is("10.0.0.0/8") && !is("fd00::/8") && !is("2001:db8::/32"));
}
