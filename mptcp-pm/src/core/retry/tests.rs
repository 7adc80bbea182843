//! The arithmetic of pauses and of the pacer.
use std::net::SocketAddr;

use super::*;
use crate::core::action::Step;
use crate::core::connections::Ends;

const LATER: Duration = Duration::from_secs(1_000);

fn failing(count: u32) -> Retries {
    let mut retries = Retries::default();
    (0..count).for_each(|_| retries.record(Subject::Limits, Some("no".into()), LATER));
    retries
}

fn pause(retries: &Retries) -> Option<u128> {
    match retries.verdict(&Subject::Limits, LATER) {
        Verdict::Now => Some(0),
        Verdict::NotBefore(at) => Some((at - LATER).as_millis()),
        Verdict::GivenUp => None,
    }
}

#[test]
fn what_fails_waits_twice_as_long_each_time_and_ends() {
    let pauses: Vec<_> = [0, 1, 2, 3, 8, 15, 16].map(|count| pause(&failing(count))).into();
    let expected = [Some(0), Some(100), Some(200), Some(400), Some(12_800), Some(1_638_400), None];
    assert_eq!(pauses, expected);
}

/// A priority that was refused; one that somebody else has changed back is another matter.
#[test]
fn what_the_other_end_has_not_confirmed_is_tried_again_soon() {
    let local = SocketAddr::from(([10, 0, 0, 2], 40000));
    let ends = Ends::new(local, SocketAddr::from(([192, 0, 2, 1], 443)));
    let subject = Step::SetBackup(ends, false).subject(1);
    let mut retries = Retries::default();
    for expected in [10, 20, 40] {
        retries.record(subject.clone(), Some("there is none".into()), LATER);
        let at = LATER + Duration::from_millis(expected);
        assert_eq!(retries.verdict(&subject, LATER), Verdict::NotBefore(at));
    }
    retries.forget(&subject);
    (0..3).for_each(|_| retries.record(subject.clone(), None, LATER));
    assert_eq!(retries.verdict(&subject, LATER), Verdict::NotBefore(LATER + FIRST_PAUSE));
}

#[test]
fn what_succeeds_may_be_repeated_at_once_and_then_waits() {
    let mut retries = Retries::default();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        retries.record(Subject::Limits, None, LATER);
        pauses.push(pause(&retries));
    }
    assert_eq!(pauses, [Some(0), Some(0), Some(100), Some(200), Some(400), Some(800)]);
}

#[test]
fn at_the_end_patience_is_short() {
    let mut retries = failing(16);
    retries.hurry();
    assert_eq!(pause(&retries), Some(0));
    (0..LAST_ATTEMPTS).for_each(|_| retries.record(Subject::Limits, Some("no".into()), LATER));
    assert_eq!(pause(&retries), None);
}

#[test]
fn a_change_forgives_what_it_concerns_and_what_was_given_up() {
    let forgiven = |mut retries: Retries, concerned: bool| {
        retries.forgive(|_| concerned);
        pause(&retries) == Some(0)
    };
    assert!(forgiven(failing(2), true));
    assert!(!forgiven(failing(2), false));
    assert!(forgiven(failing(16), false));
}

#[test]
fn old_attempts_no_longer_count() {
    let mut retries = failing(3);
    retries.prune(|_| true, LATER + Duration::from_secs(60));
    assert_eq!(pause(&retries), Some(400));
    retries.prune(|_| true, LATER + Duration::from_secs(61));
    assert_eq!(pause(&retries), Some(0));
}

#[test]
fn only_what_is_wanted_is_a_trouble() {
    let mut retries = failing(2);
    assert_eq!(retries.troubles().collect::<Vec<_>>(), [(&Subject::Limits, "no", false)]);
    retries.prune(|_| false, LATER);
    assert_eq!(retries.troubles().count(), 0);
}

#[test]
fn the_pacer_allows_a_burst_and_then_a_rate() {
    let refill = Duration::from_millis(25);
    let mut pacer = Pacer::new(refill);
    let at_once = (0..100).filter(|_| pacer.take(LATER)).count();
    assert_eq!(at_once, 16);
    assert_eq!(pacer.next(), LATER + refill);
    let in_a_second = (1..=1_000).filter(|ms| pacer.take(LATER + Duration::from_millis(*ms))).count();
    assert_eq!(in_a_second, 40);
    let much_later = LATER * 2;
    assert_eq!((0..100).filter(|_| pacer.take(much_later)).count(), 16, "it does not save up more");
}
