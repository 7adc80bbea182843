//! An hour in which links, addresses and routes come and go ten thousand times.
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::kernel::Release;
use super::machine::{Machine, configs};
use super::oracle;
use super::site::{self, Step};
use crate::core::event::Event;
use crate::core::owned::Owned;
use crate::core::world::{Family, OUR_PROTOCOL};

const FLAPS: u32 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
const ACCESSES: usize = 3;

/// What goes, and how it comes back.
#[derive(Clone, Copy, Debug)]
enum Flap {
    Carrier(usize),
    Link(usize),
    Address(usize, Family),
    Route(usize, Family),
}

impl Flap {
    fn any() -> impl Strategy<Value = Self> {
        let slot = || 0..ACCESSES;
        let family = || prop::sample::select(Family::BOTH.to_vec());
        prop_oneof![
            slot().prop_map(Self::Carrier),
            slot().prop_map(Self::Link),
            (slot(), family()).prop_map(|(slot, family)| Self::Address(slot, family)),
            (slot(), family()).prop_map(|(slot, family)| Self::Route(slot, family)),
        ]
    }

    fn away(self) -> Step {
        match self {
            Self::Carrier(slot) => Step::Carrier(slot, false),
            Self::Link(slot) => Step::Up(slot, false),
            Self::Address(slot, family) => Step::NoAddress(slot, which(family)),
            Self::Route(slot, family) => Step::NoDefault(slot, family),
        }
    }

    fn back(self) -> Vec<Step> {
        let route = |slot: usize, family| Step::Default(slot, family, 100 * (slot as u32 + 3));
        match self {
            Self::Carrier(slot) => vec![Step::Carrier(slot, true)],
            Self::Link(slot) => {
                vec![Step::Up(slot, true), route(slot, Family::V4), route(slot, Family::V6)]
            }
            Self::Address(slot, family) => vec![Step::Address(slot, which(family)), route(slot, family)],
            Self::Route(slot, family) => vec![route(slot, family)],
        }
    }
}

/// The address of a family that `site::bring_up` gives to an access.
fn which(family: Family) -> usize {
    if family == Family::V4 { 0 } else { 3 }
}

/// All accesses as they were at first.
fn calm(machine: &mut Machine) {
    for slot in 0..ACCESSES {
        machine.happen(&Step::Unplug(slot));
        site::bring_up(&mut machine.kernel, slot);
    }
    machine.feed(Event::Look);
    machine.settle();
}

/// What the core holds, by how much there is to say of it.
fn size(machine: &Machine) -> usize {
    format!("{:?}", machine.core).len()
}

#[test]
fn ten_thousand_flaps_in_an_hour_leave_nothing_behind() {
    // The kernel manages the connections, or the daemon does.
    for config in [0, 5].map(|which| configs()[which].clone()) {
        let mut runner = TestRunner::deterministic();
        let mut machine = Machine::new(Release::V6_18, config);
        calm(&mut machine);
        let (at_first, begun) = (size(&machine), machine.now);
        let mut actions = 0;
        for number in 0..FLAPS {
            let flap = Flap::any().new_tree(&mut runner).expect("no filter").current();
            let at = begun + HOUR / FLAPS * number;
            machine.happen(&flap.away());
            // Some are over before anything is done about them.
            machine.live_until(at + Duration::from_millis(u64::from(number % 4) * 60));
            flap.back().iter().for_each(|step| machine.happen(step));
            machine.live_until(at + HOUR / FLAPS);
            actions += std::mem::take(&mut machine.log).len();
        }
        assert!(machine.now - begun >= HOUR);
        assert!(actions > 2 * FLAPS as usize, "{actions} actions: nothing was flapping");
        assert!(actions < 40 * FLAPS as usize, "{actions} actions are more than there is to be done");
        calm(&mut machine);
        let wrong = oracle::faults_in(&machine.kernel, &machine.config);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(machine.core.report().findings.len(), 0, "{:#?}", machine.core.report().findings);
        let in_the_end = size(&machine);
        assert!(in_the_end < at_first + at_first / 4, "the core has grown from {at_first} to {in_the_end}");

        machine.feed(Event::Stop);
        machine.settle();
        assert!(machine.core.finished() && machine.kernel.ours.is_empty(), "{:?}", machine.kernel.endpoints);
        assert!(!machine.kernel.rules.iter().any(|rule| rule.protocol == OUR_PROTOCOL));
        assert!(!machine.kernel.routes.iter().any(|route| route.protocol == OUR_PROTOCOL));
        assert_eq!(machine.file, Owned::default());
    }
}
