//! Figures in words for people.
use super::Figures;

/// What is true of late: the rates of the last ten seconds, the round-trip time, what had to be sent again since the
/// beginning.
pub(in crate::view) fn live(figures: &Figures) -> String {
    let parts = [rtt(figures), Some(rates(figures)), resent(figures)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What remains when all has ended: what got through, what had to be sent again, the round-trip time.
pub(in crate::view) fn last(figures: &Figures) -> String {
    let traffic =
        format!("{}B out, {}B in", scaled(figures.acknowledged_bytes), scaled(figures.received_bytes));
    let parts = [Some(traffic), resent(figures), rtt(figures)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn rtt(figures: &Figures) -> Option<String> {
    let least = figures.rtt_min_seconds.map(|rtt| format!(" (min {:.1})", rtt * 1e3)).unwrap_or_default();
    figures.rtt_seconds.map(|rtt| format!("rtt {:.1} ms{least}", rtt * 1e3))
}

fn rates(figures: &Figures) -> String {
    let window = &figures.windows.ten_seconds;
    let way = |rate: Option<f64>, word: &str| {
        let bits = rate.map(|bytes| (bytes * 8.0).round() as u64).filter(|bits| *bits > 0)?;
        Some(format!("{}bit/s {word}", scaled(bits)))
    };
    let ways =
        [way(window.acknowledged_bytes_per_second, "out"), way(window.received_bytes_per_second, "in")];
    let ways: Vec<String> = ways.into_iter().flatten().collect();
    let idle = || figures.idle_seconds.map(|seconds| format!("idle for {}", span(seconds)));
    if ways.is_empty() { idle().unwrap_or_else(|| "idle".to_owned()) } else { ways.join(", ") }
}

fn resent(figures: &Figures) -> Option<String> {
    let share = figures.retransmitted_bytes as f64 / figures.sent_bytes.max(1) as f64 * 100.0;
    match figures.retransmitted_bytes {
        0 => None,
        _ if share < 0.01 => Some("under 0.01 % resent".to_owned()),
        _ => Some(format!("{share:.2} % resent")),
    }
}

/// A time in its greatest unit.
pub(in crate::view) fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200.. => format!("{} h", seconds / 3600),
    }
}

/// A number with three digits or so and the prefix of its unit, as in `12.3 M`.
pub(in crate::view) fn scaled(number: u64) -> String {
    const PREFIXES: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if number < 1000 {
        return format!("{number} ");
    }
    let mut value = number as f64 / 1e3;
    let mut prefixes = PREFIXES.iter();
    let mut prefix = prefixes.next();
    while value >= 999.5
        && let Some(next) = prefixes.next()
    {
        (value, prefix) = (value / 1e3, Some(next));
    }
    format!("{} {}", short(value), prefix.unwrap_or(&""))
}

/// A number with three digits or so.
pub(in crate::view) fn short(value: f64) -> String {
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::figures::Window;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0, "0 "),
            (999, "999 "),
            (1000, "1.00 k"),
            (12_345, "12.3 k"),
            (999_499, "999 k"),
            (999_999, "1.00 M"),
            (123_456_789, "123 M"),
            (u64::MAX, "18.4 E"),
        ];
        for (number, expected) in cases {
            assert_eq!(scaled(number), expected, "{number}");
        }
    }

    #[test]
    fn figures_are_one_line() {
        let mut figures = Figures {
            sent_bytes: 1_000_000,
            retransmitted_bytes: 1234,
            rtt_seconds: Some(0.0215),
            rtt_min_seconds: Some(0.018),
            idle_seconds: Some(130.0),
            ..Figures::default()
        };
        assert_eq!(live(&figures), "rtt 21.5 ms (min 18.0), idle for 2 min, 0.12 % resent");
        figures.windows.ten_seconds = Window {
            acknowledged_bytes_per_second: Some(150_000.0),
            received_bytes_per_second: Some(5_250_000.0),
            ..Window::default()
        };
        figures.retransmitted_bytes = 3;
        let expected = "rtt 21.5 ms (min 18.0), 1.20 Mbit/s out, 42.0 Mbit/s in, under 0.01 % resent";
        assert_eq!(live(&figures), expected);
        assert_eq!(live(&Figures::default()), "idle");
    }
}
