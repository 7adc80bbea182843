//! What the project itself writes: routes, rules, sysctls.
use mptcp_pm::{
    core::world::{Change, Family, Hop, MAIN_TABLE, OUR_PROTOCOL, Route, RouteKind, Rule, Sysctl},
    netlink::route::{Error, Outcome, Routes},
    sysctl,
};
use nix::errno::Errno;

use crate::harness::*;

fn ours(route: Route) -> Route {
    Route { protocol: OUR_PROTOCOL, metric: 50, table: 7700, ..route }
}

#[test]
fn our_routes_round_trip() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        observer.agrees().await;
        observer.all().await;
        let mut routes = Routes::open().await.unwrap();
        let direct = Hop { ifindex: east, gateway: None, onlink: false };
        let onlink = Hop { onlink: true, ..hop(east, "10.99.0.1") };
        let onlink6 = Hop { onlink: true, ..hop(east, "2001:db8:99::1") };
        let all = [
            Route {
                source: Some("10.7.0.2".parse().unwrap()),
                ..route("0.0.0.0/0", vec![hop(east, "10.7.0.1")])
            },
            Route {
                source: Some("2001:db8:7::2".parse().unwrap()),
                ..route("::/0", vec![hop(east, "2001:db8:7::1")])
            },
            Route { initial_window: Some(45), ..route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]) },
            Route { initial_window: Some(45), ..route("::/0", vec![hop(east, "2001:db8:7::1")]) },
            route("10.7.0.0/24", vec![direct.clone()]),
            route("2001:db8:7::/64", vec![direct]),
            route("0.0.0.0/0", vec![onlink]),
            route("::/0", vec![onlink6]),
            route("0.0.0.0/0", vec![hop(east, "2001:db8:7::1")]),
            route("0.0.0.0/0", vec![hop(east, "10.7.0.1"), hop(east, "10.7.0.3")]),
            route("::/0", vec![hop(east, "2001:db8:7::1"), hop(east, "2001:db8:7::3")]),
            Route { kind: RouteKind::Unreachable, ..route("0.0.0.0/0", vec![]) },
            Route { kind: RouteKind::Unreachable, ..route("::/0", vec![]) },
        ];
        for route in all.map(ours) {
            assert_eq!(routes.add_route(&route).await.unwrap(), Outcome::Done, "{route:?}");
            assert_eq!(observer.all().await, [Change::Route(route.clone())]);
            observer.agrees().await;
            let family = if route.family() == Family::V4 { "-4" } else { "-6" };
            let shown = ip(&format!("{family} route show table 7700"));
            assert!(shown.contains("proto 77") && shown.contains("metric 50"), "{shown}");
            assert_eq!(routes.add_route(&route).await.unwrap(), Outcome::AlreadySo);
            assert_eq!(routes.delete_route(&route).await.unwrap(), Outcome::Done);
            observer.all().await;
            assert!(!observer.world.routes.contains(&route), "{route:?}");
            observer.agrees().await;
            assert_eq!(routes.delete_route(&route).await.unwrap(), Outcome::AlreadySo);
        }
        // Main table too, beside another's default route, which stays.
        ip("route add default via 10.7.0.1 metric 60");
        let route = Route { table: MAIN_TABLE, ..ours(route("0.0.0.0/0", vec![hop(east, "10.7.0.3")])) };
        routes.add_route(&route).await.unwrap();
        let foreign = Route { metric: 60, ..route.clone() };
        assert_eq!(routes.delete_route(&foreign).await.unwrap(), Outcome::AlreadySo);
        routes.delete_route(&route).await.unwrap();
        assert!(ip("route show").contains("default via 10.7.0.1 dev east metric 60"));
    });
}

#[test]
fn a_route_gets_another_window_and_is_never_gone() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        let mut routes = Routes::open().await.unwrap();
        let all = [
            route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]),
            route("::/0", vec![hop(east, "2001:db8:7::1")]),
            route("0.0.0.0/0", vec![hop(east, "10.7.0.1"), hop(east, "10.7.0.3")]),
        ];
        for plain in all.map(ours) {
            let error = routes.change_route(&plain).await.unwrap_err().to_string();
            assert!(error.contains("change route"), "{error}");
            routes.add_route(&plain).await.unwrap();
            observer.all().await;
            for window in [Some(45), Some(10), None] {
                let changed = Route { initial_window: window, ..plain.clone() };
                assert_eq!(routes.change_route(&changed).await.unwrap(), Outcome::Done);
                let told = observer.all().await;
                assert!(
                    told.iter().all(|change| !matches!(change, Change::RouteGone(gone) if *gone == changed))
                );
                assert!(observer.world.routes.contains(&changed), "{told:?}");
                assert!(
                    !observer.world.routes.iter().any(|other| *other != changed && other.is_way_of(&changed))
                );
                observer.agrees().await;
            }
            routes.delete_route(&plain).await.unwrap();
            observer.all().await;
        }
    });
}

#[test]
fn a_route_that_went_with_its_link_is_deleted_already() {
    in_namespace(|| async {
        let east = cable();
        let mut routes = Routes::open().await.unwrap();
        let all = [
            ours(route("0.0.0.0/0", vec![hop(east, "10.7.0.1")])),
            ours(route("::/0", vec![hop(east, "2001:db8:7::1")])),
        ];
        for route in &all {
            routes.add_route(route).await.unwrap();
        }
        for deed in ["link set east down", "link del east"] {
            ip(deed);
            for route in &all {
                assert_eq!(routes.delete_route(route).await.unwrap(), Outcome::AlreadySo, "{deed}");
            }
        }
    });
}

#[test]
fn our_rules_round_trip() {
    in_namespace(|| async {
        let mut observer = Observer::start().await;
        let mut routes = Routes::open().await.unwrap();
        for (family, src, option) in [
            (Family::V4, "10.7.0.0/24", "-4"),
            (Family::V4, "10.7.0.2/32", "-4"),
            (Family::V6, "2001:db8:7::2/128", "-6"),
        ] {
            for (table, suppress_prefix_len) in [(7700, None), (MAIN_TABLE, Some(0))] {
                let rule = Rule {
                    family,
                    priority: 5000,
                    src: Some(src.parse().unwrap()),
                    table,
                    suppress_prefix_len,
                    protocol: OUR_PROTOCOL,
                    foreign_selectors: false,
                };
                assert_eq!(routes.add_rule(&rule).await.unwrap(), Outcome::Done);
                assert_eq!(observer.all().await, [Change::Rule(rule.clone())]);
                observer.agrees().await;
                let shown = ip(&format!("{option} rule show pref 5000"));
                assert!(shown.contains("proto 77"), "{shown}");
                assert_eq!(
                    shown.contains("suppress_prefixlength 0"),
                    suppress_prefix_len.is_some(),
                    "{shown}"
                );
                assert_eq!(routes.add_rule(&rule).await.unwrap(), Outcome::AlreadySo);
                // Another's rule in the same place is not taken for ours.
                ip(&format!("{option} rule add from {src} lookup {table} pref 5000 protocol static"));
                assert_eq!(routes.delete_rule(&rule).await.unwrap(), Outcome::Done);
                assert_eq!(routes.delete_rule(&rule).await.unwrap(), Outcome::AlreadySo);
                assert!(ip(&format!("{option} rule show pref 5000")).contains("proto static"));
                ip(&format!("{option} rule del pref 5000"));
                observer.all().await;
                observer.agrees().await;
            }
        }
    });
}

#[test]
fn a_refusal_says_what_was_tried_and_why() {
    in_namespace(|| async {
        let east = cable();
        let mut routes = Routes::open().await.unwrap();
        let error =
            routes.add_route(&ours(route("0.0.0.0/0", vec![hop(east, "192.0.2.1")]))).await.unwrap_err();
        assert!(matches!(error, Error::Refused { errno: Errno::ENETUNREACH, .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "add route 0.0.0.0/0 via 192.0.2.1 dev {east} metric 50 table 7700: \
                 ENETUNREACH: Network is unreachable: Nexthop has invalid gateway"
            )
        );
    });
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    in_namespace(|| async {
        cable();
        // Kernels before 6.2 rename only what is down.
        ip("link set west down");
        ip("link set west name east.100");
        let key = Sysctl::ReversePathFilter("east.100".into());
        let before = sysctl::read(&key).unwrap().expect("rp_filter");
        let other = if before == "2" { "1" } else { "2" };
        sysctl::write(&key, other).unwrap();
        assert_eq!(sysctl::read(&key).unwrap().as_deref(), Some(other));
        assert_eq!(sysctl::read(&Sysctl::ReversePathFilter("east".into())).unwrap(), Some(before));

        assert_eq!(sysctl::read(&Sysctl::Enabled).unwrap().as_deref(), Some("1"));
        sysctl::write(&Sysctl::Enabled, "0").unwrap();
        assert_eq!(sysctl::read(&Sysctl::Enabled).unwrap().as_deref(), Some("0"));
        let error = sysctl::write(&Sysctl::Enabled, "yes").unwrap_err().to_string();
        assert!(
            error.contains("/proc/sys/net/mptcp/enabled") && error.contains("does not accept"),
            "{error}"
        );
    });
}
