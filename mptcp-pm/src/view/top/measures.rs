//! What a connection or a subflow is measured by: its figures, and what the kernel tells without them.
use crate::view::connections::{Connection, Subflow};
use crate::view::figures::{Figures, Window, Windows};

/// One of the windows over which rates are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(usize);

impl Default for Span {
    /// Ten seconds: it follows what happens, and does not flicker.
    fn default() -> Self {
        Self(1)
    }
}

impl Span {
    /// The next longer one; after the longest the shortest.
    pub(super) fn next(self) -> Self {
        Self((self.0 + 1) % Windows::default().each().len())
    }

    /// Its length in words.
    pub(super) fn name(self) -> &'static str {
        Windows::default().each()[self.0].0
    }

    /// What happened within it.
    pub(super) fn of(self, figures: &Figures) -> Window {
        *figures.windows.each()[self.0].2
    }
}

/// The measures; none is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measures {
    /// Payload acknowledged, bytes per second.
    pub out: Option<f64>,
    /// Payload received, bytes per second.
    pub input: Option<f64>,
    /// The smoothed round-trip time, seconds.
    pub rtt: Option<f64>,
    /// Payload, both ways.
    pub bytes: Option<u64>,
    /// Seconds since data last got through.
    pub idle: Option<f64>,
}

impl Measures {
    /// Those of a connection.
    pub(super) fn of_connection(connection: &Connection, span: Span) -> Self {
        let subflows = connection.subflows.iter().filter_map(|subflow| subflow.rtt_ms);
        let rtt_ms = subflows.reduce(f64::min);
        let bytes = (connection.bytes_sent, connection.bytes_received);
        Self::new(connection.figures.as_ref(), span, rtt_ms, bytes)
    }

    /// Those of a subflow.
    pub(super) fn of_subflow(subflow: &Subflow, span: Span) -> Self {
        let bytes = (subflow.bytes_sent, subflow.bytes_received);
        Self::new(subflow.figures.as_ref(), span, subflow.rtt_ms, bytes)
    }

    /// Both rates together.
    pub(super) fn rate(&self) -> Option<f64> {
        either(self.out, self.input, |out, input| out + input)
    }

    fn new(
        figures: Option<&Figures>,
        span: Span,
        rtt_ms: Option<f64>,
        (sent, received): (Option<u64>, Option<u64>),
    ) -> Self {
        let window = figures.map(|figures| span.of(figures)).unwrap_or_default();
        Self {
            out: window.acknowledged_bytes_per_second,
            input: window.received_bytes_per_second,
            rtt: figures.and_then(|figures| figures.rtt_seconds).or(rtt_ms.map(|rtt| rtt / 1e3)),
            bytes: either(sent, received, u64::saturating_add),
            idle: figures.and_then(|figures| figures.idle_seconds),
        }
    }
}

/// Both, or the one that is known.
fn either<T: Copy>(a: Option<T>, b: Option<T>, both: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(both(a, b)),
        _ => a.or(b),
    }
}
