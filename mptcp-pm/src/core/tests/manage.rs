//! Connections that the daemon manages: whatever has happened, each has the paths that it should have, and no more is
//! done than that takes.
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::users::{MOST, Move, Users, moves};
use crate::core::action::Step;

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
            known.subflows.iter().map(|s| (s.ends.local.ip().to_string(), s.backup)).collect();
        assert_eq!(roles, [("10.0.0.2".into(), false), ("10.1.0.2".into(), true)]);
    }
}

#[test]
fn a_lost_uplink_is_left_by_all_and_a_raised_one_carries_first() {
    let mut users = two(true);
    users.step(&Move::Toggle(0));
    users.settle(true);
    let kinds: Vec<&str> = users.log.iter().map(|(_, step)| kind(step)).collect();
    assert_eq!(kinds, ["raise", "raise", "destroy", "destroy"]);
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
    while users.act() {}
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
