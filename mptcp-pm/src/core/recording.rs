//! What the core is told of connections, as lines of text: the daemon logs them with `RUST_LOG=trace`, behind the
//! word `recorded`, and tests play them again to the core (`core/tests/replays.rs`).
//!
//! A line is the time in microseconds since the daemon's start, a word, and what belongs to it:
//!
//! ```text
//! 5120331 begun TOKEN LOCAL REMOTE client|server new|established
//! 5140332 joined TOKEN LOCAL REMOTE ID
//! 5140332 left TOKEN LOCAL REMOTE
//! 5140332 closed TOKEN
//! 5240332 read TOKEN LOCAL REMOTE RTT LEAST ACKED RECEIVED full|free    (round-trip times in µs, - for none)
//! 5240332 done                                                          (with a reading)
//! 6240332 late|silent|quiet|heard TOKEN LOCAL REMOTE SILENCE RTT DEVIATION
//! 6260332 answer LOCAL IFINDEX REMOTE RTT
//! ```
#[cfg(test)]
pub mod reading;

use std::time::Duration;

use super::alarm::{Alarm, Figures, Kind, Probe};
use super::connections::{Notice, Token};
use super::event::Event;

/// The lines of an event; none for what is not of connections.
pub fn lines(event: &Event, now: Duration) -> Vec<String> {
    let at = now.as_micros();
    let line = |words: String| vec![format!("{at} {words}")];
    match event {
        Event::Connection(token, notice) => notice_words(*token, notice).map(line).unwrap_or_default(),
        Event::Read(figures) => line(figures_words(figures)),
        Event::Measured => line("done".to_owned()),
        Event::Alarm(alarm) => {
            let Alarm { kind, token, ends, silence, rtt, deviation } = alarm;
            let times = [silence, rtt, deviation].map(|time| time.as_micros().to_string()).join(" ");
            line(format!("{} {token} {} {} {times}", word(*kind), ends.local(), ends.remote()))
        }
        Event::Answered(Probe { local, ifindex, remote }, rtt) => {
            line(format!("answer {local} {ifindex} {remote} {}", rtt.as_micros()))
        }
        _ => Vec::new(),
    }
}

fn notice_words(token: Token, notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::Begun { ends, server_side, established, .. } => {
            let side = if *server_side { "server" } else { "client" };
            let state = if *established { "established" } else { "new" };
            format!("begun {token} {} {} {side} {state}", ends.local(), ends.remote())
        }
        Notice::SubflowEstablished { ends, local_id } => {
            format!("joined {token} {} {} {local_id}", ends.local(), ends.remote())
        }
        Notice::SubflowClosed(ends, _) => format!("left {token} {} {}", ends.local(), ends.remote()),
        Notice::Closed => format!("closed {token}"),
        Notice::Announced(..) | Notice::Withdrawn(_) => return None,
    })
}

fn figures_words(read: &Figures) -> String {
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |t| t.as_micros().to_string());
    let Figures { token, ends, acked, received, .. } = read;
    let queue = if read.backlogged { "full" } else { "free" };
    let rtts = [time(read.rtt), time(read.least)].join(" ");
    format!("read {token} {} {} {rtts} {acked} {received} {queue}", ends.local(), ends.remote())
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Quiet => "quiet",
        Kind::Late => "late",
        Kind::Silent => "silent",
        Kind::Heard => "heard",
    }
}
