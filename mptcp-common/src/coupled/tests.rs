//! The integer arithmetic beside the formulas in floating point, over random connections.
mod equilibrium;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A window and a round-trip time in microseconds, before they are made integers for the kernel's sake.
#[derive(Clone, Copy, Debug)]
struct Flow {
    window: u32,
    rtt_us: u32,
    between_losses: u64,
}

impl Flow {
    fn rate(self) -> f64 {
        f64::from(self.window) / f64::from(self.rtt_us)
    }

    fn quality(self) -> f64 {
        self.between_losses as f64 / f64::from(self.rtt_us).powi(2)
    }
}

/// Spread evenly over the orders of magnitude.
fn spread(from: u32, to: u32) -> impl Strategy<Value = u32> {
    let (low, high) = (f64::from(from).log2(), f64::from(to).log2());
    (0.0..=1.0f64).prop_map(move |part| (2f64.powf(low + part * (high - low)) as u32).clamp(from, to))
}

/// Connections with 1 to 16 subflows, windows of 1 to 2^20 packets, and times from 10 µs to 10 s.
fn connections() -> impl Strategy<Value = Vec<Flow>> {
    let flow = (spread(1, MAX_WINDOW), spread(10, 10_000_000), spread(1, u32::MAX))
        .prop_map(|(window, rtt_us, bytes)| Flow { window, rtt_us, between_losses: u64::from(bytes) * 16 });
    prop::collection::vec(flow, 1..=MAX_SUBFLOWS)
}

fn paths(flows: &[Flow]) -> Paths {
    let mut paths = Paths::default();
    for (path, flow) in paths.iter_mut().zip(flows) {
        *path = Figures::new(1, flow.window, flow.rtt_us * 8, flow.between_losses);
    }
    paths
}

/// Packets for each acknowledged packet.
fn packets(increase: i64) -> f64 {
    increase as f64 / PACKET as f64
}

/// Within 1 %, or within two of the finest parts that an increase is counted in.
fn is_close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected.abs() * 0.01 + 2.0 / PACKET as f64
}

/// RFC 6356 section 3, equations 1 and 2, as they are written there.
fn lia_reference(flows: &[Flow], own: Flow) -> f64 {
    let total: f64 = flows.iter().map(|flow| f64::from(flow.window)).sum();
    let greatest = flows.iter().map(|flow| flow.rate() / f64::from(flow.rtt_us)).fold(0.0, f64::max);
    let alpha = total * greatest / sum_of_rates(flows).powi(2);
    (alpha / total).min(1.0 / f64::from(own.window))
}

fn olia_reference(flows: &[Flow], own: Flow) -> (f64, f64) {
    let linked = own.rate() / f64::from(own.rtt_us) / sum_of_rates(flows).powi(2);
    let largest = flows.iter().map(|flow| flow.window).max().unwrap();
    let best = flows.iter().map(|flow| flow.quality()).fold(0.0, f64::max);
    let is_best = |flow: &Flow| flow.quality() == best;
    let with_largest = flows.iter().filter(|flow| flow.window == largest).count() as f64;
    let collected = flows.iter().filter(|flow| flow.window != largest && is_best(flow)).count() as f64;
    let number = flows.len() as f64;
    let alpha = match own {
        _ if collected == 0.0 => 0.0,
        own if own.window == largest => -1.0 / (number * with_largest),
        own if is_best(&own) => 1.0 / (number * collected),
        _ => 0.0,
    };
    (linked, alpha / f64::from(own.window))
}

fn balia_reference(flows: &[Flow], own: Flow) -> (f64, f64) {
    let greatest = flows.iter().map(|flow| flow.rate()).fold(0.0, f64::max);
    let a = greatest / own.rate();
    let first = own.rate() / f64::from(own.rtt_us) / sum_of_rates(flows).powi(2);
    let window = f64::from(own.window);
    (first * (1.0 + a) / 2.0 * (4.0 + a) / 5.0, window - window / 2.0 * a.min(1.5))
}

fn sum_of_rates(flows: &[Flow]) -> f64 {
    flows.iter().map(|flow| flow.rate()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn lia_is_within_a_hundredth(flows in connections()) {
        let paths = paths(&flows);
        for (flow, own) in flows.iter().zip(&paths) {
            let (found, expected) = (packets(lia::increase(&paths, own)), lia_reference(&flows, *flow));
            // Never so small that the unit matters.
            prop_assert!((found / expected - 1.0).abs() <= 0.01, "{found} instead of {expected}");
        }
    }

    #[test]
    fn olia_is_within_a_hundredth_of_either_term(flows in connections()) {
        let paths = paths(&flows);
        for (flow, own) in flows.iter().zip(&paths) {
            let found = packets(olia::increase(&paths, own));
            let (linked, opportunistic) = olia_reference(&flows, *flow);
            // The terms may cancel out: what is left is as precise as they are.
            let allowed = (linked + opportunistic.abs()) * 0.01 + 2.0 / PACKET as f64;
            prop_assert!((found - linked - opportunistic).abs() <= allowed, "{found}: {linked} + {opportunistic}");
        }
    }

    #[test]
    fn balia_is_within_a_hundredth(flows in connections()) {
        let paths = paths(&flows);
        for (flow, own) in flows.iter().zip(&paths) {
            let (increase, rest) = balia_reference(&flows, *flow);
            let found = packets(balia::increase(&paths, own));
            prop_assert!((found / increase - 1.0).abs() <= 0.01, "{found} instead of {increase}");
            // A window is whole packets: up to one of them, rounded down, and never less than two.
            let after = f64::from(balia::after_loss(own.window, balia::loss(&paths, own)));
            let expected = rest.max(f64::from(MIN_WINDOW));
            prop_assert!((after - expected).abs() <= 1.0 + expected * 0.01, "{after} instead of {expected}");
        }
    }

    #[test]
    fn paths_are_ranked_as_by_floating_point(one in connections(), other in connections()) {
        for (one, other) in one.iter().zip(&other) {
            let ratio = one.quality() / other.quality();
            let found = [one, other].map(|flow| olia::quality(flow.between_losses, flow.rtt_us * 8));
            if !is_close(ratio, 1.0) {
                prop_assert_eq!(found[0] > found[1], ratio > 1.0);
            }
        }
    }

    #[test]
    fn equal_subflows_together_take_no_more_than_one_flow(
        number in 1..=MAX_SUBFLOWS, window in spread(1, MAX_WINDOW), rtt_us in spread(10, 10_000_000),
    ) {
        let flows = vec![Flow { window, rtt_us, between_losses: 1000 }; number];
        let paths = paths(&flows);
        // The increase of one subflow is that of plain TCP by the square of their number.
        let expected = 1.0 / f64::from(window) / (number * number) as f64;
        for increase in [lia::increase, olia::increase, balia::increase] {
            prop_assert!(is_close(packets(increase(&paths, &paths[0])), expected));
        }
        prop_assert!(balia::after_loss(window, balia::loss(&paths, &paths[0])).abs_diff(reno::after_loss(window)) <= 1);
    }

    #[test]
    fn nothing_overflows_whatever_the_kernel_says(
        raw in prop::array::uniform((any::<u32>(), any::<u32>(), any::<u64>())),
        torn in any::<(u64, u64, u32, u64)>(),
        credit in 0..PACKET, acked in any::<u32>(),
    ) {
        let mut paths: Paths = raw.map(|(window, rtt, bytes)| Figures::new(1, window, rtt, bytes));
        // Figures of another subflow may be read while they are written.
        let (rate, quality, window, one) = torn;
        paths[MAX_SUBFLOWS - 1] = Figures { rate, quality, window, token: 1, one };
        for own in &paths[..MAX_SUBFLOWS - 1] {
            for increase in [lia::increase, olia::increase, balia::increase] {
                let increase = increase(&paths, own);
                prop_assert!(increase.abs() <= 2 * PACKET);
                let (window, left) = apply(own.window, credit, increase, acked);
                prop_assert!(window >= MIN_WINDOW && (0..PACKET).contains(&left));
            }
            let after = balia::after_loss(own.window, balia::loss(&paths, own));
            prop_assert!(after >= MIN_WINDOW && after <= own.window.max(MIN_WINDOW));
        }
    }

    #[test]
    fn applied_increases_add_up(
        window in 2..MAX_WINDOW, increases in prop::collection::vec((-PACKET..PACKET, 1u32..64), 1..50),
    ) {
        let (mut found, mut credit) = (window + 10_000, 0);
        let mut exact = i128::from(found) << PACKET_BITS;
        for (increase, acked) in increases {
            (found, credit) = apply(found, credit, increase, acked);
            exact += i128::from(increase) * i128::from(acked);
        }
        prop_assert_eq!((i128::from(found) << PACKET_BITS) + i128::from(credit), exact);
    }

    #[test]
    fn reno_grows_by_one_packet_for_each_window(size in 2u32..10_000, acked in 1u32..100) {
        let mut window = reno::Window { size, counted: 0, threshold: 2, clamp: u32::MAX };
        let mut sent = 0;
        while window.size == size {
            window.grow(acked);
            sent += acked;
        }
        prop_assert!(sent >= size && sent < size + acked);
    }
}

#[test]
fn no_measured_time_is_no_rate_and_no_subflow() {
    let own = Figures::new(1, 1, 80_000_000, 0);
    assert!(own.is_beside(&own));
    assert!(!Figures::new(1, 10, 0, 5).is_beside(&own));
    assert!(!Figures::default().is_beside(&own));
}

#[test]
fn figures_of_another_connection_count_for_nothing() {
    let flow = |window| Flow { window, rtt_us: 30_000, between_losses: 5000 };
    let mut paths = paths(&[flow(10), flow(20), flow(50)]);
    let own = paths[0];
    let count = |paths: &Paths| {
        let increases =
            [lia::increase, olia::increase, balia::increase].map(|increase| increase(paths, &own));
        (number(paths, &own), increases, balia::loss(paths, &own))
    };
    let with_three = count(&paths);
    paths[2].token = 2;
    let with_a_foreign = count(&paths);
    paths[2] = Figures::default();
    assert_eq!(with_a_foreign, count(&paths));
    assert_ne!(with_a_foreign, with_three);
}

#[test]
fn without_a_loss_no_path_is_worse_than_another() {
    assert_eq!(olia::quality(0, 80), olia::quality(0, 8_000_000));
    assert!(olia::quality(1, u32::MAX) > 0);
}

#[test]
fn slow_start_ends_at_the_threshold_and_leaves_the_rest() {
    let mut window = reno::Window { size: 8, counted: 0, threshold: 10, clamp: u32::MAX };
    assert_eq!(window.slow_start(5), 3);
    assert_eq!(window.size, 10);
    assert!(!window.is_in_slow_start());
    let mut clamped = reno::Window { size: 8, counted: 0, threshold: 100, clamp: 9 };
    assert_eq!((clamped.slow_start(5), clamped.size), (0, 9));
}

#[test]
fn an_idle_sender_is_not_limited_by_its_window() {
    let slow = reno::Window { size: 10, counted: 0, threshold: 100, clamp: u32::MAX };
    let avoiding = reno::Window { threshold: 5, ..slow };
    assert!(reno::is_limited(true, &avoiding, 0) && !reno::is_limited(false, &avoiding, 10));
    assert!(reno::is_limited(false, &slow, 6) && !reno::is_limited(false, &slow, 5));
}

#[test]
fn no_more_is_believed_to_have_arrived_than_was_on_its_way() {
    let window = reno::Window { size: 10, counted: 0, threshold: 5, clamp: 100 };
    let believed = |acked, most| reno::believed(acked, &window, most);
    assert_eq!([believed(0, 0), believed(9, 0), believed(30, 33)], [0, 9, 30]);
    assert_eq!([believed(u32::MAX, 0), believed(34, 33)], [10, 33]);
}

#[test]
fn losses_halve_and_can_be_undone() {
    assert_eq!([0, 3, 5, 100, 101].map(reno::after_loss), [2, 2, 2, 50, 50]);
    // BALIA's is the same for who is alone.
    let alone = |window| balia::after_loss(window, balia::LOSS_ALONE);
    assert_eq!([0, 3, 5, 100, 101, MAX_WINDOW].map(alone), [2, 2, 2, 50, 50, MAX_WINDOW / 2]);
    assert_eq!((reno::undone(50, 100), reno::undone(120, 100)), (100, 120));
}
