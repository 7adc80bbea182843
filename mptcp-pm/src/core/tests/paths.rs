//! The last path stays, a new one comes before an old one goes, and nothing goes beside a VPN.
use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::kernel::{Kernel, Release};
use super::machine::{Machine, configs};
use super::oracle;
use super::site::{self, Step};
use crate::core::action::Action;
use crate::core::report::Owner;
use crate::core::world::{EndpointFlags, Family, Sysctl};

/// `eth0` and `wlan0`, settled.
fn laptop(config: usize) -> Machine {
    let mut machine = Machine::new(Release::V6_18, configs()[config].clone());
    (0..2).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    machine.settle();
    assert_eq!(machine.kernel.endpoints.len(), 4);
    machine.log.clear();
    machine
}

fn after(machine: &mut Machine, steps: &[Step]) -> Vec<Action> {
    machine.log.clear();
    steps.iter().for_each(|step| machine.happen(step));
    machine.settle();
    machine.log.iter().map(|(_, action)| action.clone()).collect()
}

fn on(kernel: &Kernel, ifindex: u32) -> usize {
    kernel.endpoints.iter().filter(|endpoint| endpoint.ifindex == Some(ifindex)).count()
}

#[test]
fn the_last_path_stays_until_another_comes() {
    let mut machine = laptop(0);
    after(&mut machine, &[Step::Carrier(0, false)]);
    assert_eq!((on(&machine.kernel, 2), on(&machine.kernel, 3)), (0, 2));

    after(&mut machine, &[Step::Carrier(1, false)]);
    assert_eq!((on(&machine.kernel, 2), on(&machine.kernel, 3)), (0, 2), "stranded");
    let owners: Vec<_> = machine.core.report().endpoints.iter().map(|endpoint| endpoint.owner).collect();
    assert_eq!(owners, [Owner::Stranded, Owner::Stranded]);

    let actions = after(&mut machine, &[Step::Carrier(0, true)]);
    assert_eq!((on(&machine.kernel, 2), on(&machine.kernel, 3)), (2, 0));
    let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).expect("done");
    let (save, route) =
        (place(|a| matches!(a, Action::Save(_))), place(|a| matches!(a, Action::AddRoute(_))));
    let (rule, add) =
        (place(|a| matches!(a, Action::AddRule(_))), place(|a| matches!(a, Action::AddEndpoint(_))));
    let delete = place(|a| matches!(a, Action::DeleteEndpoint(_)));
    assert!(save < add && add < route && route < rule && rule < delete, "{actions:?}");
}

#[test]
fn no_path_waits_for_buffers() {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    (0..2).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    let actions = after(&mut machine, &[]);
    let is_buffer = |a: &Action| matches!(a, Action::WriteSysctl(Sysctl::ReceiveBuffer, _));
    let buffer = actions.iter().position(is_buffer).expect("done");
    let add = actions.iter().rposition(|a| matches!(a, Action::AddEndpoint(_))).expect("done");
    assert!(add < buffer, "{actions:?}");
}

/// A default route that only rules lead to is no way for a subflow; nor is the main table's where a network behind a
/// VPN has to be refused first.
#[test]
fn a_way_exists_before_its_endpoint() {
    let order = |actions: &[Action]| {
        let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).expect("done");
        let last_route = actions.iter().rposition(|a| matches!(a, Action::AddRoute(_))).expect("done");
        (last_route, place(|a| matches!(a, Action::AddEndpoint(_))))
    };
    let mut machine = laptop(0);
    after(&mut machine, &[Step::NoDefault(0, Family::V4), Step::NoDefault(0, Family::V6)]);
    let mut elsewhere = site::default_route(0, 2, Family::V4, 100, 1);
    elsewhere.table = 1000;
    machine.kernel.add_route(elsewhere).unwrap();
    let (route, add) = order(&after(&mut machine, &[]));
    assert!(route < add);

    let mut machine = laptop(0);
    after(&mut machine, &[Step::Carrier(0, false), Step::Plug(site::VPN), Step::Up(site::VPN, true)]);
    after(&mut machine, &[Step::VpnNetwork(true)]);
    let actions = after(&mut machine, &[Step::Carrier(0, true)]);
    let refusal =
        |a: &Action| matches!(a, Action::AddRoute(route) if route.dst.to_string() == "10.200.0.0/16");
    let v4 = |a: &Action| matches!(a, Action::AddEndpoint(new) if new.addr.is_ipv4());
    let place = |wanted: &dyn Fn(&Action) -> bool| actions.iter().position(wanted).expect("done");
    assert!(place(&refusal) < place(&v4), "{actions:?}");
}

#[test]
fn the_last_address_stays_stranded_and_a_new_one_takes_over() {
    let mut machine = laptop(0);
    after(&mut machine, &[Step::Unplug(1)]);
    after(&mut machine, &[Step::NoAddress(0, 0)]);
    let addrs = |machine: &Machine| {
        let mut addrs: Vec<String> = machine.kernel.endpoints.iter().map(|e| e.addr.to_string()).collect();
        addrs.sort();
        addrs
    };
    assert_eq!(
        addrs(&machine),
        ["10.0.0.2", "2001:db8:0::2".parse::<std::net::IpAddr>().unwrap().to_string().as_str()]
    );
    after(&mut machine, &[Step::Address(0, 1), Step::Default(0, Family::V4, 300)]);
    assert_eq!(addrs(&machine)[0], "10.0.0.3");
    assert_eq!(addrs(&machine).len(), 2);
}

#[test]
fn what_is_switched_off_does_not_stay() {
    let mut machine = laptop(0);
    after(&mut machine, &[Step::Unplug(1)]);
    machine.configure(configs()[2].clone());
    machine.settle();
    assert_eq!(machine.kernel.endpoints, []);
}

#[test]
fn one_that_stands_by_is_raised_before_the_first_stands_by() {
    let mut machine = laptop(0);
    let backup = |machine: &Machine, index| {
        let mut there = machine.kernel.endpoints.iter().filter(move |e| e.ifindex == Some(index));
        there.all(|endpoint| endpoint.flags.contains(EndpointFlags::BACKUP))
    };
    assert!(!backup(&machine, 2) && backup(&machine, 3));
    machine.configure(configs()[3].clone());
    machine.settle();
    assert!(backup(&machine, 2) && !backup(&machine, 3));
    let order: Vec<bool> = machine
        .log
        .iter()
        .filter_map(|(_, action)| if let Action::SetBackup(_, on) = action { Some(*on) } else { None })
        .collect();
    assert_eq!(order, [false, false, true, true]);
}

#[test]
fn a_full_kernel_takes_the_best_and_room_is_used_again() {
    let mut machine = Machine::new(Release::V6_18, configs()[1].clone());
    for slot in 0..3 {
        site::bring_up(&mut machine.kernel, slot);
        let index = 2 + u32::try_from(slot).unwrap();
        machine.kernel.add_address(site::address_of(slot, 2, index));
    }
    machine.settle();
    assert_eq!(machine.kernel.endpoints.len(), 8);
    let expected = |machine: &Machine| -> Vec<_> {
        oracle::uses(&machine.kernel, &machine.config).iter().take(8).map(|one| one.addr).collect()
    };
    let there = |machine: &Machine| -> Vec<_> { machine.kernel.endpoints.iter().map(|e| e.addr).collect() };
    assert!(expected(&machine).iter().all(|addr| there(&machine).contains(addr)));
    // The best one goes: the ninth gets its place; it returns: it gets its place back.
    after(&mut machine, &[Step::NoAddress(0, 2)]);
    assert_eq!(machine.kernel.endpoints.len(), 8);
    after(&mut machine, &[Step::Address(0, 2)]);
    assert!(expected(&machine).iter().all(|addr| there(&machine).contains(addr)));
    assert_eq!(machine.core.report().findings, []);
}

#[test]
fn endpoints_of_others_serve_and_are_replaced_when_they_go() {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    machine.happen(&Step::Plug(0));
    machine.happen(&Step::ForeignEndpoint(0, 0, true));
    let foreign = machine.kernel.endpoints[0].clone();
    let up = [Step::Up(0, true), Step::Address(0, 0), Step::Default(0, Family::V4, 100)];
    after(&mut machine, &up);
    assert_eq!(machine.kernel.endpoints, [foreign]);
    assert_eq!(machine.core.report().endpoints[0].owner, Owner::Foreign);
    machine.happen(&Step::ForeignDelete(0));
    machine.feed(crate::core::event::Event::Look);
    machine.settle();
    assert_eq!(machine.core.report().endpoints[0].owner, Owner::Ours);
    assert_eq!(machine.kernel.endpoints.len(), 1);
}

#[test]
fn a_renamed_interface_gets_its_filter_back() {
    let mut machine = laptop(0);
    after(&mut machine, &[Step::Rename(0)]);
    assert_eq!(machine.kernel.sysctls[&super::kernel::strict("eth0x")], "2");
    machine.feed(crate::core::event::Event::Stop);
    machine.settle();
    assert_eq!(machine.is_restored(), Ok(()));
}

proptest! {
    #![proptest_config(Cases { cases: 200, failure_persistence: None, ..Cases::default() })]

    /// While each step is heard of and answered before the next one: as long as an interface is merely lost, every
    /// family that had an endpoint has one. It is the only path, and the connection waits for its return.
    #[test]
    fn a_lost_interface_never_takes_the_last_path(
        steps in prop::collection::vec(losses(), 5..40), config in 0_usize..2) {
        let mut machine = laptop(config);
        for step in steps {
            after(&mut machine, std::slice::from_ref(&step));
            for family in Family::BOTH {
                let left = machine.kernel.endpoints.iter().any(|e| Family::of(&e.addr) == family);
                prop_assert!(left, "no {family:?} endpoint after {step:?}");
            }
        }
    }

    /// While a VPN carries the default route, nothing of an interface beside it is left.
    #[test]
    fn nothing_goes_beside_a_vpn(steps in prop::collection::vec(site::step(), 0..40),
        config in prop::sample::select(vec![0_usize, 1, 3])) {
        let mut machine = laptop(config);
        machine.happen(&Step::Plug(site::VPN));
        machine.happen(&Step::Up(site::VPN, true));
        machine.happen(&Step::Address(site::VPN, 0));
        machine.happen(&Step::VpnNetwork(true));
        for step in &steps {
            after(&mut machine, std::slice::from_ref(step));
            let vpn = |index| machine.kernel.links.get(&index).is_some_and(|link| link.kind.is_some());
            if oracle::vpn_carries(&machine.kernel) {
                prop_assert!(machine.kernel.endpoints.iter().all(|e| e.ifindex.is_some_and(vpn)));
                prop_assert!(machine.core.world.rules.iter().all(|rule| rule.table < 0x4d50_0000
                    || vpn(rule.table - 0x4d50_0000)));
            }
        }
        after(&mut machine, &[Step::VpnHalf(true)]);
        let beside = |index: u32| machine.kernel.endpoints.iter().any(|e| e.ifindex == Some(index));
        prop_assert!(!oracle::vpn_carries(&machine.kernel) || !(beside(2) || beside(3)));
    }
}

/// What makes an interface lost, or brings it back.
fn losses() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..2, any::<bool>()).prop_map(|(slot, on)| Step::Carrier(slot, on)),
        (0_usize..2, any::<bool>()).prop_map(|(slot, on)| Step::Up(slot, on)),
        (0_usize..2, 0_usize..4).prop_map(|(slot, which)| Step::NoAddress(slot, which)),
        (0_usize..2, 0_usize..4).prop_map(|(slot, which)| Step::Address(slot, which)),
        (0_usize..2).prop_map(|slot| Step::NoDefault(slot, Family::V4)),
        (0_usize..2).prop_map(|slot| Step::Default(slot, Family::V4, 300)),
        (0_usize..2).prop_map(|slot| Step::Default(slot, Family::V6, 300)),
    ]
}
