//! An event of a path as the daemon tells it: one model, from which the JSON and the text are derived.
#[cfg(test)]
mod tests;
mod text;

use std::net::SocketAddr;
use std::time::SystemTime;

use mptcp_common::path_stats::{Established, Sample, Timeout};
use serde::{Deserialize, Serialize};

use super::seconds;
use crate::bpf::path_stats;
use crate::stats::{Identity, Known, Stats, is_backup};
use crate::view::connections::{Kind, Opener};
use crate::view::figures::Figures;

/// A path is one subflow's way.
const OPENED: &str = "path-opened";
const CLOSED: &str = "path-closed";
const TIMEOUT: &str = "path-timeout";

/// An event of a path. Its JSON is what serde makes of it; fields are only ever added, and absent where nothing is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathEvent {
    /// When it happened, in seconds since 1970 (UTC), to the microsecond.
    pub time: f64,
    /// What has happened: `path-opened`, `path-closed`, `path-timeout`; `lost` when events have been lost.
    pub event: String,
    /// The connection, by its local token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// The local end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The remote end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// The name of its uplink; `other` where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The provider of that uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// How the subflow came to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Who opened it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<Opener>,
    /// One of the two ends asked for backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// It is older than the daemon: its opening is when it was found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// How often the retransmission timer has expired since something was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_a_row: Option<u32>,
    /// How long that timer ran, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer_seconds: Option<f64>,
    /// From its opening to its end, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// What it delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

impl PathEvent {
    /// What the kernel's program has told, and the collector has taken in; `wall` says when a time of `CLOCK_MONOTONIC`
    /// was. None where it is not about a path.
    pub fn new(event: &path_stats::Event, stats: &Stats, wall: impl Fn(u64) -> SystemTime) -> Option<Self> {
        let (at_ns, event) = match event {
            path_stats::Event::Opened(sample) => (sample.kept.since_ns, Self::opened(sample, stats)),
            path_stats::Event::Closed(sample) => (sample.live.at_ns, Self::closed(sample, stats)),
            path_stats::Event::Timeout(timeout) => (timeout.at_ns, Self::timeout(timeout, stats)),
            path_stats::Event::Awake | path_stats::Event::Read(_) => return None,
        };
        Some(Self { time: seconds(wall(at_ns)), ..event })
    }

    fn opened(sample: &Sample, stats: &Stats) -> Self {
        Self { event: OPENED.into(), ..Self::of_sample(sample, stats.known(sample.kept.cookie)) }
    }

    fn closed(sample: &Sample, stats: &Stats) -> Self {
        let known = stats.known(sample.kept.cookie);
        let lasted_ns = sample.live.at_ns.saturating_sub(sample.kept.since_ns);
        Self {
            event: CLOSED.into(),
            duration_seconds: Some(lasted_ns as f64 / 1e9),
            figures: known.map(|known| known.last_figures()),
            ..Self::of_sample(sample, known)
        }
    }

    /// Of a path that nothing is known of only the token is told.
    fn timeout(timeout: &Timeout, stats: &Stats) -> Self {
        let path = stats
            .known(timeout.cookie)
            .map(|known| Self::of(known.identity(), known.is_backup(), Some(known)));
        Self {
            event: TIMEOUT.into(),
            token: Some(timeout.token),
            in_a_row: Some(timeout.in_a_row),
            timer_seconds: Some(f64::from(timeout.rto_us) / 1e6),
            ..path.unwrap_or_default()
        }
    }

    fn of_sample(sample: &Sample, known: Option<Known<'_>>) -> Self {
        Self::of(&Identity::of(&sample.kept), is_backup(&sample.live), known)
    }

    fn of(identity: &Identity, backup: bool, known: Option<Known<'_>>) -> Self {
        let kind = |way: Established| if way.is_initial() { Kind::Initial } else { Kind::Join };
        let opener = |way: Established| if way.is_active() { Opener::Us } else { Opener::Peer };
        Self {
            token: Some(identity.token),
            local: Some(identity.local()),
            remote: Some(identity.remote()),
            uplink: known.map(|known| known.uplink().to_owned()),
            provider: known.and_then(|known| known.provider().map(str::to_owned)),
            kind: identity.way.map(kind),
            opened_by: identity.way.map(opener),
            backup: Some(backup),
            adopted: identity.adopted,
            ..Self::default()
        }
    }
}
