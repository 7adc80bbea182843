//! Whose connections are: what the kernel's program tells becomes events for the core.
use crate::bpf::owner::Owners as Source;
use crate::core::event::Event;
use crate::view::status::Feature;

/// The owners of the connections of this network namespace.
pub struct Owners {
    /// Absent before the program is loaded, and on kernels that lack what it needs.
    source: Option<Source>,
    /// Why there is no source, or not all of it.
    absent: Option<String>,
}

impl Owners {
    /// Tells nothing yet.
    pub fn new() -> Self {
        Self { source: None, absent: Some("not loaded yet".to_owned()) }
    }

    /// Loads the kernel's program, and begins.
    pub fn start(&mut self) {
        match Source::attach() {
            Ok(source) => {
                self.absent = source.absent().map(ToOwned::to_owned);
                self.source = Some(source);
            }
            Err(error) => self.absent = Some(format!("{:#}", anyhow::Error::from(error))),
        }
        if let Some(reason) = &self.absent {
            tracing::warn!("eBPF object owner is not wholly at work: {reason}");
        }
    }

    /// Waits until something is told that the daemon would not look for. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            let Some(source) = &mut self.source else { return std::future::pending().await };
            match source.next().await {
                Ok((token, owner)) => return Event::Owned(token, owner),
                Err(error) => {
                    let reason = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!("eBPF object owner is given up: {reason}");
                    (self.source, self.absent) = (None, Some(reason));
                }
            }
        }
    }

    /// What has been told already.
    pub fn waiting(&mut self) -> Option<Event> {
        let (token, owner) = self.source.as_mut()?.waiting()?;
        Some(Event::Owned(token, owner))
    }

    /// Whether the program is at work.
    pub fn feature(&self) -> Feature {
        Feature { name: "owner".to_owned(), absent: self.absent.clone() }
    }
}
