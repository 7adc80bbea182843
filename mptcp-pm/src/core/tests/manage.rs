//! Connections that the daemon manages: whatever has happened, each has the paths that it should have, and no more is
//! done than that takes.
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::kernel::Release;
use super::machine::{self, Machine, configs};
use super::site;
use super::users::{MOST, Move, Users, moves};
use crate::config::Manager;
use crate::core::action::{Action, Step};
use crate::core::connections::{Ends, Notice};
use crate::core::event::Event;
use crate::core::world::Sysctl;
use crate::core::{Core, policy};

fn cases(cases: u32) -> Cases {
    Cases { cases, failure_persistence: None, ..Cases::default() }
}

fn lived(light: bool, takes_backup: bool, moves: &[Move]) -> Users {
    let mut users = Users::new(light, takes_backup);
    moves.iter().for_each(|step| users.step(step));
    users
}

proptest! {
    #![proptest_config(cases(500))]

    /// The model asserts at each step that no last path is closed, that an id means one address, that nothing goes
    /// beside a VPN, and that who has accepted a connection does not connect.
    #[test]
    fn comes_to_the_wanted_subflows(light: bool, takes_backup: bool, moves in moves(10..120)) {
        let mut users = lived(light, takes_backup, &moves);
        users.settle(true);
        users.paths.forgive_all();
        users.settle(true);
        let faults = users.faults();
        prop_assert!(faults.is_empty(), "{faults:#?}\n{:#?}", users.connections);

        users.log.clear();
        users.paths.forgive_all();
        users.settle(true);
        prop_assert!(users.log.is_empty(), "a second pass does {:?}", users.log);
    }

    /// Nothing joins any more: what is tried is given up, and nothing waits for a deadline.
    #[test]
    fn nothing_is_tried_for_ever(light: bool, moves in moves(10..80)) {
        let mut users = lived(light, true, &moves);
        users.log.clear();
        users.settle(false);
        prop_assert_eq!(users.paths.deadline(), None);
        let mut attempts: BTreeMap<_, usize> = BTreeMap::new();
        for (token, step) in &users.log {
            *attempts.entry(step.subject(*token)).or_default() += 1;
        }
        let most = attempts.values().max().copied().unwrap_or(0);
        prop_assert!(most <= MOST, "{most} attempts: {attempts:?}");
    }

    /// One that was there all the time and one that has just started come to the same.
    #[test]
    fn a_dump_tells_what_events_have_told(light: bool, moves in moves(10..80)) {
        let mut one = lived(light, true, &moves);
        one.hear(usize::MAX);
        // What the peer has announced is told once.
        one.connections.retain(|_, known| !known.deny);
        let mut other = one.clone();
        other.restart();
        for users in [&mut one, &mut other] {
            users.settle(true);
            users.paths.forgive_all();
            users.settle(true);
        }
        let faults = (one.faults(), other.faults());
        prop_assert!(faults.0 == faults.1, "{faults:?}");
    }
}

/// Two connections with both paths, and the daemon at rest.
fn two(light: bool) -> Users {
    let mut users = Users::new(light, true);
    for _ in 0..2 {
        let token = users.open(0, false, false, false);
        users.establish(token);
    }
    users.settle(true);
    users.log.clear();
    users
}

#[test]
fn each_way_gets_a_subflow_and_the_worse_one_stands_by() {
    let users = two(true);
    for known in users.connections.values() {
        let roles: Vec<_> =
            known.subflows.iter().map(|s| (s.ends.local().ip().to_string(), s.backup)).collect();
        assert_eq!(roles, [("10.0.0.2".into(), false), ("10.1.0.2".into(), true)]);
    }
}

#[test]
fn a_lost_uplink_is_left_by_all_and_its_data_moves_first() {
    let mut users = two(true);
    users.step(&Move::Toggle(0));
    users.settle(true);
    let kinds: Vec<&str> = users.log.iter().map(|(_, step)| kind(step)).collect();
    assert_eq!(kinds, ["destroy", "destroy", "raise", "raise"]);
    users.log.clear();
    users.step(&Move::Toggle(1));
    users.settle(true);
    assert!(users.log.is_empty(), "the last path stays: {:?}", users.log);
}

#[test]
fn a_kernel_that_does_not_take_the_flag_is_told_afterwards() {
    let mut users = Users::new(true, false);
    for _ in 0..3 {
        let token = users.open(0, false, false, false);
        users.establish(token);
        users.settle(true);
    }
    assert!(users.faults().is_empty(), "{:?}", users.faults());
    assert_eq!(users.log.iter().filter(|(_, step)| kind(step) == "demote").count(), 3);
}

#[test]
fn what_the_peer_refuses_is_not_tried_again() {
    let mut users = Users::new(false, true);
    let token = users.open(0, false, false, false);
    users.establish(token);
    users.hear(9);
    users.act();
    users.fail(token, false);
    users.settle(true);
    assert_eq!(users.log.len(), 1);
    // The uplink's return is a new chance.
    users.step(&Move::Toggle(1));
    users.step(&Move::Toggle(1));
    users.settle(true);
    assert_eq!((users.log.len(), users.connections[&token].subflows.len()), (2, 2));
}

#[test]
fn a_connection_of_the_kernels_is_asked_once() {
    let mut users = Users::new(false, true);
    let token = users.open(0, false, true, false);
    users.establish(token);
    users.settle(true);
    users.step(&Move::Toggle(2));
    users.settle(true);
    assert_eq!(users.log.len(), 1);
}

/// The work for many connections is that of one, times their number: nothing is done twice.
#[test]
fn ten_thousand_connections_are_each_looked_at_once() {
    let mut users = Users::new(false, true);
    for _ in 0..10_000 {
        let token = users.open(0, false, false, false);
        users.establish(token);
    }
    users.hear(usize::MAX);
    while users.act() || users.paths.deadline() == Some(Duration::ZERO) {}
    assert_eq!(users.log.len(), 10_000);
    users.step(&Move::Prefer(1));
    assert!(!users.act());
}

const fn kind(step: &Step) -> &'static str {
    match step {
        Step::Create(_) => "create",
        Step::Destroy(..) => "destroy",
        Step::SetBackup(_, false) => "raise",
        Step::SetBackup(_, true) => "demote",
        Step::Announce(..) => "announce",
        Step::Withdraw(..) => "withdraw",
    }
}

/// Two accesses, and a daemon that is to manage the connections, at rest.
fn in_charge(release: Release) -> Machine {
    let mut machine = Machine::new(release, configs()[5].clone());
    (0..2).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    machine.settle();
    machine
}

fn manager(machine: &Machine) -> &str {
    let sysctls = &machine.kernel.sysctls;
    sysctls.get(&Sysctl::PathManager).unwrap_or(&sysctls[&Sysctl::PathManagerType])
}

#[test]
fn new_connections_are_the_daemons_when_all_else_is_there() {
    for (release, value) in [(Release::V6_18, "userspace"), (Release::V6_1, "1")] {
        let machine = in_charge(release);
        assert_eq!((manager(&machine), machine.core.report().manager), (value, Manager::Daemon));
        let changes = |action: &Action| {
            !matches!(
                action,
                Action::Resync | Action::Observe(_) | Action::Save(_) | Action::LookAtConnections
            )
        };
        let last = machine.log.iter().map(|(_, action)| action).rfind(|action| changes(action));
        assert!(matches!(last, Some(Action::WriteSysctl(_, written)) if written == value), "{last:?}");
        assert_eq!(machine.kernel.endpoints.len(), machine.kernel.ours.len());
        assert!(!machine.kernel.ours.is_empty());
    }
}

#[test]
fn they_are_the_kernels_when_the_daemon_ends_or_hears_nothing() {
    for end in [Event::Stop, Event::HandOver, Event::Hearing(false)] {
        let mut machine = in_charge(Release::V6_18);
        let endpoints = machine.kernel.endpoints.len();
        machine.feed(end.clone());
        machine.settle();
        assert_eq!(manager(&machine), "kernel", "{end:?}");
        let left = if matches!(end, Event::Stop) { 0 } else { endpoints };
        assert_eq!(machine.kernel.endpoints.len(), left, "{end:?}");
        assert_eq!(machine.core.finished(), !matches!(end, Event::Hearing(_)));
        assert_eq!(machine.core.report().manager, Manager::Kernel);
    }
}

#[test]
fn a_successor_knows_what_to_put_back() {
    let mut machine = in_charge(Release::V6_18);
    machine.crash();
    assert_eq!(manager(&machine), "userspace");
    machine.settle();
    machine.feed(Event::Stop);
    machine.settle();
    assert_eq!(manager(&machine), "kernel");
}

/// A hand-over under the kernel's path manager changes nothing at all.
#[test]
fn a_hand_over_leaves_everything() {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    site::bring_up(&mut machine.kernel, 0);
    machine.settle();
    machine.log.clear();
    machine.feed(Event::HandOver);
    machine.settle();
    assert!(machine.core.finished());
    let changes = machine.log.iter().filter(|(_, action)| !matches!(action, Action::Observe(_)));
    assert_eq!(changes.count(), 0, "{:?}", machine.log);
}

#[test]
fn where_connections_cannot_be_read_the_kernel_stays_in_charge() {
    let mut machine = Machine::new(Release::V6_18, configs()[5].clone());
    site::bring_up(&mut machine.kernel, 0);
    machine.kernel.sysctls.insert(Sysctl::PathManager, "userspace".into());
    machine.blind = true;
    for _ in 0..60 {
        machine.step(&machine::Move::Run(20));
        machine.step(&machine::Move::Wait(100));
    }
    assert_eq!(manager(&machine), "kernel");
    assert!(machine.core.report().findings.iter().any(|finding| finding.reason == "no such module"));
    machine.blind = false;
    machine.settle();
    assert_eq!(manager(&machine), "userspace");
}

/// What stood by has a route that says a large window to begin with, and has to begin with that.
#[test]
fn a_lost_uplink_is_left_before_the_route_of_the_other_one_changes() {
    let mut machine = in_charge(Release::V6_18);
    let ends = |slot| {
        let addr = site::address_of(slot, 0, 2).addr;
        Ends::new((addr, 40_000).into(), ([192, 0, 2, 1], 443).into())
    };
    let begun = Notice::Begun { ends: ends(0), server_side: false, deny_join_id0: false, established: true };
    machine.feed(Event::Connection(1, begun));
    machine.feed(Event::Connection(1, Notice::SubflowEstablished { ends: ends(1), local_id: 1 }));
    machine.log.clear();
    machine.happen(&site::Step::Carrier(0, false));
    machine.settle();
    let place = |wanted: fn(&Action) -> bool| machine.log.iter().position(|(_, action)| wanted(action));
    let left = place(|action| matches!(action, Action::Manage(_, Step::Destroy(..)))).expect("it is left");
    let other =
        place(|action| matches!(action, Action::ChangeRoute(route) if route.initial_window.is_none()));
    assert!(other.is_some_and(|other| left < other), "{:?}", machine.log);
}

/// A further address of an uplink stands for the one that is used; what is on a lost uplink is lost; what is on no uplink
/// is no business of ours.
#[test]
fn every_address_of_the_machine_has_its_place() {
    let mut machine = in_charge(Release::V6_18);
    machine.happen(&site::Step::Address(0, 1));
    site::bring_up(&mut machine.kernel, 2);
    machine.happen(&site::Step::Carrier(2, false));
    machine.kernel.addresses.push(site::address_of(4, 0, 77));
    machine.settle();
    machine.feed(Event::Resynced(machine.kernel.snapshot()));
    machine.settle();
    let Core { world, config, owned, capacity, .. } = &machine.core;
    let aims = policy::desire(world, config, owned, *capacity).aims;
    let addr = |slot, which| site::address_of(slot, which, 2).addr;
    assert!(aims.ways.iter().any(|way| way.addr == addr(0, 0)));
    assert_eq!(aims.aliases.get(&addr(0, 1)), Some(&addr(0, 0)));
    assert!(aims.elsewhere.contains(&addr(4, 0)));
    let lost = addr(2, 0);
    assert!(machine.kernel.addresses.iter().any(|address| address.addr == lost));
    assert!(!aims.ways.iter().any(|way| way.addr == lost) && !aims.elsewhere.contains(&lost));
}

/// Another attempt by means of an endpoint closes what is being opened over it: it is made for the kernel's own
/// connections only.
#[test]
fn failures_of_other_connections_leave_the_endpoints_alone() {
    let mut machine = in_charge(Release::V6_18);
    let addr = site::address_of(0, 0, 2).addr;
    machine.log.clear();
    machine.break_subflow(addr);
    machine.settle();
    assert!(!machine.log.iter().any(|(_, action)| matches!(action, Action::RetrySubflows(..))));
}

#[test]
fn a_late_notice_of_an_end_does_not_hide_the_subflow_that_follows() {
    let moves = [
        Move::Open { uplink: 1, server_side: false, by_kernel: false, deny: false },
        Move::Announce(0, 0),
        Move::Prefer(1),
        Move::Establish(0),
        Move::Hear(3),
        Move::Run(3),
        Move::Join(0),
        Move::Hear(1),
        // A dump shows this before it is heard; another is made.
        Move::Leave(0, 4),
        Move::Run(1),
        Move::Toggle(1),
    ];
    let mut users = lived(true, true, &moves);
    users.settle(true);
    assert!(users.faults().is_empty(), "{:?}", users.faults());
}
