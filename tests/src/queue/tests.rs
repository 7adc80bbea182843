//! Properties of the link model on random traffic and random changes of its settings.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Offer(usize),
    Set(Settings),
    Drain,
}

fn settings(outages: bool) -> impl Strategy<Value = Settings> {
    let burst = prop::option::of((0.0..0.3, 0.1..1.0, 0.0..=1.0));
    let times = (0u64..50_000, 0u64..20_000);
    let codel = prop::option::of((0u64..10_000, 1_000u64..200_000));
    (1_000u64..1_000_000_000, times, any::<bool>(), (0usize..20_000, codel), 0.0..0.5, burst, any::<bool>())
        .prop_map(move |(rate, (delay, jitter), keep_order, (queue, codel), loss, burst, outage)| Settings {
            rate,
            delay: Duration::from_micros(delay),
            jitter: Duration::from_micros(jitter),
            keep_order,
            queue,
            codel: codel.map(|(target, interval)| Codel {
                target: Duration::from_micros(target),
                interval: Duration::from_micros(interval),
            }),
            loss,
            burst: burst.map(|(enter, leave, loss)| Burst { enter, leave, loss }),
            outage: outages && outage,
        })
}

fn steps(outages: bool) -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        8 => (40usize..9000).prop_map(Step::Offer),
        1 => settings(outages).prop_map(Step::Set),
        2 => Just(Step::Drain),
    ];
    prop::collection::vec((0u64..3_000, step), 1..200)
}

/// One packet out: when, how large, and which one by order of entry.
type Arrival = (Duration, usize, usize);

/// Runs the steps, asking the model at each of its deadlines, and checks what must hold at every moment.
fn play(queue: &mut Queue<usize>, steps: &[(u64, Step)]) -> Vec<Arrival> {
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    for (number, (wait, step)) in steps.iter().enumerate() {
        let next = now + Duration::from_micros(*wait);
        while let Some(at) = queue.deadline().filter(|at| *at <= next) {
            now = now.max(at);
            drain(queue, now, &mut out);
        }
        now = next;
        match step {
            Step::Offer(size) => {
                queue.offer(now, *size, number);
            }
            Step::Set(settings) => queue.set(now, settings.clone()),
            Step::Drain => drain(queue, now, &mut out),
        }
        check(queue, now, &out);
    }
    while let Some(at) = queue.deadline() {
        now = now.max(at);
        drain(queue, now, &mut out);
    }
    check(queue, now, &out);
    assert_eq!(queue.counters(now).held, Tally::default(), "something never arrives");
    out
}

fn drain(queue: &mut Queue<usize>, now: Duration, out: &mut Vec<Arrival>) {
    out.extend(std::iter::from_fn(|| queue.pop(now)).map(|(size, number)| (now, size, number)));
}

fn check(queue: &mut Queue<usize>, now: Duration, out: &[Arrival]) {
    let counters = queue.counters(now);
    assert_eq!(counters.received, counters.delivered + counters.dropped() + counters.held);
    assert_eq!(counters.delivered.packets, out.len() as u64);
    assert_eq!(counters.delivered.bytes, out.iter().map(|(_, size, _)| *size as u64).sum::<u64>());
    assert!(queue.waiting_bytes() <= queue.settings().queue);
    assert_eq!(queue.waiting_bytes(), queue.waiting.sizes().sum::<usize>());
    let held = queue.waiting.len() + queue.flying.len() + usize::from(queue.wire.is_some());
    assert_eq!(counters.held.packets, held as u64);
}

/// In no interval do the packets after the first need more than the rate.
fn assert_rate(out: &[Arrival], rate: u64) {
    for (first, start) in out.iter().enumerate() {
        let mut bits = 0u128;
        for end in &out[first + 1..] {
            bits += end.1 as u128 * 8;
            let room = (end.0 - start.0).as_nanos() * u128::from(rate);
            assert!(bits * 1_000_000_000 <= room, "{bits} bits in {:?} at {rate} bit/s", end.0 - start.0);
        }
    }
}

proptest! {
    #[test]
    fn conserves_packets_and_respects_the_queue_limit(
        start in settings(true), steps in steps(true), seed: u64,
    ) {
        play(&mut Queue::new(start, seed), &steps);
    }

    #[test]
    fn never_exceeds_its_rate(start in settings(false), steps in steps(false), seed: u64) {
        // Jitter and a changed delay squeeze arrivals together: the rate is a promise about sending.
        let still = |settings: &Settings| Settings {
            jitter: Duration::ZERO, delay: start.delay, ..settings.clone()
        };
        let steps: Vec<_> = steps.into_iter().map(|(wait, step)| match step {
            Step::Set(settings) => (wait, Step::Set(still(&settings))),
            other => (wait, other),
        }).collect();
        let rates = steps.iter().filter_map(|(_, step)| match step {
            Step::Set(settings) => Some(settings.rate),
            _ => None,
        });
        let fastest = rates.chain([start.rate]).max().unwrap();
        assert_rate(&play(&mut Queue::new(still(&start), seed), &steps), fastest);
    }

    #[test]
    fn keeps_order_unless_told_otherwise(start in settings(true), steps in steps(true), seed: u64) {
        let ordered = |settings: Settings| Settings { keep_order: true, ..settings };
        let steps: Vec<_> = steps.into_iter().map(|(wait, step)| match step {
            Step::Set(settings) => (wait, Step::Set(ordered(settings))),
            other => (wait, other),
        }).collect();
        let out = play(&mut Queue::new(ordered(start), seed), &steps);
        prop_assert!(out.is_sorted_by_key(|(_, _, number)| *number));
    }

    #[test]
    fn same_seed_same_result(start in settings(true), steps in steps(true), seed: u64) {
        let [mut one, mut two] = [(); 2].map(|()| Queue::new(start.clone(), seed));
        prop_assert_eq!(play(&mut one, &steps), play(&mut two, &steps));
    }

    #[test]
    fn does_not_depend_on_how_often_it_is_asked(
        start in settings(true), steps in steps(true), seed: u64,
    ) {
        // The lazy twin is asked only at the end: who gets through must be the same.
        let [mut eager, mut lazy] = [(); 2].map(|()| Queue::new(start.clone(), seed));
        let offers: Vec<_> = steps.iter().filter(|(_, step)| matches!(step, Step::Offer(_))).cloned().collect();
        let mut asked: Vec<_> = play(&mut eager, &offers).iter().map(|(_, _, number)| *number).collect();
        let mut now = Duration::ZERO;
        for (number, (wait, step)) in offers.iter().enumerate() {
            now += Duration::from_micros(*wait);
            if let Step::Offer(size) = step { lazy.offer(now, *size, number); }
        }
        let mut late: Vec<_> = std::iter::from_fn(|| lazy.pop(Duration::MAX / 2)).map(|(_, n)| n).collect();
        asked.sort_unstable();
        late.sort_unstable();
        prop_assert_eq!(asked, late);
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_packet_takes_its_sending_time_and_the_delay() {
    let mut queue = Queue::new(Settings { rate: 12_000_000, delay: ms(10), ..Settings::default() }, 0);
    queue.offer(ms(5), 1500, 'a'); // 12000 bits: 1 ms
    queue.offer(ms(5), 1500, 'b');
    assert_eq!(queue.pop(ms(16) - Duration::from_nanos(1)), None);
    assert_eq!(queue.pop(ms(16)), Some((1500, 'a')));
    assert_eq!((queue.pop(ms(16)), queue.deadline()), (None, Some(ms(17))));
    assert_eq!(queue.pop(ms(17)), Some((1500, 'b')));
}

#[test]
fn a_rate_changed_in_mid_packet_counts_from_there() {
    let mut queue = Queue::new(Settings { rate: 12_000, ..Settings::default() }, 0);
    queue.offer(ms(0), 1500, ()); // 1 s at this rate
    queue.set(ms(500), Settings { rate: 24_000, ..Settings::default() });
    assert_eq!(queue.deadline(), Some(ms(750)));
}

#[test]
fn an_outage_takes_what_is_under_way_and_what_comes() {
    let mut queue = Queue::new(Settings { rate: 12_000_000, delay: ms(10), ..Settings::default() }, 0);
    for number in 0..3 {
        queue.offer(ms(0), 1500, number);
    }
    queue.set(ms(2), Settings { outage: true, ..queue.settings().clone() });
    assert!(!queue.offer(ms(3), 100, 3));
    queue.set(ms(4), Settings { outage: false, ..queue.settings().clone() });
    queue.offer(ms(4), 1500, 4);
    assert_eq!(queue.pop(ms(100)), Some((1500, 4)));
    assert_eq!(queue.counters(ms(100)).dropped_outage, Tally { packets: 4, bytes: 4600 });
}

#[test]
fn loss_is_as_frequent_as_it_is_set() {
    let burst = Burst { enter: 0.01, leave: 0.25, loss: 1.0 };
    let mut queue = Queue::new(Settings { loss: 0.1, burst: Some(burst), ..Settings::default() }, 42);
    for number in 0..100_000 {
        queue.offer(Duration::from_micros(number), 100, ());
    }
    let counters = queue.counters(ms(1000));
    // The bad state holds for enter / (enter + leave) of the packets; 0.1 of the others are lost at random.
    let bad = 100_000.0 * 0.01 / 0.26;
    let near = |tally: Tally, expected: f64| (tally.packets as f64 / expected - 1.0).abs() < 0.1;
    assert!(near(counters.dropped_burst, bad), "{counters:?}");
    assert!(near(counters.dropped_random, (100_000.0 - bad) * 0.1), "{counters:?}");
}

#[test]
fn jitter_reorders_when_it_may() {
    let jitter = Settings { jitter: ms(20), keep_order: false, ..Settings::default() };
    let mut queue = Queue::new(jitter, 3);
    for number in 0..50 {
        queue.offer(ms(number), 100, number);
    }
    let out: Vec<_> = std::iter::from_fn(|| queue.pop(ms(1000))).map(|(_, number)| number).collect();
    assert!(out.len() == 50 && !out.is_sorted());
}
