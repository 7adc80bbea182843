//! The figures of a path: each described once, from which JSON, OpenMetrics and the screen are derived.
//!
//! The same figures exist for a subflow, a connection, an uplink and a provider: counters add up, and so do rates,
//! windows and queues; of round-trip times the least one, and means weighted by what was measured.
mod text;

use serde::{Deserialize, Serialize};

pub(super) use text::{last, live, scaled, short, span};

/// What sort of number a metric is (OpenMetrics 1.0, section "Metric Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// In what a metric is counted. Its word ends the metric's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things: the name says which.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// A part of a whole, or a multiple.
    Ratio,
}

impl Unit {
    /// Its word, which ends the names of its metrics; none for things, where the name says which.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Bytes => Some("bytes"),
            Self::BytesPerSecond => Some("bytes_per_second"),
            Self::Seconds => Some("seconds"),
            Self::Ratio => Some("ratio"),
        }
    }
}

/// One metric, described.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, the unit included: a field of the JSON, and with a prefix the name of the OpenMetrics family.
    pub name: &'static str,
    /// What sort of number it is.
    pub kind: Kind,
    /// In what it is counted.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Reads it; none while it is not known.
    pub value: fn(&Figures) -> Option<f64>,
}

/// Declares the figures and their descriptions in one place.
macro_rules! figures {
    ($($help:literal $name:ident: $kind:ident, $unit:ident;)*) => {
        /// The figures of a subflow, a connection, an uplink or a provider. `null` is what is not known.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Figures {
            $(#[doc = $help] pub $name: figures!(@type $kind $unit),)*
            /// The last second, ten seconds, minute and ten minutes.
            pub windows: Windows,
        }

        /// Every metric, in the order in which they are shown.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: stringify!($name),
                kind: Kind::$kind,
                unit: Unit::$unit,
                help: $help,
                value: |figures| figures!(@value $kind $unit, figures.$name),
            },)*
        ];
    };
    (@type Counter $unit:ident) => { u64 };
    (@type Gauge Count) => { u64 };
    (@type Gauge $unit:ident) => { Option<f64> };
    (@value Counter $unit:ident, $field:expr) => { Some($field as f64) };
    (@value Gauge Count, $field:expr) => { Some($field as f64) };
    (@value Gauge $unit:ident, $field:expr) => { $field };
}

figures! {
    "Payload bytes sent, retransmitted ones included." sent_bytes: Counter, Bytes;
    "Payload bytes that the peer has acknowledged." acknowledged_bytes: Counter, Bytes;
    "Payload bytes received." received_bytes: Counter, Bytes;
    "Payload bytes retransmitted." retransmitted_bytes: Counter, Bytes;
    "Segments sent, those without data included." sent_segments: Counter, Count;
    "Segments received, those without data included." received_segments: Counter, Count;
    "Segments retransmitted." retransmitted_segments: Counter, Count;
    "How often a retransmission timer expired." retransmission_timeouts: Counter, Count;
    "Subflows that were established." opened_subflows: Counter, Count;
    "Subflows that have ended." closed_subflows: Counter, Count;
    "Subflows that live." subflows: Gauge, Count;
    "Living subflows that stand by as backup." backup_subflows: Gauge, Count;
    "The smoothed round-trip time." rtt_seconds: Gauge, Seconds;
    "The mean deviation of the round-trip time." rtt_deviation_seconds: Gauge, Seconds;
    "The least round-trip time of the last minutes." rtt_min_seconds: Gauge, Seconds;
    "The rate at which data arrived at the peer of late." delivery_rate_bytes_per_second: Gauge, BytesPerSecond;
    "The greatest such rate of one subflow." delivery_rate_max_bytes_per_second: Gauge, BytesPerSecond;
    "The congestion window." congestion_window_bytes: Gauge, Bytes;
    "Data on its way: sent and not acknowledged." in_flight_bytes: Gauge, Bytes;
    "How long ago data last got through, either way." idle_seconds: Gauge, Seconds;
    "Growth of coupled windows, as a share of uncoupled growth."
        coupled_growth_ratio: Gauge, Ratio;
}

/// What happened of late, over four windows that end now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// The last second.
    pub second: Window,
    /// The last ten seconds.
    pub ten_seconds: Window,
    /// The last minute.
    pub minute: Window,
    /// The last ten minutes.
    pub ten_minutes: Window,
}

impl Windows {
    /// Each window with its length in words and in seconds.
    pub fn each(&self) -> [(&'static str, f64, &Window); 4] {
        [
            ("1s", 1.0, &self.second),
            ("10s", 10.0, &self.ten_seconds),
            ("1m", 60.0, &self.minute),
            ("10m", 600.0, &self.ten_minutes),
        ]
    }
}

/// One metric of a window, described. All are gauges.
#[derive(Clone, Copy, Debug)]
pub struct WindowMetric {
    /// Its name, the unit included.
    pub name: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Reads it; none while it is not known.
    pub value: fn(&Window) -> Option<f64>,
}

/// Declares what is measured within a window, and its description, in one place.
macro_rules! window {
    ($($help:literal $name:ident: $unit:ident;)*) => {
        /// What happened within one window. `null` is what was not measured.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Window {
            /// How long it was indeed, seconds: shorter after the start, and a little more or less than its name says.
            pub seconds: f64,
            $(#[doc = $help] pub $name: Option<f64>,)*
        }

        /// Every metric of a window, in the order in which they are shown.
        pub const WINDOW_METRICS: &[WindowMetric] = &[
            $(WindowMetric {
                name: stringify!($name),
                unit: Unit::$unit,
                help: $help,
                value: |window| window.$name,
            },)*
        ];
    };
}

window! {
    "Payload that the peer acknowledged, per second of the window." acknowledged_bytes_per_second: BytesPerSecond;
    "Payload received, per second of the window." received_bytes_per_second: BytesPerSecond;
    "The round-trip time that half of the window's samples were below, within a power of two."
        rtt_p50_seconds: Seconds;
    "The round-trip time that 95 % of the window's samples were below, within a power of two."
        rtt_p95_seconds: Seconds;
    "The round-trip time that 99 % of the window's samples were below, within a power of two."
        rtt_p99_seconds: Seconds;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_with_their_unit_and_are_fields_of_the_json() {
        let json = serde_json::to_value(Figures::default()).expect("serializes");
        for metric in METRICS {
            assert!(metric.name.ends_with(metric.unit.word().unwrap_or("s")), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(json.get(metric.name).is_some(), "{}", metric.name);
        }
        assert_eq!(json.as_object().expect("an object").len(), METRICS.len() + 1);
    }

    #[test]
    fn each_metric_is_described_once_where_the_json_is() {
        let documented = include_str!("../../../docs/json.md");
        let (_, table) = documented.split_once("Figures:\n\n").expect("docs/json.md has a table of figures");
        let rows: Vec<&str> = table.lines().skip(2).take_while(|row| row.starts_with("| ")).collect();
        let help = |metric: &Metric| {
            let mut letters = metric.help.trim_end_matches('.').chars();
            letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect::<String>()
        };
        let described = METRICS.iter().map(|metric| format!("| `{}` | {} |", metric.name, help(metric)));
        assert_eq!(rows[..rows.len() - 1], described.collect::<Vec<_>>());
        assert!(rows[rows.len() - 1].starts_with("| `windows` | "));
    }

    #[test]
    fn so_do_the_names_of_what_is_measured_in_windows() {
        let json = serde_json::to_value(Window::default()).expect("serializes");
        for metric in WINDOW_METRICS {
            assert!(
                metric.name.ends_with(metric.unit.word().expect("none counts things")),
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(json.get(metric.name).is_some(), "{}", metric.name);
        }
        assert_eq!(json.as_object().expect("an object").len(), WINDOW_METRICS.len() + 1);
    }

    #[test]
    fn what_is_not_known_has_no_value() {
        let known = |metric: &&Metric| (metric.value)(&Figures::default()).is_some();
        assert_eq!(METRICS.iter().filter(|metric| !known(metric)).count(), 9);
    }
}
