//! The health of ways: by example, and over random histories.
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::connections::Ends;

const WAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 2));
const PROBE: Probe = Probe { local: WAY, ifindex: 2, remote: PEER };
const RTT: Duration = Duration::from_millis(20);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn alarm(kind: Kind) -> Alarm {
    let ends = Ends::new(SocketAddr::new(WAY, 40000), SocketAddr::new(PEER, 443));
    let silence = Duration::from_millis(50);
    Alarm { kind, token: 1, ends, silence, rtt: RTT, deviation: Duration::from_millis(2) }
}

/// A way whose other end is known to answer.
fn known() -> Health {
    let mut health = Health::default();
    health.exist([(WAY, 2)].into_iter());
    health.meet(WAY, PEER, EXPECTED_FOR, at(1000));
    assert_eq!(health.request(), Some(Request::Ask(PROBE)));
    health.answered(&PROBE, RTT, at(1020));
    health
}

/// Lets time pass until then, without answers: what is asked for.
fn pass(health: &mut Health, now: &mut Duration, end: Duration) -> Vec<(Duration, Request)> {
    let mut requests = Vec::new();
    while let Some(deadline) = health.deadline().filter(|deadline| *deadline <= end) {
        *now = deadline.max(*now);
        health.advance(*now);
        while let Some(request) = health.request() {
            requests.push((*now, request));
        }
    }
    *now = end;
    requests
}

/// Gives a way up that has been silent.
fn died() -> (Health, Duration) {
    let (mut health, mut now) = (known(), at(2000));
    assert!(!health.alarm(WAY, &alarm(Kind::Silent), now));
    assert_eq!(health.state(WAY), State::Suspect);
    let asked = pass(&mut health, &mut now, at(2100));
    assert_eq!(asked.len(), 2, "a round is two questions: {asked:?}");
    assert_eq!(health.state(WAY), State::Dead);
    (health, now)
}

#[test]
fn a_way_whose_end_does_not_answer_is_dead_and_is_let_back_when_it_does() {
    let (mut health, mut now) = died();
    health.moved(now);
    let asked = pass(&mut health, &mut now, at(8000));
    let longest = asked.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    assert!(longest <= Some(ASK_AT_MOST), "asked at {asked:?}");
    health.answered(&PROBE, RTT, now);
    assert_eq!(health.state(WAY), State::Good);
}

#[test]
fn an_answer_clears_a_suspicion() {
    let mut health = known();
    health.alarm(WAY, &alarm(Kind::Late), at(2000));
    health.answered(&PROBE, RTT, at(2020));
    assert_eq!(health.state(WAY), State::Good);
    let mut now = at(2020);
    pass(&mut health, &mut now, at(9000));
    assert_eq!(health.state(WAY), State::Good);
}

/// A server that is switched off takes no way with it: its own connections alone are concerned.
#[test]
fn who_does_not_answer_while_others_do_is_alone() {
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 3));
    let other = Probe { remote: OTHER, ..PROBE };
    let (mut health, mut now) = (known(), at(2000));
    health.meet(WAY, OTHER, EXPECTED_FOR, at(1500));
    assert_eq!(health.request(), Some(Request::Ask(other)));
    health.answered(&other, RTT, at(1520));
    health.alarm(WAY, &alarm(Kind::Silent), now);
    assert_eq!([health.request(), health.request()], [Some(Request::Ask(PROBE)), Some(Request::Ask(other))]);
    health.answered(&other, RTT, at(2020));
    assert_eq!((health.state(WAY), health.take_alone()), (State::Suspect, vec![]));
    pass(&mut health, &mut now, at(2100));
    assert_eq!((health.state(WAY), health.take_alone()), (State::Good, vec![(WAY, PEER)]));

    // Over a way that is dead the other one does not answer either, and either of them brings it back.
    health.alarm(WAY, &alarm(Kind::Silent), now);
    pass(&mut health, &mut now, at(2200));
    assert_eq!((health.state(WAY), health.take_alone()), (State::Dead, vec![]));
    health.moved(now);
    let asked = pass(&mut health, &mut now, at(3000));
    assert!(asked.iter().any(|(_, request)| *request == Request::Ask(other)), "{asked:?}");
    health.answered(&other, RTT, now);
    assert_eq!(health.state(WAY), State::Good);
}

fn server(number: u32) -> IpAddr {
    IpAddr::V4((0x0a0a_0000 + number).into())
}

fn asked(health: &mut Health) -> Vec<IpAddr> {
    let requests = std::iter::from_fn(|| health.request());
    requests
        .filter_map(|request| match request {
            Request::Ask(probe) => Some(probe.remote),
            Request::Bear(..) => None,
        })
        .collect()
}

/// Many that do not answer cost no more than so many open questions, and never those that decide on a way.
#[test]
fn who_would_be_asked_beside_too_many_waits_and_a_suspicion_does_not() {
    let mut health = known();
    let now = at(5000);
    for number in 0..5000 {
        health.meet(WAY, server(number), EXPECTED_FOR, now);
    }
    assert_eq!(asked(&mut health).len(), MOST_KNOWN, "the one who was known is forgotten");
    health.answered(&PROBE, RTT, now);
    health.alarm(WAY, &alarm(Kind::Silent), now);
    assert_eq!(asked(&mut health), [PEER]);
    health.meet(WAY, server(4999), EXPECTED_FOR, now + OPEN_FOR);
    assert_eq!((asked(&mut health), health.state(WAY)), (vec![], State::Suspect), "a suspect meets nobody");
    health.answered(&PROBE, RTT, now + OPEN_FOR);
    health.meet(WAY, server(4999), EXPECTED_FOR, now + OPEN_FOR);
    assert_eq!(asked(&mut health), [server(4999)]);
}

#[test]
fn of_those_who_answer_the_oldest_is_forgotten_first() {
    let (mut health, mut now) = (known(), at(5000));
    for number in 0..3000 {
        now += at(10);
        let probe = Probe { remote: server(number), ..PROBE };
        health.meet(WAY, probe.remote, EXPECTED_FOR, now);
        health.answered(&probe, RTT, now);
    }
    let answers = |number| health.answers(WAY, server(number), now);
    let first = 3000 - MOST_KNOWN as u32;
    assert_eq!([0, first - 1, first, 2999].map(answers), [false, false, true, true]);
    assert_eq!(health.known.len(), MOST_KNOWN);
}

#[test]
fn being_late_alone_is_no_death() {
    let (mut health, mut now) = (known(), at(2000));
    health.alarm(WAY, &alarm(Kind::Late), now);
    pass(&mut health, &mut now, at(2200));
    assert_eq!(health.state(WAY), State::Suspect);
    pass(&mut health, &mut now, at(6000));
    assert_eq!(health.state(WAY), State::Good);
}

#[test]
fn the_silence_of_who_never_answered_decides_on_itself_alone() {
    let mut health = Health::default();
    health.exist([(WAY, 2)].into_iter());
    assert!(!health.alarm(WAY, &alarm(Kind::Late), at(1000)));
    assert!(!health.alarm(WAY, &alarm(Kind::Quiet), at(1000)));
    assert!(health.alarm(WAY, &alarm(Kind::Silent), at(1000)));
    assert_eq!((health.state(WAY), health.deadline()), (State::Good, None));
}

#[test]
fn a_pause_is_borne_the_next_time_and_a_long_outage_is_not() {
    let (mut health, now) = died();
    pass(&mut health, &mut now.clone(), at(2200));
    health.answered(&PROBE, RTT, at(2200));
    let Some(Request::Bear(2, pause)) = health.request() else { panic!("is borne") };
    assert!((at(250)..at(500)).contains(&pause), "{pause:?}");
    let (mut health, mut now) = died();
    pass(&mut health, &mut now, at(9000));
    health.answered(&PROBE, RTT, at(9000));
    assert_eq!(health.request(), None);
}

/// Has a way die, and answer after so long: what is to be borne then.
fn pauses(health: &mut Health, way: IpAddr, millis: u64, now: &mut Duration) -> Vec<Request> {
    let probe = Probe { local: way, ..PROBE };
    health.meet(way, PEER, Duration::ZERO, *now);
    health.answered(&probe, RTT, *now);
    let ends = Ends::new(SocketAddr::new(way, 40000), alarm(Kind::Silent).ends.remote());
    health.alarm(way, &Alarm { ends, ..alarm(Kind::Silent) }, *now);
    let end = *now + at(millis);
    pass(health, now, end);
    assert_eq!(health.state(way), State::Dead);
    health.answered(&probe, RTT, *now);
    assert_eq!(health.state(way), State::Good);
    borne(health)
}

fn borne(health: &mut Health) -> Vec<Request> {
    std::iter::from_fn(|| health.request()).filter(|request| matches!(request, Request::Bear(..))).collect()
}

#[test]
fn the_greatest_pause_of_an_interface_is_borne_for_ten_minutes_whatever_becomes_of_its_addresses() {
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 3));
    let (mut health, mut now) = (Health::default(), at(1000));
    health.exist([(WAY, 2), (OTHER, 2)].into_iter());
    let [Request::Bear(2, greatest)] = pauses(&mut health, WAY, 400, &mut now)[..] else {
        panic!("is borne")
    };
    let until = now + PATIENCE_FOR;
    now += RELAPSE;
    assert_eq!(pauses(&mut health, OTHER, 150, &mut now), [], "less than {greatest:?}");
    // The address changes; the interface is what it was.
    health.exist([(OTHER, 2)].into_iter());
    assert_eq!(borne(&mut health), []);
    health.advance(until - at(1));
    assert_eq!(borne(&mut health), []);
    health.advance(until);
    assert_eq!(borne(&mut health), [Request::Bear(2, Duration::ZERO)]);
}

#[test]
fn nothing_is_borne_any_more_on_an_interface_that_is_no_uplink() {
    let (mut health, mut now) = (Health::default(), at(1000));
    health.exist([(WAY, 2)].into_iter());
    assert_eq!(pauses(&mut health, WAY, 400, &mut now).len(), 1);
    health.exist([(WAY, 3)].into_iter());
    assert_eq!(borne(&mut health), [Request::Bear(2, Duration::ZERO)]);
    now += PATIENCE_FOR;
    health.advance(now);
    assert_eq!(borne(&mut health), [], "once");
}

#[test]
fn a_way_that_dies_again_and_again_has_to_answer_more_often() {
    let (mut health, mut now) = died();
    let mut needed = Vec::new();
    for _ in 0..4 {
        let mut answers = 0;
        while health.state(WAY) != State::Good {
            now += at(100);
            health.answered(&PROBE, RTT, now);
            answers += 1;
        }
        needed.push(answers);
        health.alarm(WAY, &alarm(Kind::Silent), now);
        let end = now + at(100);
        pass(&mut health, &mut now, end);
    }
    assert_eq!(needed, [1, 2, 4, 8]);
}

#[test]
fn without_interest_a_dead_way_is_hardly_asked() {
    let (mut health, mut now) = died();
    let end = now + INTEREST + at(3_600_000);
    let asked = pass(&mut health, &mut now, end);
    let late = asked.iter().filter(|(at, _)| *at > now - at_hours(1) + INTEREST).count();
    assert!(late <= 75, "{late} questions in an hour");
}

const fn at_hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[derive(Clone, Debug)]
enum Move {
    Alarm(u8),
    Answer,
    Moved,
    Meet,
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0_u8..4).prop_map(Move::Alarm),
        2 => Just(Move::Answer),
        1 => Just(Move::Moved),
        1 => Just(Move::Meet),
        4 => (0_u64..3000).prop_map(Move::Wait),
    ];
    prop::collection::vec(one, 0..80)
}

proptest! {
    /// Whatever happens: no more is asked than a few times a second, what is due is done, and a way whose end answers
    /// from some time on is used again.
    #[test]
    fn it_comes_back_and_never_asks_in_a_storm(moves in moves()) {
        const KINDS: [Kind; 4] = [Kind::Late, Kind::Silent, Kind::Quiet, Kind::Heard];
        let (mut health, mut now) = (known(), at(2000));
        let (mut asked, mut alarms) = (0_u32, 0_u32);
        for step in moves {
            match step {
                Move::Alarm(kind) => {
                    health.alarm(WAY, &alarm(KINDS[usize::from(kind)]), now);
                    alarms += 1;
                }
                Move::Answer => health.answered(&PROBE, RTT, now),
                Move::Moved => health.moved(now),
                Move::Meet => health.meet(WAY, PEER, at(5000), now),
                Move::Wait(millis) => {
                    let end = now + at(millis);
                    asked += pass(&mut health, &mut now, end).len() as u32;
                }
            }
            prop_assert!(health.deadline().is_none_or(|deadline| deadline.is_zero() || deadline + at(3000) > now));
        }
        let seconds = (now - at(2000)).as_secs() as u32 + 1;
        prop_assert!(asked <= seconds * 12 + alarms * 2 + 80, "{} questions in {} s", asked, seconds);
        for _ in 0..200 {
            let end = now + at(100);
            pass(&mut health, &mut now, end);
            health.answered(&PROBE, RTT, now);
        }
        prop_assert_eq!(health.state(WAY), State::Good);
    }
}
