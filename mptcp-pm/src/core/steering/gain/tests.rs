//! Which paths are left out, by example and for any rates.
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn ends(way: u8) -> Ends {
    let local = SocketAddr::from(([10, way, 0, 2], 40000));
    Ends::new(local, SocketAddr::from(([192, 0, 2, 1], 443)))
}

/// A path: bytes per second, and its round-trip time in milliseconds.
type Path = (u64, u64);

/// A transfer that is read every second: which paths carried in each second.
fn transfer(paths: &[Path], seconds: u64, held_up: impl Fn(&[bool]) -> u64) -> Vec<Vec<bool>> {
    transfer_after(None, paths, seconds, held_up)
}

/// The same, after the first path alone has delivered so much, bytes per second.
fn transfer_after(
    alone: Option<u64>,
    paths: &[Path],
    seconds: u64,
    held_up: impl Fn(&[bool]) -> u64,
) -> Vec<Vec<bool>> {
    let alone = alone.map(|rate| Alone { ends: ends(0), rate });
    let mut gain = Gain::of(alone, true, Duration::ZERO);
    let mut moved = vec![0; paths.len()];
    let mut history: Vec<Vec<bool>> = Vec::new();
    for second in 1..=seconds {
        let now = Duration::from_secs(second);
        let carries: Vec<bool> =
            (0_u8..).zip(paths).map(|(way, _)| gain.is_out(&ends(way), now) != Some(true)).collect();
        if history.last().is_some_and(|before| *before != carries) {
            gain.restart(now);
        }
        let percent = held_up(&carries);
        let mut carriers = Vec::new();
        for (way, (rate, rtt)) in (0_u8..).zip(paths).filter(|(way, _)| carries[usize::from(*way)]) {
            let moved = &mut moved[usize::from(way)];
            *moved += rate * percent / 100;
            carriers.push(Carrier { ends: ends(way), moved: *moved, rtt: Duration::from_millis(*rtt) });
        }
        gain.advance(&carriers, now, now);
        history.push(carries);
    }
    history
}

fn changes(history: &[Vec<bool>], way: usize) -> Vec<usize> {
    (1..history.len()).filter(|at| history[*at][way] != history[at - 1][way]).collect()
}

#[test]
fn a_path_that_adds_much_stays() {
    let history = transfer(&[(6_000_000, 40), (2_400_000, 200)], 60, |_| 100);
    assert!(changes(&history, 1).is_empty());
}

/// 1 % of all, a round trip of 300 ms and 64 KB that take 107 ms: it has saved that after 41 s.
#[test]
fn a_path_that_adds_little_is_left_out_until_the_transfer_has_shown_that_it_gains() {
    let history = transfer(&[(60_000_000, 40), (600_000, 300)], 120, |_| 100);
    let changes = changes(&history, 1);
    assert_eq!(changes.len(), 2, "out, and back for good: {changes:?}");
    assert!(changes[0] <= 3 && (38..46).contains(&changes[1]), "{changes:?}");
}

#[test]
fn a_path_that_holds_the_others_up_is_left_out_longer_each_time() {
    let half = |carries: &[bool]| if carries[1] { 50 } else { 100 };
    let history = transfer(&[(6_000_000, 40), (60_000, 300)], 600, half);
    let with: usize = history.iter().skip(60).filter(|carries| carries[1]).count();
    assert!(with <= 20, "{with} seconds of 540 with it");
    assert!(changes(&history, 1).len() <= 14, "{:?}", changes(&history, 1));
}

/// A transfer of which the first path alone has delivered 20 Mbit/s, then both so much, bytes per second, and when the second one
/// is left out the first so much.
struct Trial {
    gain: Gain,
    moved: [u64; 2],
    at: Duration,
}

impl Trial {
    fn begin() -> Self {
        let alone = Alone { ends: ends(0), rate: 2_500_000 };
        Self { gain: Gain::of(Some(alone), true, Duration::ZERO), moved: [0; 2], at: Duration::ZERO }
    }

    /// Two seconds, which are one window; tells what is shown of the second path.
    fn deliver(&mut self, rates: &[u64]) -> Vec<Duration> {
        self.gain.restart(self.at);
        let mut shown = Vec::new();
        for _ in 0..2 {
            self.at += Duration::from_secs(1);
            let mut carriers = Vec::new();
            for (way, rate) in (0_u8..).zip(rates) {
                self.moved[usize::from(way)] += rate;
                let (moved, rtt) = (self.moved[usize::from(way)], [30, 230][usize::from(way)]);
                carriers.push(Carrier { ends: ends(way), moved, rtt: Duration::from_millis(rtt) });
            }
            shown.extend(self.gain.advance(&carriers, self.at, self.at));
        }
        shown.iter().filter(|shown| shown.ends == ends(1)).map(|shown| shown.worth.pays_after).collect()
    }

    fn is_out(&self, way: u8) -> bool {
        self.gain.is_out(&ends(way), self.at) == Some(true)
    }
}

/// What is held up delivers only four times as much, so the path seems to pay: that there was more before shows that it does not.
#[test]
fn a_path_that_holds_the_others_up_is_left_out_the_first_time() {
    let mut trial = Trial::begin();
    let seems = trial.deliver(&[700_000, 200_000]);
    assert!(trial.is_out(1) && !trial.is_out(0));
    let holds_up = trial.deliver(&[2_400_000]);
    assert!(trial.is_out(1));
    assert!(holds_up > seems, "the next transfer is to know: {holds_up:?}, {seems:?}");
}

/// Now that it has found out how many packets are lost, the first path does not get faster without the second.
#[test]
fn a_path_that_was_only_suspected_is_let_back_at_once() {
    let mut trial = Trial::begin();
    let seems = trial.deliver(&[700_000, 200_000]);
    assert!(seems.iter().all(|pays_after| *pays_after <= trial.at * 2), "nothing is known: {seems:?}");
    assert_eq!((trial.deliver(&[750_000]), trial.is_out(1)), (Vec::new(), false));
    trial.deliver(&[700_000, 200_000]);
    assert!(!trial.is_out(1), "and stays");
}

#[test]
fn a_path_that_delivers_much_is_not_suspected() {
    let mut trial = Trial::begin();
    for rates in [[700_000, 600_000], [600_000, 700_000]] {
        trial.deliver(&rates);
        assert!(!trial.is_out(0) && !trial.is_out(1), "{rates:?}");
    }
}

/// A transfer of such a length, in milliseconds, whose second path is let in after four of its round trips, read every 50 ms
/// from then on: what is told of that path. It delivers ten segments in its first round trip, at once, and twice as much in
/// each until it is full. The first path has nothing more to deliver in the last 150 ms.
fn short(first: Path, second: Path, length: u64) -> Option<Duration> {
    let ((fast, near), (slow, rtt)) = (first, second);
    let begun = rtt * 4;
    let mut gain = Gain::of(Some(Alone { ends: ends(0), rate: fast }), true, Duration::from_millis(begun));
    for at in (begun..=length).step_by(50) {
        let now = Duration::from_millis(at);
        let flights = (at - begun + rtt / 2) / rtt;
        let arrived = (0..flights).map(|flight| (14_600 << flight.min(20)).min(slow * rtt / 1000)).sum();
        let carrier = |way, moved, rtt| Carrier { ends: ends(way), moved, rtt: Duration::from_millis(rtt) };
        let shown = gain.advance(
            &[carrier(0, fast * at.min(length - 150) / 1000, near), carrier(1, arrived, rtt)],
            now,
            now,
        );
        assert!(shown.is_empty(), "{shown:?}");
    }
    let shown = gain.end(Duration::from_millis(length));
    assert!(shown.iter().all(|shown| shown.ends == ends(1) && shown.best == ends(0)), "{shown:?}");
    shown.first().map(|shown| shown.worth.pays_after)
}

/// 100 Mbit/s and 10 ms beside 5 and 100 ms: a twentieth, a round trip and 64 KB that take 105 ms, so four seconds. Beside 0.5
/// Mbit/s more. But no more is known than that it was not worth while in this time.
#[test]
fn a_path_that_adds_little_to_a_short_transfer_is_known_at_its_end() {
    for second in [(625_000, 100), (62_500, 100)] {
        assert_eq!(short((12_500_000, 10), second, 1000), Some(Duration::from_secs(2)), "{second:?}");
    }
}

/// When half of what is told has passed; a flight more or less in the latest round trip counts for much.
#[test]
fn a_path_that_adds_much_is_let_in_early_the_next_time_too() {
    for (first, second, length) in
        [((6_250_000, 20), (2_500_000, 80), 1300), ((3_750_000, 30), (1_250_000, 60), 1200)]
    {
        let pays_after = short(first, second, length).expect("it is told");
        assert!(pays_after < Duration::from_secs(1), "{second:?}: {pays_after:?}");
    }
}

/// In slow start it has shown nothing yet.
#[test]
fn of_a_path_that_was_there_for_a_moment_nothing_is_told() {
    assert_eq!(short((6_250_000, 20), (2_500_000, 80), 550), None);
}

/// A transfer over two paths of 20 ms that is read every 50 ms, and over after such a time, in milliseconds: the ways that have
/// fallen behind. What either has delivered by a time, bytes.
fn behind(length: u64, delivered: impl Fn(u64) -> [u64; 2]) -> Vec<u8> {
    let mut gain = Gain::of(None, true, Duration::ZERO);
    for at in (0..=length).step_by(50) {
        let [first, second] = delivered(at);
        let carrier = |way, moved| Carrier { ends: ends(way), moved, rtt: Duration::from_millis(20) };
        let now = Duration::from_millis(at);
        let shown = gain.advance(&[carrier(0, first), carrier(1, second)], now, now);
        assert!(shown.is_empty(), "{shown:?}");
    }
    let shown = gain.end(Duration::from_millis(length));
    let lags = |way: &u8| shown.iter().any(|shown| shown.ends == ends(*way) && shown.worth.lags);
    (0..2).filter(lags).collect()
}

const NOBODY: [u8; 0] = [];

/// 50 Mbit/s and 5: one never comes near the other, though neither ends before.
#[test]
fn a_path_that_never_comes_near_the_rate_of_the_best_one_is_behind() {
    assert_eq!(behind(300, |at| [at * 6250, at * 625]), [1]);
    assert_eq!(behind(300, |at| [at * 625, at * 6250]), [0]);
}

/// 100 KB: half of it was over after 50 ms, the other half takes four times as long.
#[test]
fn a_path_that_the_end_waits_for_is_behind() {
    assert_eq!(behind(200, |at| [at.min(50) * 1000, at * 250]), [1]);
    let answered = |at: u64| [at.min(50) * 1000 + u64::from(at >= 200) * 100, at * 250];
    assert_eq!(behind(200, answered), [1], "what the other end has to say is short");
}

/// Both 20 Mbit/s; one has ended 50 ms before the other, or begun 100 ms later with a slow start.
#[test]
fn a_path_as_fast_as_the_other_is_not_behind() {
    assert_eq!(behind(300, |at| [at.min(250) * 2500, at * 2500]), NOBODY);
    let late = |at: u64| (at.saturating_sub(100) / 20).min(30);
    let joined = |at: u64| (0..late(at)).map(|flight| (14_600 << flight).min(50_000)).sum();
    for length in [200, 300, 400] {
        assert_eq!(behind(length, |at| [at * 2500, joined(at)]), NOBODY, "{length}");
    }
    assert_eq!(behind(300, |at| [at * 6250, at * 2500]), NOBODY, "nor is one of two fifths");
}

/// One was handed 64 KB and nothing more; or it ended later, but the other one would have taken as long for everything.
#[test]
fn a_path_that_had_no_more_to_deliver_is_not_behind() {
    let once = |at: u64| (at.saturating_sub(50) * 600).min(65_512);
    assert_eq!(behind(250, |at| [at.min(200) * 2400, once(at)]), NOBODY);
    assert_eq!(behind(250, |at| [at.min(150) * 2000, at * 800]), NOBODY);
}

proptest! {
    /// Whatever the paths are: what delivers most carries, and there are no more changes than the length has doublings.
    #[test]
    fn the_best_one_stays_and_there_is_no_flapping(
        paths in prop::collection::vec((1_u64..10_000_000, 1_u64..3000), 1..4),
        percent in 1_u64..100,
        alone in prop::option::of(1_u64..20_000_000),
    ) {
        let held_up = |carries: &[bool]| if carries.iter().all(|one| *one) { percent } else { 100 };
        let history = transfer_after(alone, &paths, 300, held_up);
        let best = paths.iter().map(|(rate, _)| *rate).max().unwrap_or(0);
        for (way, (rate, _)) in paths.iter().enumerate() {
            let changes = changes(&history, way).len();
            prop_assert!(*rate < best || paths.iter().filter(|(other, _)| *other == best).count() > 1 || changes == 0);
            prop_assert!(changes <= 20, "{changes} changes of {way}");
        }
        prop_assert!(history.iter().all(|carries| carries.contains(&true)));
    }
}
