//! Whatever order events come in, the end is the same.
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::kernel::Release;
use super::machine::{Machine, Move, configs};
use super::site::{self, Step};
use super::{kernel::Kernel, oracle};
use crate::core::event::Event;
use crate::core::world::{Change, OUR_PROTOCOL};

/// Histories of three interfaces, each in its own order.
fn histories() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let one = |slot: usize| {
        let family =
            || prop_oneof![Just(crate::core::world::Family::V4), Just(crate::core::world::Family::V6)];
        let step = prop_oneof![
            3 => proptest::bool::weighted(0.8).prop_map(move |up| Step::Up(slot, up)),
            1 => any::<bool>().prop_map(move |on| Step::Carrier(slot, on)),
            4 => (0_usize..6).prop_map(move |which| Step::Address(slot, which)),
            1 => (0_usize..6).prop_map(move |which| Step::NoAddress(slot, which)),
            1 => Just(Step::Detected(slot, 4)),
            // A metric of its own: of two routes with one key, the kernel keeps the first.
            4 => family().prop_map(move |family| Step::Default(slot, family, 100 + u32::try_from(slot).unwrap())),
            1 => family().prop_map(move |family| Step::NoDefault(slot, family)),
        ];
        prop::collection::vec(step, 4..14)
    };
    (one(0), one(1), one(2)).prop_map(|(a, b, c)| vec![a, b, c])
}

/// Lets the histories happen, interleaved as `order` says; between them the daemon hears and does a little.
fn lived(histories: &[Vec<Step>], order: &[(usize, Move)], config: usize) -> Machine {
    let mut machine = Machine::new(Release::V7_3, configs()[config].clone());
    for slot in 0..3 {
        let index = 2 + u32::try_from(slot).unwrap();
        machine.kernel.add_link(site::link_of(slot, index));
    }
    let mut left: Vec<_> = histories.iter().map(|steps| steps.iter()).collect();
    for (which, pause) in order {
        if let Some(step) = left[*which].next() {
            machine.happen(step);
            machine.step(pause);
        }
    }
    for step in left.into_iter().flatten() {
        machine.happen(step);
    }
    machine.settle();
    machine
}

fn order() -> impl Strategy<Value = Vec<(usize, Move)>> {
    let pause = prop_oneof![
        2 => (0_usize..9).prop_map(Move::Hear),
        2 => (0_usize..9).prop_map(Move::Run),
        2 => Just(Move::Act),
        1 => Just(Move::Lose),
        1 => (0_u64..300).prop_map(Move::Wait),
    ];
    prop::collection::vec((0_usize..3, pause), 42)
}

/// Our part of the kernel's state, without what depends on the past: ids, and endpoints that are stranded.
fn outcome(kernel: &Kernel, machine: &Machine) -> BTreeSet<String> {
    let uses = oracle::uses(kernel, &machine.config);
    let used = |addr| uses.iter().any(|one| one.addr == addr);
    let endpoints = kernel.endpoints.iter().filter(|endpoint| used(endpoint.addr));
    let mut all: BTreeSet<String> =
        endpoints.map(|e| format!("{} {:?} {:?}", e.addr, e.ifindex, e.flags)).collect();
    all.extend(kernel.rules.iter().filter(|r| r.protocol == OUR_PROTOCOL).map(|r| format!("{r:?}")));
    // One whose gateway has lost its network stays where it was made in time, and cannot be made later.
    let routes =
        kernel.routes.iter().filter(|r| r.protocol == OUR_PROTOCOL && kernel.is_reachable(&r.hops[0]));
    all.extend(routes.map(|r| format!("{r:?}")));
    // The filter of an interface that was in use stays loose until the end.
    let filters = uses.iter().map(|one| super::kernel::strict(&kernel.links[&one.ifindex].name));
    all.extend(filters.map(|key| format!("{key} {:?}", kernel.sysctls.get(&key))));
    all.insert(format!("{:?}", kernel.limits));
    all
}

proptest! {
    #![proptest_config(Cases { cases: 300, failure_persistence: None, ..Cases::default() })]

    /// What happens to one interface, and when it is heard of, does not depend on the others.
    #[test]
    fn does_not_matter(histories in histories(), a in order(), b in order(), config in 0_usize..6) {
        let (a, b) = (lived(&histories, &a, config), lived(&histories, &b, config));
        prop_assert_eq!(outcome(&a.kernel, &a), outcome(&b.kernel, &b));
    }

    /// Nor the order in which the kernel's messages of one moment are told.
    #[test]
    fn of_messages_does_not_matter(slots in Just(vec![0_usize, 1, 2]).prop_shuffle(), seed in any::<u64>()) {
        let ends: Vec<_> = [0, seed].into_iter().map(|seed| {
            let mut machine = Machine::new(Release::V7_3, configs()[0].clone());
            machine.settle();
            slots.iter().for_each(|slot| site::bring_up(&mut machine.kernel, *slot));
            let mut told: Vec<Change> = machine.kernel.told.drain(..).collect();
            // The last state of each link is told last: those of one link keep their order.
            told.sort_by_key(|change| match change {
                Change::Link(_) => 0,
                other => hash(other) ^ seed,
            });
            told.into_iter().for_each(|change| machine.feed(Event::Changed(change)));
            machine.settle();
            outcome(&machine.kernel, &machine)
        }).collect();
        prop_assert_eq!(&ends[0], &ends[1]);
        prop_assert!(ends[0].iter().filter(|line| line.contains("Some(")).count() > 6);
    }
}

fn hash(change: &Change) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    format!("{change:?}").hash(&mut hasher);
    hasher.finish()
}
