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
        Snapshot,
    },
    netlink::{
        route::{Error, Outcome, Routes},
        watch::{Notice, Watch},
    },
    sysctl::{self, Key},
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

    /// What was drawn from changes is what a new dump shows.
    async fn agrees(&mut self) {
        let mut fresh = Watch::open().unwrap();
        same(&self.world, &fresh.snapshot().await.unwrap());
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

fn same(a: &Snapshot, b: &Snapshot) {
    fn sorted<T: Debug>(list: &[T]) -> Vec<String> {
        let mut lines: Vec<_> = list.iter().map(|item| format!("{item:?}")).collect();
        lines.sort();
        lines
    }
    assert_eq!(sorted(&a.links), sorted(&b.links));
    assert_eq!(sorted(&a.addresses), sorted(&b.addresses));
    assert_eq!(sorted(&a.routes), sorted(&b.routes));
    assert_eq!(sorted(&a.rules), sorted(&b.rules));
}

fn set<T: Eq + Hash>(items: impl IntoIterator<Item = T>) -> HashSet<T> {
    items.into_iter().collect()
}

/// Two ends of a cable, up, with an address each: `east` 10.7.0.2/24 and 2001:db8:7::2/64.
fn cable() -> IfIndex {
    ip_batch(
        "link set lo up\n\
         link add east type veth peer name west\n\
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
