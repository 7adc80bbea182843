//! Routes of every kind.
use std::collections::HashSet;

use mptcp_pm::core::world::{Change, Family, Hop, MAIN_TABLE, Route, RouteKind, Snapshot};

use crate::harness::*;

#[test]
fn routes_of_every_shape() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        observer.agrees().await;
        observer.all().await;
        let onlink = Hop { onlink: true, ..hop(east, "10.99.0.1") };
        let direct = Hop { ifindex: east, gateway: None, onlink: false };
        let v6 = |route: Route| if route.metric == 0 { Route { metric: 1024, ..route } } else { route };
        let sourced = Route {
            source: Some("10.7.0.2".parse().unwrap()),
            ..route("0.0.0.0/0", vec![hop(east, "10.7.0.1")])
        };
        let refusing = |kind| Route { kind, hops: vec![], ..route("192.0.2.0/24", vec![]) };
        let shapes = [
            (
                "default via 10.7.0.1 metric 100",
                Route { metric: 100, ..route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]) },
            ),
            ("default via 10.7.0.1 src 10.7.0.2", sourced),
            ("192.0.2.0/24 via 10.99.0.1 dev east onlink", route("192.0.2.0/24", vec![onlink])),
            ("192.0.2.0/24 dev east", route("192.0.2.0/24", vec![direct])),
            (
                "192.0.2.0/24 nexthop via 10.7.0.3 dev east nexthop via 10.7.0.1 dev east",
                route("192.0.2.0/24", vec![hop(east, "10.7.0.1"), hop(east, "10.7.0.3")]),
            ),
            (
                "192.0.2.0/24 via inet6 2001:db8:7::1 dev east",
                route("192.0.2.0/24", vec![hop(east, "2001:db8:7::1")]),
            ),
            ("unreachable 192.0.2.0/24", refusing(RouteKind::Unreachable)),
            ("blackhole 192.0.2.0/24", refusing(RouteKind::Other)),
            (
                "192.0.2.0/24 via 10.7.0.1 table 100000 proto dhcp",
                Route { table: 100_000, protocol: 16, ..route("192.0.2.0/24", vec![hop(east, "10.7.0.1")]) },
            ),
            ("default via 2001:db8:7::1", v6(route("::/0", vec![hop(east, "2001:db8:7::1")]))),
            (
                "default via 10.7.0.1 proto bgp",
                Route { protocol: 186, ..route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]) },
            ),
            (
                "unreachable 2001:db8:5::/48",
                v6(Route { kind: RouteKind::Unreachable, ..route("2001:db8:5::/48", vec![]) }),
            ),
            (
                "2001:db8:5::/48 nexthop via 2001:db8:7::3 dev east nexthop via 2001:db8:7::1 dev east",
                v6(route("2001:db8:5::/48", vec![hop(east, "2001:db8:7::1"), hop(east, "2001:db8:7::3")])),
            ),
        ];
        for (command, route) in shapes {
            let add = if route.family() == Family::V4 { "-4 route add" } else { "-6 route add" };
            ip(&format!("{add} {command}"));
            assert_eq!(observer.all().await, [Change::Route(route.clone())], "{command}");
            observer.agrees().await;
            ip(&format!("{} {command}", add.replace("add", "del")));
            let gone: Vec<_> = observer.all().await;
            assert!(gone.contains(&Change::RouteGone(route)), "{command}: {gone:?}");
            observer.agrees().await;
        }
    });
}

#[test]
fn routes_that_are_none_of_our_business() {
    in_namespace(|| async {
        cable();
        let mut observer = Observer::start().await;
        observer.agrees().await;
        observer.all().await;
        ip_batch(
            "route add 192.0.2.0/24 via 10.7.0.1 proto bgp\n\
             route add 192.0.3.0/24 via 10.7.0.1 proto bird\n\
             route add 192.0.4.0/24 via 10.7.0.1 proto 196\n\
             route add local 192.0.5.0/24 dev lo table local\n\
             route add 192.0.6.0/24 via 10.7.0.1 tos 4\n\
             route add 2001:db8:5::/48 via 2001:db8:7::1 from 2001:db8:7::/64\n\
             route add 2001:db8:6::/48 via 2001:db8:7::1 proto zebra\n",
        );
        assert_eq!(observer.all().await, []);
        observer.agrees().await;
        let tables: HashSet<_> = observer.world.routes.iter().map(|route| route.table).collect();
        assert_eq!(tables, HashSet::from([MAIN_TABLE]));
    });
}

#[test]
fn a_route_that_replaces_another() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        observer.agrees().await;
        observer.all().await;
        for (default, a, b, metric) in
            [("0.0.0.0/0", "10.7.0.1", "10.7.0.3", 0), ("::/0", "2001:db8:7::1", "2001:db8:7::3", 1024)]
        {
            let via = |gateway| Route { metric, ..route(default, vec![hop(east, gateway)]) };
            ip(&format!("route add {default} via {a}"));
            assert_eq!(observer.all().await, [Change::Route(via(a))]);
            ip(&format!("route replace {default} via {b}"));
            assert_eq!(observer.all().await, [Change::RouteGone(via(a)), Change::Route(via(b))]);
            observer.agrees().await;
            // Two of one destination and metric, and one of them replaced.
            ip(&format!("route append {default} via {a}"));
            observer.all().await;
            observer.agrees().await;
            ip(&format!("route replace {default} via {a} onlink dev east"));
            observer.all().await;
            observer.agrees().await;
        }
    });
}

#[test]
fn next_hops_of_an_ipv6_route_come_and_go() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        observer.agrees().await;
        ip("-6 route add default via 2001:db8:7::1 metric 9");
        ip("-6 route append default via 2001:db8:7::3 metric 9");
        ip("-6 route append default via 2001:db8:7::5 metric 9");
        observer.all().await;
        observer.agrees().await;
        let default = |w: &Snapshot| {
            w.routes.iter().filter(|r| r.is_default()).map(|r| r.hops.clone()).collect::<Vec<_>>()
        };
        assert_eq!(default(&observer.world).concat().len(), 3);
        ip("-6 route del default via 2001:db8:7::1 metric 9");
        observer.all().await;
        observer.agrees().await;
        assert_eq!(default(&observer.world), [vec![hop(east, "2001:db8:7::3"), hop(east, "2001:db8:7::5")]]);
    });
}
