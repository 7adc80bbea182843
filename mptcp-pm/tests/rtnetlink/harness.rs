//! A namespace, `ip` in it, and a reader of the watch.
use std::{
    fmt::Debug,
    process::{Command, Stdio},
    time::Duration,
};

use mptcp_pm::{
    core::world::{Change, Hop, IfIndex, MAIN_TABLE, Route, RouteKind, Rule, Snapshot},
    netlink::watch::{Notice, Watch},
};

pub use crate::common::{ip, run_async as in_namespace};

/// Far more than anything here takes; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The protocol number that `ip route add` uses (`RTPROT_BOOT`).
pub const BOOT: u8 = 3;

/// Runs many `ip` commands at once.
pub fn ip_batch(commands: &str) {
    let mut child =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("run ip (iproute2)");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The index of an interface. Not from sysfs, which shows the namespace that it was mounted in.
pub fn ifindex(name: &str) -> IfIndex {
    ip(&format!("-o link show {name}")).split(':').next().unwrap().parse().unwrap()
}

/// A watch, and the world as its changes draw it.
pub struct Observer {
    pub watch: Watch,
    pub world: Snapshot,
}

impl Observer {
    pub async fn start() -> Self {
        let mut watch = Watch::open().unwrap();
        let world = watch.snapshot().await.unwrap();
        Self { watch, world }
    }

    pub async fn next(&mut self) -> Notice {
        tokio::time::timeout(PATIENCE, self.watch.next()).await.expect("no notice")
    }

    /// The changes up to and with the one that `last` accepts.
    pub async fn until(&mut self, last: impl Fn(&Change) -> bool) -> Vec<Change> {
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
    pub async fn all(&mut self) -> Vec<Change> {
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
    pub async fn agrees(&mut self) {
        loop {
            let fresh = lines(&Watch::open().unwrap().snapshot().await.unwrap());
            if lines(&self.world) == fresh {
                return;
            }
            match tokio::time::timeout(PATIENCE, self.watch.next()).await {
                Ok(notice) => match notice {
                    Notice::Change(change) => apply(&mut self.world, change),
                    Notice::Lost => panic!("lost messages"),
                },
                Err(_) => assert_eq!(lines(&self.world), fresh),
            }
        }
    }
}

/// The changes to the world that a reader of the watch makes; it knows nothing of the kernel.
pub fn apply(world: &mut Snapshot, change: Change) {
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
pub fn remove<T: Debug + PartialEq>(list: &mut Vec<T>, item: &T) {
    let at = list.iter().position(|old| old == item).unwrap_or_else(|| panic!("{item:?} not in {list:?}"));
    list.remove(at);
}

/// A snapshot in an order that can be compared; without the tentative addresses, of which the kernel tells only
/// once they are usable.
pub fn lines(snapshot: &Snapshot) -> Vec<String> {
    fn of<T: Debug>(list: &[T]) -> impl Iterator<Item = String> {
        list.iter().map(|item| format!("{item:?}"))
    }
    let Snapshot { links, addresses, routes, rules } = snapshot;
    let addresses: Vec<_> = addresses.iter().filter(|address| !address.tentative).collect();
    let mut lines: Vec<_> = of(links).chain(of(&addresses)).chain(of(routes)).chain(of(rules)).collect();
    lines.sort();
    lines
}

/// A cable whose end `east` has 10.7.0.2/24 and 2001:db8:7::2/64; without link-local addresses, which the kernel
/// makes at a time of its own.
pub fn cable() -> IfIndex {
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

pub fn route(dst: &str, hops: Vec<Hop>) -> Route {
    let dst = dst.parse().unwrap();
    Route {
        table: MAIN_TABLE,
        dst,
        metric: 0,
        protocol: BOOT,
        kind: RouteKind::Unicast,
        hops,
        source: None,
        initial_window: None,
    }
}

pub fn hop(ifindex: IfIndex, gateway: &str) -> Hop {
    Hop { ifindex, gateway: Some(gateway.parse().unwrap()), onlink: false }
}
