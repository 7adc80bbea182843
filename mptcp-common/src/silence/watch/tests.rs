//! Subflows as a model has them, looked at when they ask for it.
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Long after the machine has started.
const START: u64 = 3_600_000 * MS;

/// A socket, and who watches it.
#[derive(Clone)]
struct Model {
    watch: Watch,
    socket: Look,
    /// When the next look is, if there is one.
    next: Option<u64>,
    told: Vec<(Kind, u64, Outcome)>,
    looks: u32,
}

impl Model {
    fn new(rtt_us: u32, deviation_us: u32) -> Self {
        let socket = Look {
            now_ns: START,
            touched_ns: START,
            heard_ns: START,
            rtt_us,
            deviation_us,
            is_small: true,
            may_receive: true,
            ..Look::default()
        };
        let mut model = Self { watch: Watch::default(), socket, next: None, told: Vec::new(), looks: 0 };
        model.look(START);
        model
    }

    fn look(&mut self, at: u64) {
        self.socket.now_ns = at;
        self.socket.awaited = self.socket.in_flight;
        let outcome = self.watch.look(&self.socket);
        if let Some((kind, _)) = outcome.told {
            self.told.push((kind, at, outcome));
        }
        self.next = (outcome.again_ns > 0).then_some(at + outcome.again_ns);
        self.looks += 1;
    }

    /// Lets time pass.
    fn until(&mut self, end: u64) {
        while let Some(at) = self.next.filter(|at| *at <= end) {
            self.look(at);
        }
    }

    fn send(&mut self, at: u64, segments: u32) {
        self.until(at);
        if self.socket.in_flight == 0 {
            (self.socket.oldest_ns, self.socket.began_ns) = (at, at);
        }
        self.socket.in_flight += segments;
        self.socket.is_small = self.socket.in_flight == 1;
    }

    /// So many are acknowledged; the oldest of the others was sent at `oldest`.
    fn acknowledge(&mut self, at: u64, segments: u32, oldest: u64) {
        self.until(at);
        self.socket.heard_ns = at;
        self.socket.segments_in += 1;
        self.socket.in_flight -= segments;
        self.socket.is_small = self.socket.in_flight <= 1;
        (self.socket.oldest_ns, self.socket.began_ns) = (oldest, 0);
    }

    fn receive(&mut self, at: u64) {
        self.until(at);
        self.socket.heard_ns = at;
        self.socket.segments_in += 1;
        self.socket.data_segments_in += 1;
    }

    fn kinds(&self) -> Vec<Kind> {
        self.told.iter().map(|(kind, ..)| *kind).collect()
    }

    /// When this was told for the first time, from `since`, microseconds.
    fn after_us(&self, kind: Kind, since: u64) -> Option<u64> {
        self.told.iter().find(|told| told.0 == kind).map(|told| (told.1 - since) / 1000)
    }
}

/// Round trips and deviations as paths have them, microseconds.
fn path() -> impl Strategy<Value = (u32, u32)> {
    (200u32..1_500_000).prop_flat_map(|rtt| (Just(rtt), 0..=rtt / 2))
}

proptest! {
    #[test]
    fn a_message_without_an_answer_is_late_and_then_silent_and_each_is_told_once(
        (rtt, deviation) in path(),
        pause_ms in 0u64..1_800,
    ) {
        let mut model = Model::new(rtt, deviation);
        let sent = START + pause_ms * MS;
        model.send(sent, 1);
        model.until(sent + 9_000 * MS);
        prop_assert_eq!(model.kinds(), [Kind::Late, Kind::Silent]);
        let (rtt, deviation) = (u64::from(rtt), u64::from(deviation));
        let grace = 4 * deviation + rtt / 8 + DELAYED_ACK_US;
        let (late, silent) = (model.after_us(Kind::Late, sent), model.after_us(Kind::Silent, sent));
        // What is sent just after a look is seen at the next one, in time.
        prop_assert!((rtt + grace / 2..=rtt + grace / 2 + 100).contains(&late.unwrap()), "{late:?}");
        prop_assert!((rtt + grace..=rtt + grace + 200).contains(&silent.unwrap()), "{silent:?}");
    }

    #[test]
    fn a_stream_that_falls_silent_is_noticed_sooner_than_its_round_trip_is_long(
        rtt in 50_000u32..1_500_000,
        gap_us in 100u64..5_000,
    ) {
        let mut model = Model::new(rtt, 1000);
        let flight = u64::from(rtt) * 1000;
        model.send(START, 100);
        let mut at = START + flight;
        for _ in 0..100 {
            at += gap_us * 1000;
            model.socket.in_flight += 1;
            model.acknowledge(at, 1, at - flight + gap_us * 1000);
        }
        prop_assert_eq!(model.kinds(), []);
        model.until(at + 4 * flight + 2_000 * MS);
        prop_assert_eq!(model.kinds(), [Kind::Late, Kind::Silent]);
        let silent = model.after_us(Kind::Silent, at).unwrap();
        prop_assert!(silent <= gap_us + 44_000 + u64::from(rtt) / 8 + 200, "{silent}");
    }

    #[test]
    fn a_delayed_acknowledgement_is_not_silence(
        (rtt, deviation) in path(),
        delay_us in 0u64..49_000,
        pauses in prop::collection::vec(0u64..500, 1..20),
    ) {
        let mut model = Model::new(rtt, deviation);
        let mut at = START;
        for pause in pauses {
            at += pause * MS;
            model.send(at, 1);
            at += (u64::from(rtt) + delay_us) * 1000;
            model.acknowledge(at, 1, 0);
        }
        prop_assert!(!model.kinds().contains(&Kind::Silent), "{:?}", model.kinds());
    }

    #[test]
    fn what_comes_again_is_told_once_with_the_length_of_the_silence(
        (rtt, deviation) in path(),
        silence_ms in 0u64..9_000,
    ) {
        let mut model = Model::new(rtt, deviation);
        model.send(START, 10);
        let back = START + silence_ms * MS;
        model.acknowledge(back, 10, 0);
        model.until(back + 5_000 * MS);
        let kinds = model.kinds();
        let heard: Vec<_> = model.told.iter().filter(|told| told.0 == Kind::Heard).collect();
        prop_assert_eq!(heard.len(), usize::from(kinds.len() > 1), "{:?}", kinds);
        if let [heard] = heard[..] {
            prop_assert_eq!(heard.2.told, Some((Kind::Heard, silence_ms * MS)));
            prop_assert_eq!(heard.2.after, kinds[kinds.len() - 2] as u64);
        }
    }

    #[test]
    fn nothing_is_told_within_the_patience(
        (rtt, deviation) in path(),
        patience_ms in 0u32..3_000,
        is_inflow in any::<bool>(),
    ) {
        let mut model = Model::new(rtt, deviation);
        model.socket.patience_us = patience_ms * 1000;
        let mut at = START;
        if is_inflow {
            for _ in 0..3000 {
                at += 10 * MS;
                model.receive(at);
            }
        } else {
            model.send(at, 10);
        }
        model.until(at + 9_000 * MS);
        let first = model.told.first().expect("something is told after all");
        prop_assert!(first.1 - at >= u64::from(patience_ms) * MS);
    }

    #[test]
    fn what_is_sent_again_has_a_round_trip_of_its_own((rtt, deviation) in path(), part in 0u64..100) {
        let grace = (4 * u64::from(deviation) + u64::from(rtt) / 8 + PROCESSING_US) * 1000;
        let flight = u64::from(rtt) * 1000;
        let mut model = Model::new(rtt, deviation);
        model.send(START, 10);
        // All but the oldest are acknowledged, which is sent again some time later.
        let heard = START + flight;
        model.socket.in_flight += 1;
        model.acknowledge(heard, 9, START);
        model.socket.is_small = false;
        let again = heard + grace / 2 * part / 100;
        model.until(again);
        model.socket.oldest_ns = again;
        model.acknowledge_all_at(again + flight);
        prop_assert!(!model.kinds().contains(&Kind::Silent), "{:?}", model.told);
    }

    #[test]
    fn who_is_idle_is_looked_at_no_more((rtt, deviation) in path(), was_steady in any::<bool>()) {
        let mut model = Model::new(rtt, deviation);
        let mut at = START;
        if was_steady {
            for _ in 0..200 {
                at += 10 * MS;
                model.receive(at);
            }
        }
        let before = model.looks;
        model.until(at + 60_000 * MS);
        prop_assert_eq!(model.next, None);
        prop_assert!(model.looks - before < 150, "{} looks", model.looks - before);
    }

    #[test]
    fn looks_of_any_kind_come_to_something(looks in prop::collection::vec(any_look(), 1..40)) {
        let mut watch = Watch::default();
        let mut told = 0;
        for look in looks {
            let outcome = watch.look(&look);
            prop_assert!(outcome.again_ns <= LONGEST);
            match outcome.told {
                Some((Kind::Heard, _)) => {
                    prop_assert_eq!(outcome.after, told);
                    told = 0;
                }
                Some((kind, _)) => {
                    prop_assert!(kind as u64 > told, "{:?} after {}", kind, told);
                    told = kind as u64;
                }
                None => {}
            }
        }
    }
}

impl Model {
    fn acknowledge_all_at(&mut self, at: u64) {
        let all = self.socket.in_flight;
        self.acknowledge(at, all, 0);
        self.until(at + 1_000 * MS);
    }
}

fn any_look() -> impl Strategy<Value = Look> {
    const EVER: u64 = 1 << 62;
    let times = (0..EVER, 0..EVER, 0..EVER, 0..EVER, 0..EVER);
    let numbers = (0u32..3, 0u32..3, 0u32..3, any::<u32>(), any::<u32>(), any::<u32>());
    let flags = any::<(bool, bool, bool, bool)>();
    (times, numbers, flags).prop_map(|(times, numbers, flags)| Look {
        now_ns: times.0,
        touched_ns: times.1,
        heard_ns: times.2,
        oldest_ns: times.3,
        began_ns: times.4,
        segments_in: numbers.0,
        data_segments_in: numbers.1,
        in_flight: numbers.2,
        awaited: numbers.2,
        rtt_us: numbers.3,
        deviation_us: numbers.4,
        patience_us: numbers.5,
        is_small: flags.0,
        is_recovering: flags.1,
        is_lossy: flags.2,
        may_receive: flags.3,
    })
}

#[test]
fn an_inflow_that_stops_is_quiet_once_and_a_pure_end_is_not() {
    for may_receive in [true, false] {
        let mut model = Model::new(20_000, 10_000);
        model.socket.may_receive = may_receive;
        let mut at = START;
        for _ in 0..500 {
            at += MS;
            model.receive(at);
        }
        assert_eq!(model.kinds(), []);
        model.until(at + 9_000 * MS);
        assert_eq!(model.kinds(), if may_receive { [Kind::Quiet].as_slice() } else { &[] });
        if may_receive {
            let quiet = model.after_us(Kind::Quiet, at).unwrap();
            assert!((40_000..=41_000).contains(&quiet), "{quiet}");
        }
    }
}

#[test]
fn an_inflow_with_gaps_is_quiet_after_longer_ones() {
    let mut model = Model::new(20_000, 1000);
    let mut at = START;
    for _ in 0..40 {
        at += 35 * MS;
        model.receive(at);
    }
    assert_eq!(model.kinds(), []);
    model.until(at + 1_000 * MS);
    assert!(model.after_us(Kind::Quiet, at).unwrap() > 60_000, "{:?}", model.told);
}

#[test]
fn few_bytes_that_come_now_and_then_are_no_steady_inflow() {
    let mut model = Model::new(20_000, 1000);
    for number in 1..20 {
        model.receive(START + number * 3_000 * MS);
        model.socket.touched_ns = START + number * 3_000 * MS;
        model.look(model.socket.touched_ns + MS);
    }
    assert_eq!(model.kinds(), []);
    model.until(START + 60_000 * MS);
    assert!(model.looks < 20 * 60, "{} looks", model.looks);
}

#[test]
fn a_lossy_path_has_more_than_one_segment_to_be_silent_about() {
    for (in_flight, is_lossy, silent_us) in [(1, false, 76_500), (1, true, 316_500), (10, true, 66_500)] {
        let mut model = Model::new(20_000, 1000);
        model.socket.is_lossy = is_lossy;
        model.send(START, in_flight);
        model.until(START + 1_000 * MS);
        let silent = model.after_us(Kind::Silent, START).unwrap();
        assert!((silent_us..silent_us + 200).contains(&silent), "{in_flight} {is_lossy}: {silent}");
    }
}

#[test]
fn a_machine_that_was_away_gives_one_more_chance() {
    let mut model = Model::new(20_000, 1000);
    model.send(START, 10);
    model.look(START + 500 * MS);
    assert_eq!(model.kinds(), [], "what has come meanwhile was not dealt with yet");
    model.until(START + 600 * MS);
    assert_eq!(model.kinds(), [Kind::Late, Kind::Silent]);
}

#[test]
fn a_path_that_pauses_is_given_the_time_for_a_while() {
    let mut model = Model::new(20_000, 1000);
    let pauses = |model: &mut Model, at: u64, pause: u64| {
        model.told.clear();
        model.send(at, 10);
        model.acknowledge_all_at(at + pause);
        model.kinds()
    };
    assert_eq!(pauses(&mut model, START, 100 * MS), [Kind::Late, Kind::Silent, Kind::Heard]);
    let mut at = START + 1_200 * MS;
    assert_eq!(pauses(&mut model, at, 110 * MS), []);
    model.socket.touched_ns = at + 31_000 * MS;
    at = model.socket.touched_ns;
    model.look(at);
    assert_eq!(pauses(&mut model, at, 100 * MS), [Kind::Late, Kind::Silent, Kind::Heard]);
    // From an outage nothing is learned.
    at += 40_000 * MS;
    model.socket.touched_ns = at;
    model.look(at);
    assert_eq!(pauses(&mut model, at, 1_500 * MS).len(), 3);
    at += 3_000 * MS;
    assert_eq!(pauses(&mut model, at, 100 * MS).len(), 3);
}
