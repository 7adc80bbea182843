//! The detector of silent subflows, as the core understands it: its alarms are events.
use std::time::Duration;

use crate::bpf::silence::{self, Silence};
use crate::core::alarm::{Alarm, Kind};
use crate::core::connections::Ends;
use crate::core::event::Event;
use crate::core::world::IfIndex;
use crate::view::status::Feature;

/// Who notices silence, while somebody acts on it.
#[derive(Default)]
pub struct Alarms {
    source: Option<Silence>,
    /// Why there is no source, or not all of it.
    absent: Option<String>,
    /// It was tried.
    asked: bool,
}

impl Alarms {
    /// Loads the kernel's programs when somebody acts on alarms, and lets go of them when nobody does any more. A kernel
    /// that cannot run them is asked once.
    pub fn follow(&mut self, wanted: bool) {
        match (wanted, &self.source) {
            (true, None) if !self.asked => self.start(),
            (false, Some(_)) => *self = Self::default(),
            _ => {}
        }
    }

    fn start(&mut self) {
        self.asked = true;
        match Silence::attach() {
            Ok(source) => {
                self.absent = (!source.absent().is_empty()).then(|| source.absent().join("; "));
                self.source = Some(source);
            }
            Err(error) => self.absent = Some(format!("{:#}", anyhow::Error::from(error))),
        }
        if let Some(reason) = &self.absent {
            tracing::warn!("eBPF object silence is not wholly at work: {reason}");
        }
    }

    /// The next alarm: never one where nobody can tell. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        if let Some(source) = &mut self.source {
            match source.next().await {
                Ok(alarm) => return event(&alarm),
                Err(error) => {
                    tracing::error!("eBPF object silence is given up: {:#}", anyhow::Error::from(error));
                    self.source = None;
                }
            }
        }
        std::future::pending().await
    }

    /// The next alarm, if there is one already.
    pub fn waiting(&mut self) -> Option<Event> {
        self.source.as_mut()?.waiting().as_ref().map(event)
    }

    /// Silences up to this length are usual on an interface.
    pub fn bear(&mut self, ifindex: IfIndex, silence: Duration) {
        if let Some(source) = &mut self.source
            && let Err(error) = source.set_patience(ifindex, silence)
        {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    /// Whether the programs are at work; none where nobody asked for them.
    pub fn feature(&self) -> Option<Feature> {
        let feature = || Feature { name: "silence".to_owned(), absent: self.absent.clone() };
        self.asked.then(feature)
    }
}

fn event(alarm: &silence::Alarm) -> Event {
    let kind = match alarm.kind {
        silence::Kind::Quiet => Kind::Quiet,
        silence::Kind::Late => Kind::Late,
        silence::Kind::Silent => Kind::Silent,
        silence::Kind::Heard => Kind::Heard,
    };
    tracing::debug!(?kind, token = alarm.token, local = %alarm.local, silent = ?alarm.silent, rtt = ?alarm.rtt, "alarm");
    Event::Alarm(Alarm {
        kind,
        token: alarm.token,
        ends: Ends { local: alarm.local, remote: alarm.remote },
        silence: alarm.silent,
        rtt: alarm.rtt,
        deviation: alarm.deviation,
    })
}
