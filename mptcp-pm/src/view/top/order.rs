//! In which order the connections stand.
use std::cmp::Ordering;

use super::measures::{Measures, Span};
use crate::view::connections::Connection;

/// By what connections are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Key {
    /// The rate, both ways together; the fastest first.
    #[default]
    Rate,
    /// The round-trip time, the longest first.
    Rtt,
    /// Bytes, both ways together, the most first.
    Bytes,
    /// The time without progress, the longest first.
    Idle,
    /// The peer's address and port.
    Peer,
}

/// An order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// By what.
    pub key: Key,
    /// The other way round.
    pub reversed: bool,
}

impl Order {
    /// Its name: `by rate`.
    pub(super) fn name(self) -> String {
        let key = match self.key {
            Key::Rate => "rate",
            Key::Rtt => "RTT",
            Key::Bytes => "bytes",
            Key::Idle => "idle",
            Key::Peer => "peer",
        };
        format!("by {key}{}", if self.reversed { " reversed" } else { "" })
    }

    /// Puts connections into this order. What is not known comes last, either way; equals stand by peer.
    pub(super) fn sort(self, connections: &mut [Connection], span: Span) {
        connections.sort_by(|a, b| self.compare(a, b, span).then_with(|| peer(a, b)));
    }

    fn compare(self, a: &Connection, b: &Connection, span: Span) -> Ordering {
        let turned = |order: Ordering| if self.reversed { order.reverse() } else { order };
        if self.key == Key::Peer {
            return turned(peer(a, b));
        }
        match [a, b].map(|connection| self.value(&Measures::of_connection(connection, span))) {
            [Some(a), Some(b)] => turned(b.total_cmp(&a)),
            [a, b] => b.is_some().cmp(&a.is_some()),
        }
    }

    fn value(self, measures: &Measures) -> Option<f64> {
        match self.key {
            Key::Rate => measures.rate(),
            Key::Rtt => measures.rtt,
            Key::Bytes => measures.bytes.map(|bytes| bytes as f64),
            Key::Idle => measures.idle,
            Key::Peer => None,
        }
    }
}

fn peer(a: &Connection, b: &Connection) -> Ordering {
    (a.remote, a.local, a.token).cmp(&(b.remote, b.local, b.token))
}
