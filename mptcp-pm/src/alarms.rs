//! The detector of silent subflows, as the core understands it: its alarms are events.
use std::time::Duration;

use crate::bpf::Kernel;
use crate::bpf::silence::{self, Silence};
use crate::clock::monotonic_ns;
use crate::core::alarm::Alarm;
use crate::core::connections::Ends;
use crate::core::event::Event;
use crate::core::world::IfIndex;
use crate::source::{Source, joined};
use crate::view::status::{Feature, Unnoticed};

/// Who notices silence, while somebody acts on it.
#[derive(Default)]
pub struct Alarms {
    source: Option<Source<Silence>>,
    /// When the first alarm was noticed, in the kernel, to which nothing has been done yet; nanoseconds.
    unanswered: Option<u64>,
}

impl Alarms {
    /// Loads the kernel's programs when somebody acts on alarms, and lets go of them when nobody does any more. A kernel
    /// that cannot run them is asked once.
    pub fn follow(&mut self, wanted: bool, kernel: &Kernel) {
        if !wanted {
            self.source = None;
        } else if self.source.is_none() {
            let source = self.source.insert(Source::new("silence"));
            source.begin(Silence::attach(kernel), |source| joined(source.absent()));
        }
    }

    /// The next alarm: never one where nobody can tell. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        while let Some(source) = &mut self.source
            && let Some(silence) = source.get_mut()
        {
            match silence.next().await {
                Ok(alarm) => return self.event(&alarm),
                Err(error) => source.give_up(error),
            }
        }
        std::future::pending().await
    }

    /// The next alarm, if there is one already.
    pub fn waiting(&mut self) -> Option<Event> {
        let alarm = self.silence()?.waiting()?;
        Some(self.event(&alarm))
    }

    /// Something was done, the first thing since an alarm: how long that took is logged.
    pub fn answered(&mut self) {
        if let Some(at) = self.unanswered.take() {
            let micros = monotonic_ns().saturating_sub(at) / 1000;
            tracing::debug!(micros, "alarm answered");
        }
    }

    /// Nothing is to be done.
    pub const fn left(&mut self) {
        self.unanswered = None;
    }

    /// Silences up to this length are usual on an interface.
    pub fn bear(&mut self, ifindex: IfIndex, silence: Duration) {
        if let Some(source) = self.silence()
            && let Err(error) = source.set_patience(ifindex, silence)
        {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }

    /// Whether the programs are at work; none where nobody asked for them.
    pub fn feature(&self) -> Option<Feature> {
        self.source.as_ref().map(Source::feature)
    }

    /// What the programs had to leave out; none where they are not at work.
    pub fn left_out(&self) -> Option<Unnoticed> {
        match self.source.as_ref()?.get()?.counts() {
            Ok(counts) => Some(Unnoticed { not_watched: counts.not_watched, untold: counts.untold }),
            Err(error) => {
                tracing::error!("{:#}", anyhow::Error::from(error));
                None
            }
        }
    }

    fn silence(&mut self) -> Option<&mut Silence> {
        self.source.as_mut()?.get_mut()
    }

    fn event(&mut self, alarm: &silence::Alarm) -> Event {
        let silence::Alarm { kind, token, local, silent, rtt, .. } = *alarm;
        tracing::debug!(?kind, token, %local, ?silent, ?rtt, "alarm");
        self.unanswered.get_or_insert(alarm.at_ns);
        Event::Alarm(Alarm {
            kind,
            token,
            ends: Ends::new(local, alarm.remote),
            silence: silent,
            rtt,
            deviation: alarm.deviation,
        })
    }
}
