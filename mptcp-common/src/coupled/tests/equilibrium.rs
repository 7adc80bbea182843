//! Whole connections in a model of the network that has nothing but random loss: what they get in the long run.
use std::vec::Vec;

use super::super::*;

/// A round-trip time, eighths of a microsecond: 40 ms.
const RTT: u32 = 320_000;
const ROUNDS: usize = 12_000;

/// A subflow that loses packets at random.
struct Subflow {
    loss: f64,
    window: u32,
    credit: i64,
    since_loss: u64,
    between_losses: u64,
    sent: u64,
}

impl Subflow {
    fn new(loss: f64) -> Self {
        Self { loss, window: 10, credit: 0, since_loss: 0, between_losses: 0, sent: 0 }
    }

    fn figures(&self) -> Figures {
        Figures::new(7, self.window, RTT, self.since_loss.max(self.between_losses) * 1448)
    }
}

/// Splitmix64, as numbers from 0 to 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The mean rate of each subflow, packets in a round trip.
fn run(algorithm: Option<Algorithm>, losses: &[f64]) -> Vec<f64> {
    let mut subflows: Vec<_> = losses.iter().map(|loss| Subflow::new(*loss)).collect();
    let mut state = 1;
    for _ in 0..ROUNDS {
        for index in 0..subflows.len() {
            let mut paths = Paths::default();
            paths.iter_mut().zip(&subflows).for_each(|(place, subflow)| *place = subflow.figures());
            let own = paths[index];
            let subflow = &mut subflows[index];
            let window = subflow.window;
            let is_lost = (0..window).any(|_| random(&mut state) < subflow.loss);
            subflow.sent += u64::from(window);
            subflow.since_loss += u64::from(window);
            if is_lost {
                subflow.window = match algorithm {
                    Some(Algorithm::Balia) => balia::after_loss(window, balia::loss(&paths, &own)),
                    _ => reno::after_loss(window),
                };
                (subflow.between_losses, subflow.since_loss, subflow.credit) = (subflow.since_loss, 0, 0);
            } else {
                let increase =
                    algorithm.map_or(of_plain_tcp(window), |algorithm| algorithm.increase(&paths, &own));
                (subflow.window, subflow.credit) = apply(window, subflow.credit, increase, window);
            }
        }
    }
    subflows.iter().map(|subflow| subflow.sent as f64 / ROUNDS as f64).collect()
}

/// What a connection gets of what TCP Reno gets on one of its ways.
fn share(algorithm: Algorithm, losses: &[f64]) -> f64 {
    let tcp = run(None, &losses[..1])[0];
    run(Some(algorithm), losses).iter().sum::<f64>() / tcp
}

/// RFC 6356 section 2, goal 2. LIA and BALIA take a little more on two ways, and more on four, because the windows are
/// seldom equal; windows of a few packets cannot become smaller.
#[test]
fn on_equal_ways_a_connection_takes_what_tcp_takes_on_one() {
    for loss in [0.002, 0.0005] {
        for algorithm in Algorithm::ALL {
            let (one, two) = (share(algorithm, &[loss]), share(algorithm, &[loss; 2]));
            assert!((one - 1.0).abs() < 0.01, "{algorithm:?} alone, loss {loss}: {one}");
            assert!((0.9..1.2).contains(&two), "{algorithm:?} on two ways, loss {loss}: {two}");
            let four = share(algorithm, &[loss; 4]);
            assert!((0.9..1.3).contains(&four), "{algorithm:?} on four ways, loss {loss}: {four}");
        }
    }
}

/// Resource pooling: data moves to the better way, with OLIA most of all.
#[test]
fn on_unequal_ways_most_goes_over_the_better_one() {
    let crowded = |algorithm| {
        let rates = run(Some(algorithm), &[0.0005, 0.005]);
        rates[1] / (rates[0] + rates[1])
    };
    let [lia, olia, balia] = Algorithm::ALL.map(crowded);
    // Uncoupled it would be 0.24, as the square roots of the losses have it.
    assert!(olia < balia && balia < 0.2 && lia < 0.2, "lia {lia}, olia {olia}, balia {balia}");
}
