//! How far coupling holds back the windows of a connection.
use mptcp_common::coupled::{Algorithm, Figures, PACKET, Paths};
use mptcp_common::path_stats::Live;

/// What its subflows' windows grow by in a time, of what they would grow by if each were alone, as TCP Reno does: 1 for a
/// connection with one subflow, 1/4 for two that are equal. None where nothing is sent.
///
/// For each acknowledged packet a window grows by what the algorithm says, and by `1 / w` without it; packets are
/// acknowledged at the subflows' rates.
pub(super) fn growth(algorithm: Algorithm, told: &[Figures]) -> Option<f64> {
    let mut paths = Paths::default();
    paths.iter_mut().zip(told).for_each(|(place, figures)| *place = *figures);
    let coupled = |path: &Figures| algorithm.increase(&paths, path) as f64 / PACKET as f64;
    let alone = |path: &Figures| 1.0 / f64::from(path.window.max(1));
    let weighted = |growth: &dyn Fn(&Figures) -> f64| -> f64 {
        paths.iter().map(|path| path.rate as f64 * growth(path)).sum()
    };
    let uncoupled = weighted(&alone);
    (uncoupled > 0.0).then(|| weighted(&coupled) / uncoupled)
}

/// The algorithm that a subflow uses, if it is one of these.
pub(super) fn algorithm(live: &Live) -> Option<Algorithm> {
    let name = live.congestion_control.split(|byte| *byte == 0).next()?;
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows in packets, times in milliseconds.
    fn growth_of(algorithm: Algorithm, paths: &[(u32, u32)]) -> f64 {
        let told: Vec<Figures> =
            paths.iter().map(|(window, ms)| Figures::new(7, *window, ms * 8000, 1)).collect();
        growth(algorithm, &told).expect("it sends")
    }

    #[test]
    fn one_subflow_grows_as_if_uncoupled_and_equal_ones_as_one() {
        for algorithm in Algorithm::ALL {
            assert!((growth_of(algorithm, &[(40, 20)]) - 1.0).abs() < 0.01, "{algorithm:?}");
            let two = growth_of(algorithm, &[(40, 20), (40, 20)]);
            assert!((two - 0.25).abs() < 0.01, "{algorithm:?}: {two}");
            let four = growth_of(algorithm, &[(40, 20); 4]);
            assert!((four - 0.0625).abs() < 0.01, "{algorithm:?}: {four}");
        }
        assert_eq!(growth(Algorithm::Lia, &[]), None);
    }

    #[test]
    fn unequal_ones_grow_as_the_rfc_has_it() {
        // RFC 6356 equations 1 and 2, with w = (60, 20), rtt = (20, 80): alpha = 80 (60/20^2) / (60/20 + 20/80)^2.
        let alpha = 80.0 * (60.0 / 400.0) / (3.0f64 + 0.25).powi(2);
        let [first, second] = [60.0f64, 20.0].map(|window| f64::min(alpha / 80.0, 1.0 / window));
        let expected = (3.0 * first + 0.25 * second) / (3.0 / 60.0 + 0.25 / 20.0);
        let found = growth_of(Algorithm::Lia, &[(60, 20), (20, 80)]);
        assert!((found / expected - 1.0).abs() < 0.01, "{found}, expected {expected}");
    }

    #[test]
    fn algorithms_are_known_by_their_names() {
        let named = |name: &[u8]| {
            let mut live = Live::default();
            live.congestion_control[..name.len()].copy_from_slice(name);
            algorithm(&live)
        };
        assert_eq!(named(b"olia"), Some(Algorithm::Olia));
        assert_eq!((named(b"cubic"), named(b"lia2"), named(b"")), (None, None, None));
    }
}
