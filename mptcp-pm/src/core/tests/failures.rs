//! Subflows that failed are tried again: for a while, not for ever, and not where others would pay for it.
use std::net::IpAddr;
use std::time::Duration;

use super::kernel::Release;
use super::machine::{Machine, configs};
use super::site::{self, Step};
use crate::core::action::Action;
use crate::core::event::Event;
use crate::core::retry::MAX_ATTEMPTS;

/// Two accesses, at rest.
fn laptop() -> Machine {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    (0..2).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    machine.settle();
    machine.log.clear();
    machine
}

fn addr() -> IpAddr {
    site::address_of(0, 0, 2).addr
}

fn id_of(machine: &Machine, addr: IpAddr) -> u8 {
    machine.kernel.endpoints.iter().find(|endpoint| endpoint.addr == addr).unwrap().id
}

fn attempts(machine: &Machine) -> usize {
    machine.log.iter().filter(|(_, action)| matches!(action, Action::RetrySubflows(..))).count()
}

#[test]
fn those_that_fail_together_are_tried_again_together() {
    let mut machine = laptop();
    let (before, others) = (id_of(&machine, addr()), machine.kernel.endpoints.len());
    let (begun, file) = (machine.now, machine.file.clone());
    (0..5).for_each(|_| machine.break_subflow(addr()));
    machine.settle();
    assert_eq!(attempts(&machine), 1);
    assert_ne!(id_of(&machine, addr()), before);
    assert_eq!((machine.kernel.endpoints.len(), &machine.file), (others, &file));
    assert!(machine.now - begun < Duration::from_secs(1));
    assert!(machine.core.report().settled && machine.core.report().findings.is_empty());
}

#[test]
fn a_way_that_never_works_is_given_up() {
    let mut machine = laptop();
    let mut last = 0;
    loop {
        machine.break_subflow(addr());
        machine.settle();
        if attempts(&machine) == last {
            break;
        }
        last = attempts(&machine);
    }
    assert_eq!(last, MAX_ATTEMPTS as usize - 1);
    let times: Vec<_> = machine.log.iter().filter(|(_, a)| matches!(a, Action::RetrySubflows(..))).collect();
    assert!(times.windows(3).all(|t| t[2].0 - t[1].0 > t[1].0 - t[0].0), "the pauses grow");
    assert!(machine.core.report().findings.iter().any(|finding| finding.given_up));
    assert_eq!(machine.core.next_deadline(), None);
    // A change of that access is a new chance.
    machine.happen(&Step::Default(0, crate::core::world::Family::V4, 50));
    machine.settle();
    assert_eq!(attempts(&machine), last + 1);
}

#[test]
fn where_a_subflow_lives_its_endpoint_stays() {
    let mut machine = laptop();
    let before = id_of(&machine, addr());
    machine.kernel.in_use.insert(addr());
    machine.break_subflow(addr());
    machine.settle();
    assert_eq!(id_of(&machine, addr()), before);
    assert!(attempts(&machine) < MAX_ATTEMPTS as usize);

    let mut machine = laptop();
    machine.kernel.in_use.insert(addr());
    machine.break_subflow(addr());
    machine.step(&super::machine::Move::Wait(500));
    machine.step(&super::machine::Move::Run(9));
    assert_eq!((id_of(&machine, addr()), attempts(&machine)), (before, 1));
    machine.kernel.in_use.clear();
    machine.settle();
    assert_ne!(id_of(&machine, addr()), before);
}

#[test]
fn an_access_that_is_lost_or_foreign_is_not_tried() {
    let mut machine = laptop();
    machine.happen(&Step::Carrier(0, false));
    machine.break_subflow(addr());
    machine.settle();
    machine.happen(&Step::ForeignEndpoint(1, 2, true));
    machine.feed(Event::Look);
    machine.settle();
    let foreign =
        machine.kernel.endpoints.iter().find(|endpoint| !machine.kernel.ours.contains(&endpoint.id));
    let foreign = foreign.expect("the foreign one").addr;
    machine.break_subflow(foreign);
    machine.settle();
    assert_eq!(attempts(&machine), 0);
}
