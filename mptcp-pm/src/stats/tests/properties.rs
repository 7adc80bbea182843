//! What holds whatever the order in which things are told, and whatever gets lost.
use proptest::prelude::*;

use super::model::{Model, Step, Truth, steps};
use super::*;
use crate::stats::clock;

fn truth_of(found: &Figures) -> Truth {
    Truth {
        acknowledged: found.acknowledged_bytes,
        received: found.received_bytes,
        opened: found.opened_subflows,
    }
}

proptest! {
    #[test]
    fn every_subflow_counts_once_with_its_last_known_figures(steps in steps()) {
        let mut model = Model::new();
        let mut closed = 0;
        for step in &steps {
            model.step(step);
            let paths = model.stats.paths();
            let truth = model.truth();
            prop_assert_eq!(paths.uplinks.len(), truth.len());
            for uplink in &paths.uplinks {
                prop_assert_eq!(truth_of(&uplink.figures), truth[&*uplink.name], "{} after {:?}", uplink.name, step);
                prop_assert_eq!(
                    uplink.figures.subflows + uplink.figures.closed_subflows,
                    uplink.figures.opened_subflows
                );
            }
            let now_closed: u64 = paths.uplinks.iter().map(|uplink| uplink.figures.closed_subflows).sum();
            prop_assert!(now_closed >= closed);
            closed = now_closed;
        }
        // Two readings later it is known who has gone, told or not, and nothing is remembered of them.
        for _ in 0..3 {
            model.step(&Step::Read { after_ms: 1000, ends: None, stale: false });
        }
        let living: u64 = model.stats.paths().uplinks.iter().map(|uplink| uplink.figures.subflows).sum();
        prop_assert_eq!(living, model.living());
        prop_assert!(model.stats.ended.is_empty());
    }

    #[test]
    fn windows_have_the_bytes_of_their_time(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
            if matches!(step, Step::Read { .. }) {
                check_windows(&model)?;
            }
        }
    }

    #[test]
    fn windows_of_subflows_add_up_to_those_of_their_uplinks(seed in prop::collection::vec(0_u64..100_000, 1..60)) {
        let mut stats = stats();
        let mut samples = [subflow(2, 1, START), subflow(3, 1, START)];
        for (second, bytes) in (1..).zip(&seed) {
            let now_ns = START + second * SECOND;
            samples[0] = later(&samples[0], now_ns, *bytes, bytes / 2, &[*bytes as u32 + 1]);
            samples[1] = later(&samples[1], now_ns, bytes / 3, 0, &[]);
            read_all(&mut stats, now_ns, &samples);
        }
        // Both are of one connection, alone on the uplink, and as old as the collector.
        let connection = stats.connections().connection(samples[0].kept.token).expect("it is known");
        prop_assert_eq!(connection.windows, figures(&stats, "wlan0").windows);
    }
}

/// The bytes of each window are those between the reading at its beginning and the last one.
fn check_windows(model: &Model) -> Result<(), TestCaseError> {
    let (now_ns, last) = model.readings.last().expect("there is one");
    for uplink in model.stats.paths().uplinks {
        for (name, _, window) in uplink.figures.windows.each() {
            let start_ns = now_ns - (window.seconds * 1e9).round() as u64;
            let first = model.readings.iter().rev().find(|(at, _)| at.abs_diff(start_ns) < 100);
            let Some((_, first)) = first else {
                return Err(TestCaseError::fail(format!(
                    "no reading where {name} begins, {} s ago",
                    window.seconds
                )));
            };
            let at = |truth: &std::collections::BTreeMap<&'static str, Truth>| {
                truth.get(&*uplink.name).copied().unwrap_or_default()
            };
            let (first, last) = (at(first), at(last));
            let bytes = |rate: Option<f64>| (rate.unwrap_or(0.0) * window.seconds).round() as u64;
            let found = [window.acknowledged_bytes_per_second, window.received_bytes_per_second].map(bytes);
            let truth = [last.acknowledged - first.acknowledged, last.received - first.received];
            prop_assert_eq!(found, truth, "{} of {}: {} s", name, uplink.name, window.seconds);
        }
    }
    Ok(())
}

#[test]
fn the_lengths_are_those_that_the_names_say() {
    let named = crate::view::figures::Windows::default().each().map(|(_, seconds, _)| seconds);
    assert_eq!(named, clock::LENGTHS_NS.map(clock::seconds));
}
