//! Which subflow plays which part: by example, and for any figures and silences.
use std::net::SocketAddr;

use proptest::prelude::*;

use super::lessons::Worth;
use super::*;
use crate::core::action::NewEndpoint;
use crate::core::alarm::Probe;
use crate::core::world::EndpointFlags;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);

fn address(way: u8) -> IpAddr {
    [10, way, 0, 2].into()
}

fn ends(way: u8) -> Ends {
    Ends::new(SocketAddr::new(address(way), 40000 + u16::from(way)), SERVER)
}

fn now(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three ways; the owner wants the last one to stand by.
fn aims() -> Aims {
    let way = |way: u8| NewEndpoint {
        addr: address(way),
        ifindex: u32::from(way) + 2,
        flags: match way {
            2 => EndpointFlags::SUBFLOW | EndpointFlags::BACKUP,
            _ => EndpointFlags::SUBFLOW,
        },
    };
    Aims { ways: (0..3).map(way).collect(), measured: true, ..Aims::default() }
}

/// A connection with a subflow on each way, that begins on the second one.
fn connection(service: Service) -> Connection {
    let mut connection = Connection::new(ends(1), false);
    connection.service = service;
    connection.subflows.extend([0, 2].map(|way| Subflow::new(ends(way), way + 1, true, true)));
    connection
}

fn figures(way: u8, rtt: u64, moved: u64) -> Figures {
    let rtt = Some(now(rtt));
    Figures {
        token: 1,
        ends: ends(way),
        opened: true,
        rtt,
        least: rtt,
        acked: moved,
        received: 0,
        backlogged: true,
    }
}

fn measure(connection: &mut Connection, rtts: [u64; 3], moved: u64, at: Duration) {
    for (way, rtt) in (0..3).zip(rtts) {
        read(connection, &figures(way, rtt, moved), at);
    }
    connection.steering.measured(&mut connection.subflows, &mut Lessons::default(), at);
}

fn read(connection: &mut Connection, figures: &Figures, at: Duration) {
    if let Some(known) = connection.subflow_mut(&figures.ends) {
        known.measured = Some(Measured::next(known.measured, figures, at));
    }
}

/// The ways that carry.
fn carrying(connection: &mut Connection, at: Duration) -> Vec<u8> {
    carrying_after(&Lessons::default(), connection, at)
}

/// The same, where something is known already.
fn carrying_after(lessons: &Lessons, connection: &mut Connection, at: Duration) -> Vec<u8> {
    let (aims, health) = (aims(), Health::default());
    decide(1, connection, &Surroundings { aims: &aims, health: &health, lessons, now: at });
    let carries =
        |way: u8| move |s: &Subflow| s.carries() == Some(true) && s.ends.local().ip() == address(way);
    let mut ways: Vec<u8> = (0..3).filter(|way| connection.subflows.iter().any(carries(*way))).collect();
    ways.sort_unstable();
    ways
}

#[test]
fn a_handover_takes_the_owners_first_whatever_the_delay() {
    let mut connection = connection(Service::Handover);
    measure(&mut connection, [80, 20, 5], 0, now(1000));
    assert_eq!(carrying(&mut connection, now(1000)), [0]);
}

#[test]
fn the_lowest_delay_carries_but_not_what_is_to_stand_by() {
    let mut connection = connection(Service::Interactive);
    measure(&mut connection, [20, 80, 5], 0, now(1000));
    assert_eq!(carrying(&mut connection, now(1000)), [0]);
}

#[test]
fn a_little_less_delay_is_no_reason_to_move_and_much_less_is_only_after_a_while() {
    let mut connection = connection(Service::Interactive);
    measure(&mut connection, [80, 30, 90], 0, now(1000));
    assert_eq!(carrying(&mut connection, now(1000)), [1]);
    measure(&mut connection, [27, 30, 90], 1, now(9000));
    assert_eq!(carrying(&mut connection, now(9000)), [1], "27 is not enough less than 30");
    measure(&mut connection, [20, 30, 90], 2, now(9100));
    assert_eq!(carrying(&mut connection, now(9100)), [0]);
    measure(&mut connection, [20, 14, 90], 3, now(9200));
    assert_eq!(carrying(&mut connection, now(9200)), [0], "it has just moved");
    assert_eq!(carrying(&mut connection, now(10200)), [1]);
}

/// 30 ms beside 60: it began on the longer one.
#[test]
fn much_less_delay_is_a_reason_to_move_at_once() {
    let mut connection = connection(Service::Aggregate);
    measure(&mut connection, [90, 60, 90], 0, now(1000));
    assert_eq!(carrying(&mut connection, now(1000)), [1]);
    measure(&mut connection, [30, 60, 90], 1, now(1050));
    assert_eq!(carrying(&mut connection, now(1050)), [0]);
}

/// What is short gets a second path of as low a delay from its beginning, and keeps it while that is a little longer.
#[test]
fn of_as_low_a_delay_two_carry_from_the_beginning() {
    let mut connection = connection(Service::Aggregate);
    for (step, (rtts, expected)) in [
        ([27, 20, 5], &[0, 1][..]),
        ([31, 20, 5], &[0, 1]),
        ([33, 20, 5], &[1]),
        ([28, 20, 5], &[1]),
        ([27, 20, 5], &[0, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        let at = now(1000 + 1100 * step as u64);
        measure(&mut connection, rtts, 0, at);
        assert_eq!(carrying(&mut connection, at), expected, "{rtts:?}");
    }
    connection.service = Service::Interactive;
    assert_eq!(carrying(&mut connection, now(9000)).len(), 1);
}

fn knowing(of: &[(u8, u8, bool)], pays_after: Duration) -> Lessons {
    let mut lessons = Lessons::default();
    for (way, best, sends) in of {
        let known = beside(address(*way), &ends(*best), *sends);
        lessons.learn(known, Worth { pays_after, lags: true }, now(1000));
    }
    lessons
}

/// Whatever it is that will be sent: at the beginning nobody knows. It is let in where the transfer is long enough for that.
#[test]
fn what_is_known_to_fall_behind_is_left_for_a_path_of_as_low_a_delay() {
    for sends in [true, false] {
        let mut connection = connection(Service::Aggregate);
        measure(&mut connection, [20, 20, 5], 0, now(1000));
        assert_eq!(carrying(&mut connection, now(1000)), [0, 1]);
        let lessons = knowing(&[(1, 0, sends)], now(800));
        assert_eq!(carrying_after(&lessons, &mut connection, now(1050)), [0], "though it began on the other");
        for step in 0..10 {
            measure(&mut connection, [20, 20, 5], step * 1_000_000, now(3000 + step * 100));
            let expected: &[u8] = if step < if sends { 5 } else { 3 } { &[0] } else { &[0, 1] };
            let carrying = carrying_after(&lessons, &mut connection, now(3000 + step * 100));
            assert_eq!(carrying, expected, "after {step}00 ms, {sends}");
        }
    }
    let mut connection = connection(Service::Aggregate);
    measure(&mut connection, [60, 20, 5], 0, now(1000));
    let lessons = knowing(&[(1, 0, true)], now(800));
    assert_eq!(carrying_after(&lessons, &mut connection, now(1000)), [1], "a longer one is no better");
}

/// A second connection to a host begins on the way that is not the quickest.
#[test]
fn what_is_known_to_carry_does_not_begin_standing_by() {
    let begins = |service, [own, present]: [Option<u64>; 2], lessons: &Lessons| {
        let (aims, mut health) = (aims(), Health::default());
        health.exist(aims.ways.iter().map(|way| (way.addr, way.ifindex)));
        for (way, rtt) in aims.ways.iter().zip([own, present]) {
            let probe = Probe { local: way.addr, ifindex: way.ifindex, remote: SERVER.ip() };
            rtt.into_iter().for_each(|rtt| health.answered(&probe, now(rtt), now(500)));
        }
        let mut connection = connection(service);
        connection.subflows.truncate(1);
        let surroundings = Surroundings { aims: &aims, health: &health, lessons, now: now(1000) };
        begins_standing_by(&connection, address(0), SERVER.ip(), &surroundings)
    };
    let nothing = &Lessons::default();
    for service in [Service::Interactive, Service::Aggregate] {
        assert!(!begins(service, [Some(20), Some(80)], nothing), "quicker: {service:?}");
        assert!(begins(service, [Some(80), Some(20)], nothing), "longer: {service:?}");
        assert!(begins(service, [None, Some(80)], nothing), "not known: {service:?}");
        assert!(begins(service, [Some(20), None], nothing), "beside what is not known: {service:?}");
    }
    assert!(begins(Service::Interactive, [Some(20), Some(20)], nothing), "one carries");
    assert!(!begins(Service::Aggregate, [Some(20), Some(20)], nothing), "both carry");
    let lags = knowing(&[(0, 1, true)], now(800));
    assert!(begins(Service::Aggregate, [Some(20), Some(20)], &lags), "it falls behind");
    assert!(!begins(Service::Handover, [Some(80), Some(20)], nothing), "the owner's first");
}

/// Up one is behind, down the other.
#[test]
fn where_each_falls_behind_the_other_one_carries() {
    let mut connection = connection(Service::Aggregate);
    measure(&mut connection, [20, 20, 5], 0, now(1000));
    let lessons = knowing(&[(1, 0, true), (0, 1, false)], now(800));
    assert_eq!(carrying_after(&lessons, &mut connection, now(1000)), [0, 1]);
}

#[test]
fn a_long_transfer_gets_every_good_path_and_a_pause_ends_it() {
    let mut connection = connection(Service::Aggregate);
    for step in 0..6 {
        let at = now(1000 + step * 100);
        measure(&mut connection, [20, 80, 90], step * 1_000_000, at);
        let expected: &[u8] = if step < 5 { &[0] } else { &[0, 1] };
        assert_eq!(carrying(&mut connection, at), expected, "after {} ms", step * 100);
    }
    for step in 0..8 {
        measure(&mut connection, [20, 80, 90], 5_000_000, now(2000 + step * 100));
    }
    assert_eq!(
        carrying(&mut connection, now(2800)),
        [0, 1],
        "there is something to send: its path has failed"
    );
    for way in 0..3 {
        let idle = Figures { backlogged: false, ..figures(way, [20, 80, 90][usize::from(way)], 5_000_000) };
        read(&mut connection, &idle, now(2800));
    }
    connection.steering.measured(&mut connection.subflows, &mut Lessons::default(), now(2800));
    assert_eq!(carrying(&mut connection, now(2800)), [0]);
}

/// The question was 300 ms before: what is asked for may be short all the same.
#[test]
fn a_transfer_begins_with_the_answer_not_with_the_question() {
    let mut connection = connection(Service::Aggregate);
    let mut has = |moved: u64, at: Duration| {
        for (way, rtt, moved) in [(0, 20, moved), (1, 80, 0)] {
            read(&mut connection, &Figures { backlogged: false, ..figures(way, rtt, moved) }, at);
        }
        connection.steering.measured(&mut connection.subflows, &mut Lessons::default(), at);
        carrying(&mut connection, at)
    };
    assert_eq!(has(500, now(1000)), [0]);
    for step in 0..5 {
        let expected: &[u8] = if step < 4 { &[0] } else { &[0, 1] };
        let moved = 500 + (step + 1) * 300_000;
        assert_eq!(has(moved, now(1300 + step * 100)), expected, "after {} ms", step * 100);
    }
}

/// A subflow that has just joined is read by itself: that the others show nothing new then is no pause.
#[test]
fn a_reading_of_one_subflow_ends_no_transfer() {
    let mut connection = connection(Service::Aggregate);
    for step in 0..6 {
        measure(&mut connection, [20, 80, 90], step * 1_000_000, now(1000 + step * 100));
        carrying(&mut connection, now(1000 + step * 100));
    }
    read(&mut connection, &Figures { backlogged: false, ..figures(2, 90, 5_000_000) }, now(3000));
    connection.steering.measured(&mut connection.subflows, &mut Lessons::default(), now(3000));
    assert!(connection.steering.is_long());
}

/// A transfer with a host that is read every 100 ms, so many times, and then ends: at which of these it was the first time on
/// both ways. They deliver 50 and 1 megabytes a second from the second reading on, with 10 and 100 ms. On the slower one 64 KB
/// take 66 ms longer: 8.4 s pass before it has saved as much.
fn first_with_both(lessons: &mut Lessons, host: u8, readings: u64) -> Option<u64> {
    let mut connection = connection(Service::Aggregate);
    let remote = SocketAddr::from(([192, 0, 2, host], 443));
    connection.subflows.iter_mut().for_each(|subflow| {
        subflow.ends = Ends::new(subflow.ends.local(), remote);
    });
    let at = |reading: u64| now(1000 + reading * 100);
    let carries_both = |reading: &u64| {
        for (way, rtt, share) in [(0, 10, 5_000_000), (1, 100, 100_000)] {
            let ends = Ends::new(ends(way).local(), remote);
            read(&mut connection, &Figures { ends, ..figures(way, rtt, reading * share) }, at(*reading));
        }
        connection.steering.measured(&mut connection.subflows, lessons, at(*reading));
        carrying_after(lessons, &mut connection, at(*reading)) == [0, 1]
    };
    let both: Vec<u64> = (0..readings).filter(carries_both).collect();
    connection.steering.close(lessons, at(readings));
    both.first().copied()
}

#[test]
fn what_one_transfer_learns_of_a_way_the_next_one_knows() {
    let mut lessons = Lessons::default();
    assert_eq!(first_with_both(&mut lessons, 1, 120), Some(5), "nothing is known yet");
    assert_eq!(first_with_both(&mut lessons, 1, 120), Some(44), "when it has lasted half of that");
    for host in 2..4 {
        assert_eq!(first_with_both(&mut lessons, host, 120), Some(5), "another host");
    }
    assert_eq!(
        first_with_both(&mut lessons, 4, 120),
        Some(21),
        "as with the others, until it has lasted for two seconds"
    );
}

/// After 1.2 s no more is known than that the slower way was not worth while until then.
#[test]
fn what_a_short_transfer_has_shown_is_learned_at_its_end() {
    let mut lessons = Lessons::default();
    assert_eq!(first_with_both(&mut lessons, 1, 13), Some(5));
    assert_eq!(first_with_both(&mut lessons, 1, 11), None);
    assert_eq!(first_with_both(&mut lessons, 1, 20), Some(12));
}

#[test]
fn only_what_may_become_long_is_looked_at_often() {
    let mut connection = connection(Service::Aggregate);
    let mut is_promising = |moved: u64, at: Duration| {
        read(&mut connection, &Figures { backlogged: false, ..figures(0, 20, moved) }, at);
        connection.steering.measured(&mut connection.subflows, &mut Lessons::default(), at);
        carrying(&mut connection, at);
        connection.steering.is_promising(at)
    };
    assert!(is_promising(0, now(1000)), "it has just begun");
    assert!(!is_promising(500, now(2100)), "a message");
    assert!(!is_promising(1000, now(2300)), "another one");
    assert!(is_promising(100_000, now(2400)), "a page, or more");
    assert!(is_promising(100_000, now(2500)), "between two bursts");
    assert!(!is_promising(100_000, now(3500)), "it was a page");
}

#[test]
fn messages_are_never_long() {
    let mut connection = connection(Service::Aggregate);
    for step in 0..500 {
        measure(&mut connection, [20, 80, 90], step * 2_500, now(1000 + step * 100));
    }
    assert_eq!(carrying(&mut connection, now(60_000)), [0]);
}

#[test]
fn where_nothing_is_measured_an_aggregate_uses_all() {
    let mut connection = connection(Service::Aggregate);
    let aims = Aims { measured: false, ..aims() };
    let health = Health::default();
    decide(
        1,
        &mut connection,
        &Surroundings { aims: &aims, health: &health, lessons: &Lessons::default(), now: now(1) },
    );
    assert_eq!(connection.subflows.iter().filter(|s| s.carries() == Some(true)).count(), 2);
}

#[test]
fn what_is_silent_is_set_aside_at_once_and_trusted_again_after_a_while() {
    let mut connection = connection(Service::Handover);
    assert_eq!(carrying(&mut connection, now(1000)), [0]);
    connection.steering.silent(ends(0), false);
    assert_eq!(carrying(&mut connection, now(1001)), [1]);
    connection.steering.heard(&ends(0), now(1100));
    assert_eq!(carrying(&mut connection, now(1101)), [1]);
    assert!(connection.steering.deadlines().any(|at| at == now(1100) + STAY));
    assert_eq!(carrying(&mut connection, now(2200)), [0]);
}

proptest! {
    /// In no second does what carries change twice, whatever is measured and whatever falls silent, except away from what
    /// is silent, and once in the beginning.
    #[test]
    fn what_carries_changes_once_a_second(
        service in prop::sample::select(&[Service::Handover, Service::Interactive, Service::Aggregate][..]),
        steps in prop::collection::vec(
            (prop::option::weighted(0.2, (0_u8..3, any::<bool>())), [1_u64..500, 1..500, 1..500], 0_u64..3_000_000, 1_u64..400),
            1..100,
        ),
    ) {
        let mut connection = connection(service);
        let (mut at, mut moved) = (now(1000), 0);
        let mut before = carrying(&mut connection, at);
        let mut silent = [false; 3];
        let mut last = None;
        for (turn, rtts, more, wait) in steps {
            (at, moved) = (at + now(wait), moved + more);
            if let Some((way, is_silent)) = turn {
                match is_silent {
                    true => connection.steering.silent(ends(way), false),
                    false => connection.steering.heard(&ends(way), at),
                }
                silent[usize::from(way)] = is_silent;
            }
            measure(&mut connection, rtts, moved, at);
            let after = carrying(&mut connection, at);
            if after != before {
                let leaves = before.iter().any(|way| silent[usize::from(*way)] && !after.contains(way));
                let soon = last.is_some_and(|last| at < last + STAY);
                prop_assert!(leaves || !soon, "{before:?} {after:?} at {at:?}, {last:?}");
                last = (at >= now(2000)).then_some(at).or(last);
                before = after;
            }
        }
    }
}

#[test]
fn parts_do_not_change_more_often_than_once_a_second_in_the_long_run() {
    let mut connection = connection(Service::Interactive);
    let mut changes = 0;
    let mut before = carrying(&mut connection, now(0));
    for step in 1..6000_u64 {
        let rtts = if step % 2 == 0 { [100, 10, 90] } else { [10, 100, 90] };
        measure(&mut connection, rtts, step, now(step * 10));
        let carrying = carrying(&mut connection, now(step * 10));
        changes += u32::from(carrying != before);
        before = carrying;
    }
    assert!(changes <= 61, "{changes} changes in a minute");
}

proptest! {
    /// As long as there is a subflow at all, one carries, whatever is silent and whatever was measured.
    #[test]
    fn there_is_always_one_that_carries(
        service in prop::sample::select(&[Service::Handover, Service::Interactive, Service::Aggregate, Service::Single][..]),
        steps in prop::collection::vec((any::<[bool; 3]>(), [1_u64..500, 1..500, 1..500], 0_u64..3_000_000, 1_u64..2000), 1..40),
    ) {
        let mut connection = connection(service);
        let (mut at, mut moved) = (now(1000), 0);
        for (silent, rtts, more, wait) in steps {
            (at, moved) = (at + now(wait), moved + more);
            for (way, silent) in (0..3).zip(silent) {
                match silent {
                    true => connection.steering.silent(ends(way), way == 1),
                    false => connection.steering.heard(&ends(way), at),
                }
            }
            measure(&mut connection, rtts, moved, at);
            prop_assert!(!carrying(&mut connection, at).is_empty());
        }
    }
}
