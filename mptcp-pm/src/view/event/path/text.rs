//! Events of paths as lines for people.
use std::fmt::Write as _;

use super::{CLOSED, OPENED, PathEvent, TIMEOUT};
use crate::view::connections::{Kind, Opener};
use crate::view::event::{LOST, end, head};
use crate::view::figures::{Figures, last, span};

impl PathEvent {
    /// The event as one line for people, without its end.
    pub fn text(&self) -> String {
        let mut line = head(self.time, &self.event);
        if self.event == "lost" {
            line.push_str(LOST);
        }
        // Writing to a String cannot fail.
        let _ = self.token.map(|token| write!(line, " {token:#010x}"));
        if let (Some(local), Some(remote)) = (self.local, self.remote) {
            let _ = write!(line, " {} > {}", end(local), end(remote));
        }
        let provider = self.provider.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let _ = self.uplink.as_ref().map(|uplink| write!(line, " on {uplink}{provider}"));
        let details = match self.event.as_str() {
            OPENED => self.beginning(),
            TIMEOUT => self.silence(),
            CLOSED => self.balance(),
            _ => Vec::new(),
        };
        if !details.is_empty() {
            let _ = write!(line, ": {}", details.join(", "));
        }
        line.trim_end().to_owned()
    }

    fn beginning(&self) -> Vec<String> {
        let kind = self.kind.map(|kind| match kind {
            Kind::Initial => "initial",
            Kind::Join => "join",
        });
        let opener = self.opened_by.map(|opener| match opener {
            Opener::Us => "opened by us",
            Opener::Peer => "opened by the peer",
        });
        let backup = (self.backup == Some(true)).then_some("backup");
        let adopted = self.adopted.then_some("older than the daemon");
        [kind, opener, backup, adopted].into_iter().flatten().map(str::to_owned).collect()
    }

    fn silence(&self) -> Vec<String> {
        let timer = self.timer_seconds.map(|timer| format!("no answer for {timer:.2} s"));
        let in_a_row =
            self.in_a_row.filter(|count| *count > 1).map(|count| format!("{count} times in a row"));
        [timer, in_a_row].into_iter().flatten().collect()
    }

    fn balance(&self) -> Vec<String> {
        let figures = self.figures.as_ref();
        let parts = [self.duration(), figures.map(last), figures.and_then(timeouts)];
        parts.into_iter().flatten().collect()
    }

    fn duration(&self) -> Option<String> {
        let lasted = self.duration_seconds?;
        Some(if lasted < 120.0 { format!("after {lasted:.1} s") } else { format!("after {}", span(lasted)) })
    }
}

fn timeouts(figures: &Figures) -> Option<String> {
    match figures.retransmission_timeouts {
        0 => None,
        1 => Some("1 timeout".to_owned()),
        count => Some(format!("{count} timeouts")),
    }
}
