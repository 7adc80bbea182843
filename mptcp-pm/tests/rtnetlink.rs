//! The rtnetlink watch and writer against the running kernel, each test in a network namespace of its own.
//! Needs root.
use std::{
    collections::HashSet,
    fmt::Debug,
    fs,
    future::Future,
    hash::Hash,
    process::{Command, Stdio},
    time::Duration,
};

use mptcp_pm::{
    core::world::{
        Address, Change, Family, Hop, IfIndex, Link, MAIN_TABLE, OUR_PROTOCOL, Route, RouteKind, Rule,
        Snapshot, Sysctl,
    },
    netlink::{
        route::{Error, Outcome, Routes},
        watch::{Notice, Watch},
    },
    sysctl,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

/// Far more than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The protocol number that `ip route add` uses (`RTPROT_BOOT`).
const BOOT: u8 = 3;

/// Runs a test in a network namespace that ends with the thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    assert!(geteuid().is_root(), "this test makes network namespaces: run it as root");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs `ip` with these arguments in the namespace of this thread.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("run ip (iproute2)");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "ip {arguments}: {err}");
    out.into_owned()
}

/// Runs many `ip` commands at once.
fn ip_batch(commands: &str) {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("run ip (iproute2)");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn ifindex(name: &str) -> IfIndex {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex"))
        .unwrap_or_default()
        .trim()
        .parse()
        .unwrap_or_else(|_| {
            // sysfs shows the namespace in which it was mounted, so ask ip.
            ip(&format!("-o link show {name}")).split(':').next().unwrap().parse().unwrap()
        })
}

/// A watch, and the world as its changes draw it.
struct Observer {
    watch: Watch,
    world: Snapshot,
}

impl Observer {
    async fn start() -> Self {
        let mut watch = Watch::open().unwrap();
        let world = watch.snapshot().await.unwrap();
        Self { watch, world }
    }

    async fn next(&mut self) -> Notice {
        tokio::time::timeout(PATIENCE, self.watch.next()).await.expect("no notice").unwrap()
    }

    /// The changes up to and with the one that `last` accepts.
    async fn until(&mut self, last: impl Fn(&Change) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            match self.next().await {
                Notice::Change(change) => {
                    apply(&mut self.world, change.clone());
                    changes.push(change);
                    if changes.last().is_some_and(&last) {
                        return changes;
                    }
                }
                Notice::Lost => panic!("lost messages after {changes:?}"),
            }
        }
    }

    /// The changes that are made already: a last one is made here to know where they end.
    async fn all(&mut self) -> Vec<Change> {
        ip("rule add from 203.0.113.77 lookup main priority 77");
        let mark = |rule: &Rule| rule.priority == 77;
        let mut changes = self.until(|c| matches!(c, Change::Rule(rule) if mark(rule))).await;
        changes.pop();
        ip("rule del from 203.0.113.77 lookup main priority 77");
        let mut gone = self.until(|c| matches!(c, Change::RuleGone(rule) if mark(rule))).await;
        gone.pop();
        changes.append(&mut gone);
        changes
    }

    /// What was drawn from changes is what a new dump shows, as soon as the kernel has finished what it does in
    /// the background (IPv6 link-local addresses).
    async fn agrees(&mut self) {
        loop {
            let fresh = lines(&Watch::open().unwrap().snapshot().await.unwrap());
            if lines(&self.world) == fresh {
                return;
            }
            match tokio::time::timeout(PATIENCE, self.watch.next()).await {
                Ok(notice) => match notice.unwrap() {
                    Notice::Change(change) => apply(&mut self.world, change),
                    Notice::Lost => panic!("lost messages"),
                },
                Err(_) => assert_eq!(lines(&self.world), fresh),
            }
        }
    }
}

/// The changes to the world that a reader of the watch makes; it knows nothing of the kernel.
fn apply(world: &mut Snapshot, change: Change) {
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
            world.addresses.retain(|old| (old.ifindex, old.addr) != (address.ifindex, address.addr));
            world.addresses.push(address);
        }
        Change::AddressGone(index, addr) => {
            world.addresses.retain(|old| (old.ifindex, old.addr) != (index, addr));
        }
        Change::Route(route) => world.routes.push(route),
        Change::RouteGone(route) => remove(&mut world.routes, &route),
        Change::Rule(rule) => world.rules.push(rule),
        Change::RuleGone(rule) => remove(&mut world.rules, &rule),
    }
}

/// Removes what must be there.
fn remove<T: Debug + PartialEq>(list: &mut Vec<T>, item: &T) {
    let at = list.iter().position(|old| old == item).unwrap_or_else(|| panic!("{item:?} not in {list:?}"));
    list.remove(at);
}

/// A snapshot in an order that can be compared; without the tentative addresses, of which the kernel tells only
/// once they are usable.
fn lines(snapshot: &Snapshot) -> Vec<String> {
    fn of<T: Debug>(list: &[T]) -> impl Iterator<Item = String> {
        list.iter().map(|item| format!("{item:?}"))
    }
    let Snapshot { links, addresses, routes, rules } = snapshot;
    let addresses: Vec<_> = addresses.iter().filter(|address| !address.tentative).collect();
    let mut lines: Vec<_> = of(links).chain(of(&addresses)).chain(of(routes)).chain(of(rules)).collect();
    lines.sort();
    lines
}

fn set<T: Eq + Hash>(items: impl IntoIterator<Item = T>) -> HashSet<T> {
    items.into_iter().collect()
}

/// A cable whose end `east` has 10.7.0.2/24 and 2001:db8:7::2/64; without link-local addresses, which the kernel
/// makes at a time of its own.
fn cable() -> IfIndex {
    ip_batch(
        "link set lo up\n\
         link add east type veth peer name west\n\
         link set east addrgenmode none\n\
         link set west addrgenmode none\n\
         link set west up\n\
         link set east up\n\
         addr add 10.7.0.2/24 dev east\n\
         addr add 2001:db8:7::2/64 dev east nodad\n",
    );
    ifindex("east")
}

fn route(dst: &str, hops: Vec<Hop>) -> Route {
    let dst = dst.parse().unwrap();
    Route { table: MAIN_TABLE, dst, metric: 0, protocol: BOOT, kind: RouteKind::Unicast, hops, source: None }
}

fn hop(ifindex: IfIndex, gateway: &str) -> Hop {
    Hop { ifindex, gateway: Some(gateway.parse().unwrap()), onlink: false }
}

#[test]
fn a_link_from_first_to_last() {
    in_namespace(|| async {
        let mut observer = Observer::start().await;
        ip("link add name east address 02:00:00:00:00:01 type veth peer name west");
        let changes = observer.all().await;
        let index = ifindex("east");
        let east = Link {
            index,
            name: "east".into(),
            kind: Some("veth".into()),
            hardware: 1,
            mac: vec![2, 0, 0, 0, 0, 1],
            up: false,
            carrier: false,
            loopback: false,
            master: None,
        };
        assert!(changes.contains(&Change::Link(east.clone())), "{changes:?}");
        observer.agrees().await;

        ip("link set east name wan");
        let wan = Link { name: "wan".into(), ..east };
        assert_eq!(observer.all().await, [Change::Link(wan.clone())]);

        ip("link set west up");
        ip("link set wan up");
        let up = Link { up: true, carrier: true, ..wan.clone() };
        observer.until(|change| *change == Change::Link(up.clone())).await;
        observer.all().await;
        observer.agrees().await;

        ip("link set west down");
        let unplugged = Link { carrier: false, ..up };
        observer.until(|change| *change == Change::Link(unplugged.clone())).await;
        observer.all().await;
        observer.agrees().await;

        ip("link set wan down");
        observer.until(|change| *change == Change::Link(wan.clone())).await;
        ip("link add bond0 type bridge");
        ip("link set wan master bond0");
        let enslaved = Link { master: Some(ifindex("bond0")), ..wan.clone() };
        observer.until(|change| *change == Change::Link(enslaved.clone())).await;
        // The bridge reports this as the deletion of a link too.
        ip("link set wan nomaster");
        let changes = observer.all().await;
        assert!(changes.contains(&Change::Link(wan)), "{changes:?}");
        assert!(!changes.contains(&Change::LinkGone(index)), "{changes:?}");
        observer.agrees().await;

        ip("link del wan");
        let changes = observer.all().await;
        assert!(changes.contains(&Change::LinkGone(index)), "{changes:?}");
        observer.agrees().await;
    });
}

#[test]
fn addresses_become_usable_and_deprecated_and_go() {
    in_namespace(|| async {
        let east = cable();
        // Without carrier duplicate address detection does not begin.
        ip("link set west down");
        ip("addr add 2001:db8:8::2/64 dev east");
        let mut observer = Observer::start().await;
        let find = |world: &Snapshot, addr: &str| {
            world.addresses.iter().find(|a| a.addr.to_string() == addr).cloned().expect("the address")
        };
        let tentative = find(&observer.world, "2001:db8:8::2");
        assert_eq!(
            tentative,
            Address {
                ifindex: east,
                addr: "2001:db8:8::2".parse().unwrap(),
                prefix_len: 64,
                global: true,
                tentative: true,
                deprecated: false,
                temporary: false,
                secondary: false,
            }
        );
        assert!(observer.world.addresses.iter().all(|a| a.global != a.addr.is_loopback()));

        ip("link set west up");
        let usable = Address { tentative: false, ..tentative };
        observer.until(|change| *change == Change::Address(usable.clone())).await;
        observer.agrees().await;
        observer.all().await;

        for (addr, prefix) in [("10.7.0.2", 24), ("2001:db8:7::2", 64)] {
            let address = find(&observer.world, addr);
            assert!(!address.deprecated && address.global);
            ip(&format!("addr change {addr}/{prefix} dev east valid_lft 1000 preferred_lft 0"));
            let deprecated = Address { deprecated: true, ..address.clone() };
            observer.until(|change| *change == Change::Address(deprecated.clone())).await;
            observer.agrees().await;
            ip(&format!("addr del {addr}/{prefix} dev east"));
            observer.until(|change| *change == Change::AddressGone(east, address.addr)).await;
            observer.agrees().await;
        }

        // A lifetime that is renewed is no change, nor is a label.
        observer.all().await;
        ip("addr change 2001:db8:8::2/64 dev east valid_lft 2000 preferred_lft 1000");
        assert_eq!(observer.all().await, []);
        observer.agrees().await;
    });
}

#[test]
fn an_address_with_a_peer_and_one_that_is_there_twice() {
    in_namespace(|| async {
        let east = cable();
        let mut observer = Observer::start().await;
        ip("addr add 10.8.0.1 peer 10.8.0.9/32 dev east");
        let changes = observer.all().await;
        let own = |c: &Change| matches!(c, Change::Address(a) if a.addr.to_string() == "10.8.0.1");
        assert!(changes.iter().any(own), "{changes:?}");

        ip("addr add 10.7.0.2/16 dev east");
        observer.all().await;
        ip("addr del 10.7.0.2/16 dev east");
        let changes = observer.all().await;
        let gone = Change::AddressGone(east, "10.7.0.2".parse().unwrap());
        assert!(!changes.contains(&gone), "{changes:?}");
        observer.agrees().await;
    });
}

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

/// Routes over both of two cables, in the main table and in one of their own, and with a source.
fn routes_over_two_cables() {
    ip_batch(
        "link add north type veth peer name south\n\
         link set north addrgenmode none\n\
         link set south addrgenmode none\n\
         link set south up\n\
         link set north up\n\
         addr add 10.6.0.2/24 dev north\n\
         addr add 10.6.0.22/24 dev north\n\
         addr add 2001:db8:6::2/64 dev north nodad\n\
         route add default via 10.7.0.1 metric 7\n\
         route add default via 10.6.0.1 metric 6 src 10.6.0.22\n\
         route add default via 10.7.0.1 table 700 src 10.7.0.2\n\
         route add default via 10.6.0.1 table 600 src 10.6.0.22\n\
         route add 192.0.2.0/24 nexthop via 10.7.0.1 dev east nexthop via 10.6.0.1 dev north\n\
         route add default via 2001:db8:7::1 table 700 src 2001:db8:7::2\n\
         route add default via 2001:db8:6::1 table 600 src 2001:db8:6::2\n\
         route add 2001:db8:5::/48 nexthop via 2001:db8:7::1 dev east nexthop via 2001:db8:6::1 dev north\n",
    );
}

/// After each of these the kernel removes or changes routes without a word, some of them at least.
#[test]
fn what_the_kernel_does_silently_is_told() {
    let deeds: [&[&str]; 9] = [
        &["link set east down"],
        &["link set north down", "link set east down"],
        &["link set north down", "link set north up", "link set east down"],
        &["link del north"],
        &["addr del 10.7.0.2/24 dev east"],
        &["addr del 10.6.0.22/24 dev north"],
        &["addr del 10.6.0.2/24 dev north"],
        &["-4 addr flush dev north", "-4 addr flush dev east"],
        &["addr del 2001:db8:7::2/64 dev east", "addr del 2001:db8:6::2/64 dev north"],
    ];
    for quiet_ipv6 in [false, true] {
        for deed in deeds {
            in_namespace(|| async move {
                cable();
                routes_over_two_cables();
                if quiet_ipv6 {
                    fs::write("/proc/sys/net/ipv6/route/skip_notify_on_dev_down", "1").unwrap();
                }
                let mut observer = Observer::start().await;
                for step in deed {
                    ip(step);
                    observer.agrees().await;
                }
                observer.all().await;
                observer.agrees().await;
            });
        }
    }
}

#[test]
fn rules_and_the_selectors_of_others() {
    in_namespace(|| async {
        let mut observer = Observer::start().await;
        let seen: HashSet<_> = observer.world.rules.iter().map(|r| (r.family, r.priority, r.table)).collect();
        let builtin = set([
            (Family::V4, 0, 255),
            (Family::V4, 32766, 254),
            (Family::V4, 32767, 253),
            (Family::V6, 0, 255),
            (Family::V6, 32766, 254),
        ]);
        assert_eq!(seen, builtin);
        assert!(observer.world.rules.iter().all(|rule| !rule.foreign_selectors && rule.protocol == 2));

        let plain = Rule {
            family: Family::V4,
            priority: 500,
            src: Some("10.7.0.2/32".parse().unwrap()),
            table: 1000,
            suppress_prefix_len: None,
            protocol: 0,
            foreign_selectors: false,
        };
        let suppressing = Rule {
            family: Family::V6,
            priority: 501,
            src: None,
            table: MAIN_TABLE,
            suppress_prefix_len: Some(0),
            protocol: 77,
            foreign_selectors: false,
        };
        let shapes = [
            ("-4 rule add from 10.7.0.2 lookup 1000 pref 500", plain.clone()),
            ("-6 rule add lookup main suppress_prefixlength 0 pref 501 protocol 77", suppressing),
        ];
        for (command, rule) in shapes {
            ip(command);
            assert_eq!(observer.all().await, [Change::Rule(rule.clone())], "{command}");
            observer.agrees().await;
            ip(&command.replace("add", "del"));
            assert_eq!(observer.all().await, [Change::RuleGone(rule)], "{command}");
        }

        let selectors = [
            "fwmark 1",
            "fwmark 0x100/0xff00",
            "iif lo",
            "oif east",
            "uidrange 0-9",
            "sport 5",
            "dport 5-6",
            "ipproto tcp",
            "to 10.0.0.0/8",
            "tos 4",
            "not",
        ];
        for selector in selectors {
            let add = format!("rule add {} from 10.7.0.2 lookup 1000 pref 500", selector);
            let add = if selector == "not" {
                add
            } else {
                format!("rule add from 10.7.0.2 {selector} lookup 1000 pref 500")
            };
            ip(&add);
            let foreign = Rule { foreign_selectors: true, ..plain.clone() };
            assert_eq!(observer.all().await, [Change::Rule(foreign.clone())], "{selector}");
            ip(&add.replace("add", "del"));
            assert_eq!(observer.all().await, [Change::RuleGone(foreign)], "{selector}");
        }
        // Two that look alike to us, of which one goes.
        ip("rule add from 10.7.0.2 fwmark 1 lookup 1000 pref 500");
        ip("rule add from 10.7.0.2 fwmark 2 lookup 1000 pref 500");
        ip("rule add from 10.7.0.3 prohibit pref 502");
        observer.all().await;
        ip("rule del from 10.7.0.2 fwmark 1 lookup 1000 pref 500");
        assert_eq!(observer.all().await, []);
        observer.agrees().await;
    });
}

#[test]
fn a_storm_is_lost_and_then_read_again() {
    in_namespace(|| async {
        cable();
        let mut observer = Observer::start().await;
        let before = observer.watch.receive_buffer().unwrap();
        let storm = |verb: &str| {
            let line = |i: u32| format!("route {verb} 100.64.{}.{}/32 via 10.7.0.1\n", i / 256, i % 256);
            ip_batch(&(0..3000).map(line).collect::<String>());
        };
        // The first thousand are removed while nobody reads: what was told of them is wrong afterwards.
        storm("add");
        storm("del");
        let mut notices = 0;
        while observer.next().await != Notice::Lost {
            notices += 1;
            assert!(notices < 6000, "nothing was lost");
        }
        assert_eq!(observer.watch.receive_buffer().unwrap(), 2 * before);
        observer.world = observer.watch.snapshot().await.unwrap();
        assert!(observer.world.routes.len() < 100);
        observer.agrees().await;
        ip("route add default via 10.7.0.1");
        let changes = observer.all().await;
        assert!(changes.iter().any(|c| matches!(c, Change::Route(r) if r.is_default())), "{changes:?}");
        observer.agrees().await;
    });
}

#[test]
fn nothing_is_lost_around_a_snapshot_nor_by_dropped_futures() {
    in_namespace(|| async {
        let east = cable();
        let mut watch = Watch::open().unwrap();
        assert_eq!(watch.next().await.unwrap(), Notice::Lost);
        ip("route add default via 10.7.0.1");
        let world = watch.snapshot().await.unwrap();
        let default = route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]);
        assert!(world.routes.contains(&default));
        let mut observer = Observer { watch, world };
        assert_eq!(observer.all().await, []);

        // A snapshot that is given up half way is owned up to.
        drop(std::pin::pin!(observer.watch.snapshot()));
        futures_util::FutureExt::now_or_never(observer.watch.snapshot());
        if observer.watch.snapshot().await.is_ok() {
            ip("route add 192.0.2.0/24 via 10.7.0.1");
        }
        let mut changes = Vec::new();
        while changes.is_empty() {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                notice = observer.watch.next() => changes.push(notice.unwrap()),
            }
        }
        let added = route("192.0.2.0/24", vec![hop(east, "10.7.0.1")]);
        assert_eq!(changes, [Notice::Change(Change::Route(added))]);
    });
}

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
        let routes = Routes::open().await.unwrap();
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
fn our_rules_round_trip() {
    in_namespace(|| async {
        let mut observer = Observer::start().await;
        let routes = Routes::open().await.unwrap();
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
        let routes = Routes::open().await.unwrap();
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
