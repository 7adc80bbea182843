//! The detector of silent subflows, as the core understands it: its alarms are events.
use std::time::Duration;

use crate::bpf::Kernel;
use crate::bpf::silence::{self, Silence};
use crate::core::alarm::Alarm;
use crate::core::connections::Ends;
use crate::core::event::Event;
use crate::core::world::IfIndex;
use crate::source::{Source, joined};
use crate::view::status::{Feature, Unnoticed};

/// Who notices silence, while somebody acts on it.
#[derive(Default)]
pub struct Alarms(Option<Source<Silence>>);

impl Alarms {
    /// Loads the kernel's programs when somebody acts on alarms, and lets go of them when nobody does any more. A kernel
    /// that cannot run them is asked once.
    pub fn follow(&mut self, wanted: bool, kernel: &Kernel) {
        if !wanted {
            self.0 = None;
        } else if self.0.is_none() {
            let source = self.0.insert(Source::new("silence"));
            source.begin(Silence::attach(kernel), |source| joined(source.absent()));
        }
    }

    /// The next alarm: never one where nobody can tell. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        while let Some(source) = &mut self.0
            && let Some(silence) = source.get_mut()
        {
            match silence.next().await {
                Ok(alarm) => return event(&alarm),
                Err(error) => source.give_up(error),
            }
        }
        std::future::pending().await
    }

    /// The next alarm, if there is one already.
    pub fn waiting(&mut self) -> Option<Event> {
        self.silence()?.waiting().as_ref().map(event)
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
        self.0.as_ref().map(Source::feature)
    }

    /// What the programs had to leave out; none where they are not at work.
    pub fn left_out(&self) -> Option<Unnoticed> {
        match self.0.as_ref()?.get()?.counts() {
            Ok(counts) => Some(Unnoticed { not_watched: counts.not_watched, untold: counts.untold }),
            Err(error) => {
                tracing::error!("{:#}", anyhow::Error::from(error));
                None
            }
        }
    }

    fn silence(&mut self) -> Option<&mut Silence> {
        self.0.as_mut()?.get_mut()
    }
}

fn event(alarm: &silence::Alarm) -> Event {
    let silence::Alarm { kind, token, local, silent, rtt, .. } = *alarm;
    tracing::debug!(?kind, token, %local, ?silent, ?rtt, "alarm");
    Event::Alarm(Alarm {
        kind,
        token,
        ends: Ends { local, remote: alarm.remote },
        silence: silent,
        rtt,
        deviation: alarm.deviation,
    })
}
