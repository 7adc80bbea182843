//! What is learned, kept and forgotten.
use super::*;

fn beside(way: u8, host: u8, sends: bool) -> Beside {
    let local = |way: u8| IpAddr::from([10, way, 0, 2]);
    Beside { way: local(way), best: local(0), remote: IpAddr::from([192, 0, 2, host]), sends }
}

const PAYS: Duration = Duration::from_secs(8);

#[test]
fn a_lesson_is_of_two_ways_one_host_and_one_direction() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), PAYS, Duration::ZERO);
    assert_eq!(lessons.pays_after(&beside(1, 1, true), Duration::ZERO), Some(PAYS));
    for other in [beside(2, 1, true), beside(1, 2, true), beside(1, 1, false)] {
        assert_eq!(lessons.pays_after(&other, Duration::ZERO), None);
    }
    let swapped = Beside { way: [10, 0, 0, 2].into(), best: [10, 1, 0, 2].into(), ..beside(1, 1, true) };
    assert_eq!(lessons.pays_after(&swapped, Duration::ZERO), None);
}

#[test]
fn the_last_lesson_counts_until_it_is_old() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), PAYS, Duration::ZERO);
    let at = Duration::from_secs(60);
    lessons.learn(beside(1, 1, true), PAYS * 2, at);
    assert_eq!(lessons.pays_after(&beside(1, 1, true), at + HOLDS_FOR - PAYS), Some(PAYS * 2));
    assert_eq!(lessons.pays_after(&beside(1, 1, true), at + HOLDS_FOR), None);
}

#[test]
fn ways_that_are_gone_are_forgotten() {
    let mut lessons = Lessons::default();
    lessons.learn(beside(1, 1, true), PAYS, Duration::ZERO);
    lessons.learn(beside(2, 1, true), PAYS, Duration::ZERO);
    lessons.retain(|addr| addr != IpAddr::from([10, 1, 0, 2]));
    assert_eq!(lessons.pays_after(&beside(1, 1, true), Duration::ZERO), None);
    assert_eq!(lessons.pays_after(&beside(2, 1, true), Duration::ZERO), Some(PAYS));
    lessons.retain(|addr| addr != IpAddr::from([10, 0, 0, 2]));
    assert_eq!(lessons.pays_after(&beside(2, 1, true), Duration::ZERO), None);
}

#[test]
fn there_are_no_more_than_so_many() {
    let mut lessons = Lessons::default();
    for host in 0..=u8::MAX {
        lessons.learn(beside(1, host, true), PAYS, Duration::from_secs(host.into()));
    }
    let now = Duration::from_secs(u8::MAX.into());
    let known = (0..=u8::MAX).filter(|host| lessons.pays_after(&beside(1, *host, true), now).is_some());
    assert_eq!(known.collect::<Vec<u8>>(), (192..=u8::MAX).collect::<Vec<u8>>());
}
