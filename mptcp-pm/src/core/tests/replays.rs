//! What was recorded in the cells of `cargo xtask bench steering` (`--record FILE`), played again to the core: it decides as
//! it has to, at the times that count there.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::core::action::{NewEndpoint, Step, Token};
use crate::core::alarm::{Figures, Kind};
use crate::core::connections::{Notice, Subflow};
use crate::core::event::Event;
use crate::core::paths::Paths;
use crate::core::recording::reading;
use crate::core::service::Rules;
use crate::core::subflows::Aims;
use crate::core::world::EndpointFlags;

/// The addresses of the client's interfaces there: 50 Mbit/s and 20 ms, 20 Mbit/s and 80 ms.
const FAST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));
const SLOW: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 2));

/// Small messages on a connection that began on the slow path.
const THIN: &str = include_str!("replays/thin.txt");
/// The fast path goes silent for three seconds, in the middle of a transfer.
const UPLOAD: &str = include_str!("replays/upload.txt");
const DOWNLOAD: &str = include_str!("replays/download.txt");
/// The same, of a thousand connections; some of them.
const CROWD: &str = include_str!("replays/crowd.txt");
/// The fast path pauses for 200 ms every five seconds, or has 50 ms of jitter, while data goes up.
const SCAN: &str = include_str!("replays/scan.txt");
const JITTER: &str = include_str!("replays/jitter.txt");
/// The same with 2 % loss, and with a queue of one second.
const LOSS: &str = include_str!("replays/loss.txt");
const BLOAT: &str = include_str!("replays/bloat.txt");
/// The fast path goes silent for three seconds while the slow one stands by.
const BACKUP: &str = include_str!("replays/backup.txt");
/// 30 MB go up over both paths, and over the fast one beside one of 0.5 Mbit/s and 100 ms.
const BOTH: &str = include_str!("replays/sizes.txt");
const HELD_UP: &str = include_str!("replays/held.txt");
/// 10 MB come down over both paths, of which the fast one loses half a percent: the first 1.6 s.
const LOSSY: &str = include_str!("replays/lossy.txt");

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A recording after it was played: whatever is decided is carried out at once.
struct Played {
    paths: Paths,
    now: Duration,
    events: Vec<(Duration, Event)>,
    /// What was done, and when.
    steps: Vec<(Duration, Token, Step)>,
    /// The ways that carried a connection from then on.
    carried: Vec<(Duration, Token, BTreeSet<IpAddr>)>,
}

impl Played {
    fn new(text: &str) -> Self {
        Self::with("aggregate", text)
    }

    fn with(service: &str, text: &str) -> Self {
        let flags = EndpointFlags::SUBFLOW;
        let ways = [(FAST, 2), (SLOW, 3)].map(|(addr, ifindex)| NewEndpoint { addr, ifindex, flags });
        let mut paths = Paths::default();
        let config = Config::parse(&format!("service = \"{service}\""), "test.toml").expect("is right");
        paths.set_rules(Rules::of(&config));
        paths.aim(Aims { ways: ways.into(), measured: true, ..Aims::default() });
        let events = reading::parse(text).expect("a recording");
        let (now, steps, carried) = (Duration::ZERO, Vec::new(), Vec::new());
        let mut played = Self { paths, now, events: events.clone(), steps, carried };
        for (at, event) in events {
            while let Some(due) = played.paths.deadline().filter(|due| *due <= at) {
                played.act(due.max(played.now));
            }
            match event {
                Event::Connection(token, notice) => played.paths.note(token, notice, at),
                Event::Read(figures) => played.paths.read(&figures, at),
                Event::Measured => played.paths.measured(at),
                Event::Alarm(alarm) => played.paths.alarm(&alarm, at),
                Event::Answered(probe, rtt) => played.paths.answered(&probe, rtt, at),
                other => panic!("no recording has {other:?}"),
            }
            played.act(at);
        }
        assert!(!played.steps.is_empty(), "nothing was to be decided");
        played
    }

    fn act(&mut self, now: Duration) {
        self.now = now;
        loop {
            while self.paths.request(now).is_some() {}
            let Some((token, step)) = self.paths.next(now) else { break };
            if let Step::Destroy(ends, _) = &step {
                let connection = self.paths.connection(token).expect("is known");
                let others = connection.subflows.iter().filter(|s| s.established && s.ends != *ends);
                assert!(others.count() > 0, "the last path of {token} is closed at {now:?}");
            }
            self.paths.done(token, &step, &Ok(()), now);
            self.note_carriers(token);
            self.steps.push((now, token, step));
        }
        // What joins may carry without a step.
        self.tokens().into_iter().for_each(|token| self.note_carriers(token));
    }

    fn note_carriers(&mut self, token: Token) {
        let Some(connection) = self.paths.connection(token) else { return };
        let carries = |subflow: &&Subflow| subflow.carries() == Some(true);
        let carrying = connection.subflows.iter().filter(|s| s.established && carries(s));
        let ways = carrying.map(|subflow| subflow.ends.local().ip()).collect();
        if self.ways_at(token, self.now) != Some(&ways) {
            self.carried.push((self.now, token, ways));
        }
    }

    /// What carried a connection then.
    fn ways_at(&self, token: Token, at: Duration) -> Option<&BTreeSet<IpAddr>> {
        let mut before = self.carried.iter().rev().filter(|(from, of, _)| *of == token && *from <= at);
        before.next().map(|(.., ways)| ways)
    }

    /// All that carried the one connection from some time on, one after the other.
    fn ways_since(&self, from: Duration) -> Vec<&BTreeSet<IpAddr>> {
        let at_first = self.ways_at(self.token(), from);
        let later = self.carried.iter().filter(|(at, ..)| *at > from).map(|(.., ways)| ways);
        at_first.into_iter().chain(later).collect()
    }

    /// When this was told first, not before some time.
    fn told(&self, from: Duration, wanted: impl Fn(&Event) -> bool) -> Duration {
        let mut later = self.events.iter().filter(|(at, _)| *at >= from);
        later.find(|(_, event)| wanted(event)).map(|(at, _)| *at).expect("is in the recording")
    }

    fn tokens(&self) -> BTreeSet<Token> {
        self.steps.iter().map(|(_, token, _)| *token).collect()
    }

    /// The one connection of the recording.
    fn token(&self) -> Token {
        let tokens = self.tokens();
        assert_eq!(tokens.len(), 1);
        tokens.first().copied().expect("is one")
    }

    fn done(&self, wanted: impl Fn(&Step) -> bool) -> Vec<(Duration, Token)> {
        let found = self.steps.iter().filter(|(.., step)| wanted(step));
        found.map(|(at, token, _)| (*at, *token)).collect()
    }

    /// The most changes within a second of what carries a connection, from some time on.
    fn most_in_a_second(&self, from: Duration) -> usize {
        let later: Vec<_> = self.carried.iter().filter(|(at, ..)| *at >= from).collect();
        let within = |start: Duration, token: Token| {
            let second = start..start + millis(1000);
            later.iter().filter(|(at, of, _)| *of == token && second.contains(at)).count()
        };
        later.iter().map(|(at, token, _)| within(*at, *token)).max().unwrap_or(0)
    }
}

fn joined(event: &Event) -> bool {
    matches!(event, Event::Connection(_, Notice::SubflowEstablished { .. }))
}

fn answers_over_fast(event: &Event) -> bool {
    matches!(event, Event::Answered(probe, _) if probe.local == FAST)
}

fn leaves_fast(step: &Step) -> bool {
    matches!(step, Step::Destroy(ends, _) if ends.local().ip() == FAST)
}

#[test]
fn messages_that_began_on_the_slow_path_are_on_the_fast_one_within_300_ms() {
    let played = Played::new(THIN);
    let moved = played.told(Duration::ZERO, joined) + millis(300);
    let fast = BTreeSet::from([FAST]);
    assert_eq!(played.ways_at(played.token(), moved), Some(&fast));
    assert!(played.carried.iter().all(|(at, _, ways)| *at < moved || *ways == fast), "{:?}", played.carried);
}

#[test]
fn a_transfer_leaves_a_silent_path_at_once_and_returns_when_it_answers() {
    for text in [UPLOAD, DOWNLOAD] {
        let played = Played::new(text);
        let token = played.token();
        let left = played.done(leaves_fast).first().expect("it leaves").0;
        let both = BTreeSet::from([FAST, SLOW]);
        assert_eq!(played.ways_at(token, left - millis(1)), Some(&both), "the transfer was long");
        assert_eq!(played.ways_at(token, left), Some(&BTreeSet::from([SLOW])));
        let grave = |event: &Event| matches!(event, Event::Alarm(alarm) if alarm.kind != Kind::Heard && alarm.ends.local().ip() == FAST);
        let alarm = played.told(left.saturating_sub(millis(100)), grave);
        assert!(alarm <= left, "it left at {left:?} without an alarm in the 100 ms before");
        let answered = played.told(left, answers_over_fast);
        let back = |step: &Step| matches!(step, Step::Create(new) if new.local == FAST);
        let made = played.done(back);
        assert!(made.iter().any(|(at, _)| (answered..answered + millis(100)).contains(at)), "{made:?}");
        let carries = played.carried.iter().find(|(at, _, ways)| *at > answered && *ways == both);
        assert!(carries.is_some_and(|(at, ..)| *at < answered + millis(1000)), "{:?}", played.carried);
        assert!(played.most_in_a_second(answered) <= 2);
    }
}

#[test]
fn a_crowd_leaves_a_silent_path_together() {
    let played = Played::new(CROWD);
    let left = played.done(leaves_fast);
    let tokens: BTreeSet<Token> = left.iter().map(|(_, token)| *token).collect();
    assert_eq!(tokens, played.tokens());
    let spread = left.iter().map(|(at, _)| *at).max().zip(left.iter().map(|(at, _)| *at).min());
    assert!(spread.is_some_and(|(last, first)| last - first < millis(300)), "{spread:?}");
}

#[test]
fn a_path_that_pauses_is_left_once_and_one_with_jitter_never() {
    let played = Played::new(SCAN);
    assert!(played.done(leaves_fast).len() <= 1);
    let both = BTreeSet::from([FAST, SLOW]);
    let begun = played.told(Duration::ZERO, joined) + millis(2000);
    let since: Vec<_> =
        played.carried.iter().filter(|(at, ..)| *at >= begun).map(|(.., ways)| ways).collect();
    assert_eq!(since, [&BTreeSet::from([SLOW]), &both], "away, and back: the transfer is as long as before");
    assert_eq!(played.most_in_a_second(begun), 1);
    let played = Played::new(JITTER);
    assert_eq!(played.done(leaves_fast), []);
    assert!(played.most_in_a_second(played.told(Duration::ZERO, joined) + millis(2000)) <= 1);
}

#[test]
fn a_path_that_loses_and_one_with_a_long_queue_are_kept() {
    for text in [LOSS, BLOAT] {
        let played = Played::new(text);
        assert_eq!(played.done(leaves_fast), []);
        let begun = played.told(Duration::ZERO, joined) + millis(2000);
        assert_eq!(played.ways_since(begun), [&BTreeSet::from([FAST, SLOW])]);
    }
}

#[test]
fn what_stands_by_carries_as_long_as_the_other_path_is_silent() {
    let played = Played::with("handover", BACKUP);
    let (fast, slow) = (BTreeSet::from([FAST]), BTreeSet::from([SLOW]));
    let begun = played.told(Duration::ZERO, joined);
    assert_eq!(played.ways_since(begun), [&fast, &slow, &fast]);
    let left = played.done(leaves_fast).first().expect("it leaves").0;
    assert_eq!(played.ways_at(played.token(), left), Some(&slow));
    let answered = played.told(left, answers_over_fast);
    assert_eq!(played.ways_at(played.token(), answered + millis(1000)), Some(&fast));
}

#[test]
fn a_long_transfer_has_both_paths_and_leaves_the_one_that_holds_it_up() {
    let (fast, both) = (BTreeSet::from([FAST]), BTreeSet::from([FAST, SLOW]));
    let cases = [
        (BOTH, vec![&fast, &both]),
        (HELD_UP, vec![&fast, &both, &fast]),
        // The fast path delivers less than at the beginning, and not because of the other one.
        (LOSSY, vec![&fast, &both]),
    ];
    for (text, wanted) in cases {
        let played = Played::new(text);
        assert_eq!(played.ways_since(played.told(Duration::ZERO, joined)), wanted);
        let shared = played.carried.iter().find(|(.., ways)| *ways == both).expect("both carry").0;
        let has_moved = |figures: &Figures| figures.acked + figures.received > 1000;
        let moves = |event: &Event| matches!(event, Event::Read(figures) if figures.ends.local().ip() == FAST && has_moved(figures));
        let begun = played.told(Duration::ZERO, moves);
        assert!((millis(150)..millis(700)).contains(&(shared - begun)), "after {:?}", shared - begun);
    }
}
