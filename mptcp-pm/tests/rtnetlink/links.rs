//! Links and addresses.
use mptcp_pm::core::world::{Address, Change, Link, Snapshot};

use crate::harness::*;

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
