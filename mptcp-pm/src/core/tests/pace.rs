//! No action is repeated for ever, an idle daemon sleeps, a busy one keeps to its pace.
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::kernel::Release;
use super::machine::{Fault, Machine, Move, a_fault, attempts, configs};
use super::site::{self, Step};
use crate::core::action::{Action, Subject};
use crate::core::event::Event;
use crate::core::retry::{MAX_ATTEMPTS, Pacer};
use crate::core::world::{Family, OUR_PROTOCOL};

fn laptop() -> Machine {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    (0..3).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    machine
}

/// Lets a day pass: only deadlines wake the daemon.
fn a_day(machine: &mut Machine) {
    let end = machine.now + Duration::from_secs(86_400);
    machine.step(&Move::Run(200));
    while let Some(at) = machine.core.next_deadline().filter(|at| *at < end) {
        assert!(machine.log.len() < 100_000, "never rests");
        machine.now = machine.now.max(at);
        machine.feed(Event::Deadline);
        machine.step(&Move::Run(200));
    }
    machine.now = end;
}

proptest! {
    #![proptest_config(Cases { cases: 60, failure_persistence: None, ..Cases::default() })]

    /// A kernel that refuses for ever is left alone after a few attempts; so is one that cannot be read, but for a
    /// look each minute.
    #[test]
    fn a_refusing_kernel_is_left_alone(fault in a_fault(), later in any::<bool>()) {
        let mut machine = laptop();
        if later {
            machine.settle();
            machine.log.clear();
            machine.step(&Move::Fail(fault));
            machine.happen(&Step::Carrier(0, false));
            machine.happen(&Step::ForeignDelete(1));
            machine.hear(usize::MAX);
        } else {
            machine.step(&Move::Fail(fault));
        }
        a_day(&mut machine);
        for (subject, count) in attempts(&machine.log) {
            let most = match subject {
                // Each attempt at something is followed by a look.
                Subject::Knowledge => 24 * 61 + 500,
                // It follows the others.
                Subject::State => 200,
                // Deleted and added, each counted.
                _ => usize::try_from(MAX_ATTEMPTS).unwrap() + 4,
            };
            prop_assert!(count <= most, "{subject}: {count} times");
        }
        if fault != Fault::Read {
            machine.log.clear();
            a_day(&mut machine);
            prop_assert!(machine.log.is_empty(), "{:?}", machine.log);
        }
    }
}

/// Somebody deletes every rule of ours as soon as he hears of it.
#[test]
fn a_fight_ends() {
    let mut machine = laptop();
    machine.settle();
    machine.log.clear();
    let end = machine.now + Duration::from_secs(86_400);
    while machine.now < end {
        machine.happen(&Step::Vandal(true));
        machine.hear(usize::MAX);
        machine.step(&Move::Run(50));
        let ours = machine.kernel.rules.iter().any(|rule| rule.protocol == OUR_PROTOCOL);
        match machine.core.next_deadline() {
            Some(at) => {
                machine.now = machine.now.max(at);
                machine.feed(Event::Deadline);
            }
            None if ours => machine.now += Duration::from_millis(10),
            None => break,
        }
    }
    for (subject, count) in attempts(&machine.log) {
        let most = if subject == Subject::Knowledge { 1_000 } else { usize::try_from(MAX_ATTEMPTS).unwrap() };
        assert!(count <= most, "{subject}: {count} times");
    }
    assert!(machine.core.report().findings.iter().any(|finding| finding.given_up));
}

/// Changes of a foreign interface every millisecond for half a minute.
#[test]
fn churn_neither_starves_nor_floods() {
    let mut machine = laptop();
    machine.settle();
    machine.log.clear();
    let (begun, span) = (machine.now, Duration::from_secs(30));
    let mut lost_at = None;
    let mut answered = None;
    for round in 0_u32.. {
        if machine.now - begun >= span {
            break;
        }
        machine.now += Duration::from_millis(1);
        let step = match round % 4 {
            0 => Step::Address(4, 0),
            1 => Step::Default(4, Family::V4, 900),
            2 => Step::NoDefault(4, Family::V4),
            _ => Step::NoAddress(4, 0),
        };
        if round == 0 {
            machine.happen(&Step::Plug(4));
            machine.happen(&Step::Up(4, true));
        }
        machine.happen(&step);
        if round == 15_000 {
            machine.happen(&Step::Carrier(0, false));
            lost_at = Some(machine.now);
        }
        machine.hear(usize::MAX);
        if machine.core.next_deadline().is_some_and(|at| at <= machine.now) {
            machine.feed(Event::Deadline);
        }
        machine.step(&Move::Run(100));
        let gone = !machine.kernel.endpoints.iter().any(|endpoint| endpoint.ifindex == Some(2));
        if let (Some(_), None, true) = (lost_at, answered, gone) {
            answered = Some(machine.now);
        }
    }
    let delay = answered.expect("acted") - lost_at.expect("lost");
    assert!(delay < Duration::from_millis(200), "{delay:?}");
    let reads = |wanted: fn(&Action) -> bool| machine.log.iter().filter(|(_, action)| wanted(action)).count();
    let at_most = |every: u32| (span.as_millis() as usize) / every as usize + Pacer::BURST as usize + 1;
    assert!(reads(|action| matches!(action, Action::Observe(_))) <= at_most(25));
    assert!(reads(|action| matches!(action, Action::Resync)) <= at_most(250));
    let others = reads(|action| !matches!(action, Action::Observe(_) | Action::Resync));
    assert!(others < 50, "{others} actions for one lost interface");
}

/// Without anything that happens, there is no deadline and nothing to do.
#[test]
fn an_idle_daemon_never_wakes() {
    let mut machine = laptop();
    machine.settle();
    assert!(machine.core.report().settled);
    assert_eq!(machine.core.next_deadline(), None);
    assert_eq!(machine.core.next_action(machine.now + Duration::from_secs(86_400)), None);
}

/// What does not matter does not even cause a look: routes of others, by thousands.
#[test]
fn routes_of_others_wake_nothing() {
    let mut machine = laptop();
    machine.settle();
    machine.log.clear();
    for number in 0..10_000_u32 {
        let mut route = site::default_route(0, 2, Family::V4, 20, 1);
        let [_, a, b, c] = (number << 4).to_be_bytes();
        route.dst = format!("{}.{b}.{c}.0/28", 11 + a).parse::<ipnet::IpNet>().unwrap().trunc();
        machine.feed(Event::Changed(crate::core::world::Change::Route(route)));
    }
    machine.settle();
    assert_eq!(machine.log, []);
}
