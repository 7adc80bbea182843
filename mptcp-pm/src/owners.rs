//! Whose connections are: what the kernel's program tells becomes events for the core.
use crate::bpf::{Kernel, owner};
use crate::core::event::Event;
use crate::source::Source;
use crate::view::status::Feature;

/// The owners of the connections of this network namespace.
pub struct Owners(Source<owner::Owners>);

impl Owners {
    /// Tells nothing yet.
    pub fn new() -> Self {
        Self(Source::new("owner"))
    }

    /// Loads the kernel's program, and begins.
    pub fn start(&mut self, kernel: &Kernel) {
        self.0.begin(owner::Owners::attach(kernel), |source| source.absent().map(ToOwned::to_owned));
    }

    /// Waits until something is told that the daemon would not look for. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            let Some(source) = self.0.get_mut() else { return std::future::pending().await };
            match source.next().await {
                Ok((token, owner)) => return Event::Owned(token, owner),
                Err(error) => self.0.give_up(error),
            }
        }
    }

    /// What has been told already.
    pub fn waiting(&mut self) -> Option<Event> {
        let (token, owner) = self.0.get_mut()?.waiting()?;
        Some(Event::Owned(token, owner))
    }

    /// Whether the program is at work.
    pub fn feature(&self) -> Feature {
        self.0.feature()
    }
}
