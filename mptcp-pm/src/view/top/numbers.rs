//! Figures in the few letters that a column has; `-` for what is not known.
use crate::view::figures::{Figures, Metric, Unit, scaled, short};

const UNKNOWN: &str = "-";

/// A rate in bit/s, from bytes per second: `12.3 M`.
pub(super) fn rate(bytes_per_second: Option<f64>) -> String {
    // The conversion to an integer keeps within its bounds.
    bytes_per_second.map_or_else(|| UNKNOWN.into(), |rate| scaled((rate * 8.0).round() as u64))
}

/// Bytes: `12.3 k`.
pub(super) fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| UNKNOWN.into(), scaled)
}

/// Seconds as milliseconds with three digits or so.
pub(super) fn millis(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| UNKNOWN.into(), |seconds| short(seconds * 1e3))
}

/// A part of a whole, in percent.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return UNKNOWN.into();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// The value of a metric with its unit; rates in bit/s, as everywhere on the screen.
pub(super) fn metric(metric: &Metric, figures: &Figures) -> String {
    let Some(value) = (metric.value)(figures) else { return UNKNOWN.into() };
    match metric.unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Bytes => format!("{}B", scaled(value as u64)),
        Unit::BytesPerSecond => format!("{}bit/s", rate(Some(value))),
        Unit::Seconds => format!("{} ms", millis(Some(value))),
        Unit::Ratio => short(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::figures::METRICS;

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!([rate(None), bytes(None), millis(None), share(0, 0)], ["-"; 4]);
        let unknown = |entry: &&Metric| (entry.value)(&Figures::default()).is_none();
        let entry = METRICS.iter().find(unknown).expect("some are not known");
        assert_eq!(metric(entry, &Figures::default()), "-");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.0, 125.0, 1.54e6].map(|value| rate(Some(value))), ["0 ", "1.00 k", "12.3 M"]);
        let times = [0.0, 0.000_345, 0.0215, 0.085, 0.0999, 1.2345].map(|value| millis(Some(value)));
        assert_eq!(times, ["0.00", "0.34", "21.5", "85.0", "99.9", "1234"]);
        assert_eq!(
            [(0, 7), (1, 1000), (1, 8), (9, 9)].map(|(a, b)| share(a, b)),
            ["0.0%", "0.1%", "12%", "100%"]
        );
    }

    #[test]
    fn a_metric_has_its_unit() {
        let figures = Figures {
            sent_bytes: 12_345,
            sent_segments: 99,
            rtt_seconds: Some(0.02),
            coupled_growth_ratio: Some(0.25),
            delivery_rate_bytes_per_second: Some(1.25e6),
            ..Figures::default()
        };
        let value = |name| {
            let entry = METRICS.iter().find(|metric| metric.name == name).expect("is a metric");
            metric(entry, &figures)
        };
        assert_eq!(value("sent_bytes"), "12.3 kB");
        assert_eq!(value("sent_segments"), "99");
        assert_eq!(value("rtt_seconds"), "20.0 ms");
        assert_eq!(value("coupled_growth_ratio"), "0.25");
        assert_eq!(value("delivery_rate_bytes_per_second"), "10.0 Mbit/s");
    }
}
