//! Whatever has happened: the desired state in the end, nothing more to do, nothing of others touched, nothing left.
use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

use super::machine::{Machine, Move, configs, moves, release};
use super::oracle;
use crate::core::action::Action;
use crate::core::event::Event;
use crate::core::owned::Owned;
use crate::core::world::OUR_PROTOCOL;

fn cases(cases: u32) -> Cases {
    Cases { cases, failure_persistence: None, ..Cases::default() }
}

fn lived(release: super::kernel::Release, config: usize, moves: &[Move]) -> Machine {
    let mut machine = Machine::new(release, configs()[config].clone());
    // Histories of different length begin with an empty machine, or with one that has up to three accesses.
    for slot in 0..moves.len() % 4 {
        super::site::bring_up(&mut machine.kernel, slot);
    }
    for step in moves {
        machine.step(step);
    }
    machine
}

proptest! {
    #![proptest_config(cases(500))]

    /// Once events stop and nothing fails any more, what should be there is there. Foreign endpoints, which nobody
    /// tells of, are seen at the next look.
    #[test]
    fn comes_to_the_desired_state(release in release(), config in 0_usize..8, moves in moves(20..80)) {
        let mut machine = lived(release, config, &moves);
        machine.step(&Move::Heal);
        machine.feed(Event::Look);
        machine.settle();
        let wrong = oracle::faults_in(&machine.kernel, &machine.config);
        prop_assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}", machine.core.report());
        // A default route whose gateway has lost its network cannot be copied.
        let findings = machine.core.report().findings.into_iter();
        // Nor is there anybody who makes endpoints where it is not the daemon.
        for finding in findings.filter(|finding| finding.object != "endpoints") {
            prop_assert_eq!(&finding.reason, "network is unreachable", "{}", finding.object);
        }
        prop_assert_eq!(&machine.file, &machine.core.intended);

        machine.log.clear();
        machine.feed(Event::Look);
        machine.settle();
        let done: Vec<_> = machine.log.iter().map(|(_, action)| action).collect();
        prop_assert!(matches!(done[..], [Action::Observe(_)]), "a second pass does {done:?}");
        prop_assert!(machine.core.report().settled && machine.core.next_deadline().is_none());
    }

    /// After a stop at any moment, nothing of ours is left and what was there before is back.
    #[test]
    fn leaves_nothing_behind(release in release(), config in 0_usize..8, moves in moves(10..60)) {
        let mut machine = lived(release, config, &moves);
        machine.step(&Move::Heal);
        machine.feed(Event::Stop);
        machine.settle();
        prop_assert!(machine.core.finished(), "{:#?}", machine.core);
        prop_assert!(machine.kernel.ours.is_empty(), "{:?}", machine.kernel.endpoints);
        prop_assert!(!machine.kernel.rules.iter().any(|rule| rule.protocol == OUR_PROTOCOL));
        prop_assert!(!machine.kernel.routes.iter().any(|route| route.protocol == OUR_PROTOCOL));
        prop_assert_eq!(machine.is_restored(), Ok(()));
        prop_assert_eq!(&machine.file, &Owned::default());
    }

    /// A stop ends also where the kernel refuses for ever, within the time that a service manager grants; a
    /// successor then finishes the work.
    #[test]
    fn a_stop_ends(release in release(), config in 0_usize..8, moves in moves(10..40),
                   fault in super::machine::a_fault()) {
        let mut machine = lived(release, config, &moves);
        machine.step(&Move::Fail(fault));
        let begun = machine.now;
        machine.feed(Event::Stop);
        machine.settle();
        prop_assert!(machine.core.finished());
        prop_assert!(machine.now - begun < std::time::Duration::from_secs(5), "{:?}", machine.now - begun);

        machine.step(&Move::Heal);
        machine.crash();
        machine.feed(Event::Stop);
        machine.settle();
        prop_assert!(machine.core.finished());
        prop_assert!(!machine.kernel.rules.iter().any(|rule| rule.protocol == OUR_PROTOCOL));
        prop_assert!(!machine.kernel.routes.iter().any(|route| route.protocol == OUR_PROTOCOL));
        prop_assert!(machine.kernel.ours.is_empty(), "{:?}", machine.kernel.endpoints);
    }
}
