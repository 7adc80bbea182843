//! What is learned, kept and forgotten.
use super::*;

fn beside(way: u8, host: u8, sends: bool) -> Beside {
    let local = |way: u8| IpAddr::from([10, way, 0, 2]);
    Beside { way: local(way), best: local(0), remote: IpAddr::from([192, 0, 2, host]), sends }
}

const PAYS: Duration = Duration::from_secs(8);

const fn pays(pays_after: Duration) -> Worth {
    Worth { pays_after, lags: false }
}

fn pays_after(lessons: &Lessons, of: &Beside, now: Duration) -> Option<Duration> {
    lessons.worth(of, now).map(|worth| worth.pays_after)
}

#[test]
fn one_lesson_is_of_two_ways_one_host_and_one_direction() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), pays(PAYS), Duration::ZERO);
    assert_eq!(pays_after(&lessons, &beside(1, 1, true), Duration::ZERO), Some(PAYS));
    for other in [beside(2, 1, true), beside(1, 2, true), beside(1, 1, false)] {
        assert_eq!(pays_after(&lessons, &other, Duration::ZERO), None);
    }
    let swapped = Beside { way: [10, 0, 0, 2].into(), best: [10, 1, 0, 2].into(), ..beside(1, 1, true) };
    assert_eq!(pays_after(&lessons, &swapped, Duration::ZERO), None);
}

#[test]
fn the_last_lesson_counts_until_it_is_old() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), pays(PAYS), Duration::ZERO);
    let at = Duration::from_secs(60);
    lessons.learn(beside(1, 1, true), pays(PAYS * 2), at);
    assert_eq!(pays_after(&lessons, &beside(1, 1, true), at + HOLDS_FOR - PAYS), Some(PAYS * 2));
    assert_eq!(pays_after(&lessons, &beside(1, 1, true), at + HOLDS_FOR), None);
}

#[test]
fn what_most_others_have_shown_is_expected_of_an_unknown_host() {
    let mut lessons = Lessons::default();
    let unknown = |lessons: &Lessons| pays_after(lessons, &beside(1, 9, true), Duration::ZERO);
    for host in 1..3 {
        lessons.learn(beside(1, host, true), pays(PAYS), Duration::ZERO);
        assert_eq!(unknown(&lessons), None, "{host} may be far away");
    }
    lessons.learn(beside(1, 3, true), pays(PAYS), Duration::ZERO);
    assert_eq!(unknown(&lessons), Some(EXPECTED), "and is found out for this one when it lasts");
    assert_eq!(pays_after(&lessons, &beside(1, 1, true), Duration::ZERO), Some(PAYS), "this one is known");
    for other in [beside(2, 9, true), beside(1, 9, false)] {
        assert_eq!(pays_after(&lessons, &other, Duration::ZERO), None);
    }
    let soon = Duration::from_millis(100);
    for host in 4..7 {
        lessons.learn(beside(1, host, true), pays(soon), Duration::ZERO);
    }
    assert_eq!(unknown(&lessons), Some(EXPECTED), "as many say so");
    lessons.learn(beside(1, 7, true), pays(soon), Duration::ZERO);
    assert_eq!(unknown(&lessons), Some(soon), "most do not");
    assert_eq!(pays_after(&lessons, &beside(1, 9, true), HOLDS_FOR), None, "long ago");
}

#[test]
fn ways_that_are_gone_are_forgotten() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), pays(PAYS), Duration::ZERO);
    lessons.learn(beside(2, 1, true), pays(PAYS), Duration::ZERO);
    lessons.retain(|addr| addr != IpAddr::from([10, 1, 0, 2]));
    assert_eq!(pays_after(&lessons, &beside(1, 1, true), Duration::ZERO), None);
    assert_eq!(pays_after(&lessons, &beside(2, 1, true), Duration::ZERO), Some(PAYS));
    lessons.retain(|addr| addr != IpAddr::from([10, 0, 0, 2]));
    assert_eq!(pays_after(&lessons, &beside(2, 1, true), Duration::ZERO), None);
}

#[test]
fn there_are_no_more_than_so_many() {
    let mut lessons = Lessons::default();
    for host in 0..=u8::MAX {
        lessons.learn(beside(1, host, true), pays(PAYS), Duration::from_secs(host.into()));
    }
    let now = Duration::from_secs(u8::MAX.into());
    let is_known = |host: &u8| pays_after(&lessons, &beside(1, *host, true), now) == Some(PAYS);
    let known = (0..=u8::MAX).filter(is_known);
    assert_eq!(known.collect::<Vec<u8>>(), (192..=u8::MAX).collect::<Vec<u8>>());
}

#[test]
fn a_way_is_behind_with_an_unknown_host_where_it_was_with_most() {
    let mut lessons = Lessons::default();
    let lags = |lessons: &Lessons, host| {
        lessons.worth(&beside(1, host, true), Duration::ZERO).map(|worth| worth.lags)
    };
    for (host, behind) in [(1, true), (2, false), (3, true)] {
        lessons.learn(beside(1, host, true), Worth { pays_after: PAYS, lags: behind }, Duration::ZERO);
        assert_eq!(lags(&lessons, host), Some(behind));
    }
    assert_eq!(lags(&lessons, 9), Some(true));
    lessons.learn(beside(1, 4, true), pays(PAYS), Duration::ZERO);
    assert_eq!(lags(&lessons, 9), Some(false), "as many were not");
}
