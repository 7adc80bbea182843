//! Recordings as events again, for the tests that replay them.
use std::time::Duration;

use super::word;
use crate::core::alarm::{Alarm, Figures, Kind, Probe};
use crate::core::connections::{Ends, Notice, Token};
use crate::core::event::Event;

/// The events of a recording, each with its time; none when a line is not understood.
pub fn parse(text: &str) -> Option<Vec<(Duration, Event)>> {
    let mut events = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split(' ');
        let at = micros(words.next()?)?;
        let kind = words.next()?;
        let words: Vec<&str> = words.collect();
        match kind {
            "read" => events.push((at, Event::Read(figures_of(&words)?))),
            "done" => events.push((at, Event::Measured)),
            _ => events.push((at, event(kind, &words)?)),
        }
    }
    Some(events)
}

fn event(kind: &str, words: &[&str]) -> Option<Event> {
    if let ("answer", [local, ifindex, remote, rtt]) = (kind, words) {
        let probe = Probe {
            local: local.parse().ok()?,
            ifindex: ifindex.parse().ok()?,
            remote: remote.parse().ok()?,
        };
        return Some(Event::Answered(probe, micros(rtt)?));
    }
    if let Some(kind) = Kind::ALL.into_iter().find(|known| word(*known) == kind) {
        let [_, _, _, silence, rtt, deviation] = words else { return None };
        let (token, ends) = subflow(words)?;
        let [silence, rtt, deviation] = [micros(silence)?, micros(rtt)?, micros(deviation)?];
        return Some(Event::Alarm(Alarm { kind, token, ends, silence, rtt, deviation }));
    }
    if let ("closed", [token]) = (kind, words) {
        return Some(Event::Connection(token.parse().ok()?, Notice::Closed));
    }
    let (token, ends) = subflow(words)?;
    let notice = match (kind, &words[3..]) {
        ("begun", [side, state]) => Notice::Begun {
            ends,
            server_side: *side == "server",
            deny_join_id0: false,
            established: *state == "established",
        },
        ("joined", [id]) => Notice::SubflowEstablished { ends, local_id: id.parse().ok()? },
        ("left", []) => Notice::SubflowClosed(ends, None),
        _ => return None,
    };
    Some(Event::Connection(token, notice))
}

fn figures_of(words: &[&str]) -> Option<Figures> {
    let [_, _, _, rtt, least, acked, received, queue] = words else { return None };
    let (token, ends) = subflow(words)?;
    Some(Figures {
        token,
        ends,
        opened: true,
        rtt: micros(rtt),
        least: micros(least),
        acked: acked.parse().ok()?,
        received: received.parse().ok()?,
        backlogged: *queue == "full",
    })
}

fn subflow(words: &[&str]) -> Option<(Token, Ends)> {
    let [token, local, remote, ..] = words else { return None };
    Some((token.parse().ok()?, Ends::new(local.parse().ok()?, remote.parse().ok()?)))
}

fn micros(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_micros)
}

#[test]
fn what_is_written_is_read_again() {
    let text = "\
100 begun 7 10.1.0.2:4000 10.9.0.2:80 client established
200 joined 7 10.2.0.2:4001 10.9.0.2:80 2
300 read 7 10.1.0.2:4000 10.9.0.2:80 20000 19000 12345 0 full
300 read 7 10.2.0.2:4001 10.9.0.2:80 - - 0 99 free
300 done
400 late 7 10.1.0.2:4000 10.9.0.2:80 50000 20000 500
500 answer 10.1.0.2 2 10.9.0.2 21000
600 heard 7 10.1.0.2:4000 10.9.0.2:80 70000 20000 500
700 left 7 10.1.0.2:4000 10.9.0.2:80
800 closed 7
";
    let events = parse(text).expect("is understood");
    let written: Vec<String> = events.iter().flat_map(|(at, event)| super::lines(event, *at)).collect();
    assert_eq!(written.join("\n") + "\n", text);
    assert!(parse("100 read 7").is_none() && parse("100 sung 7 10.1.0.2:1 10.9.0.2:2").is_none());
}
