//! Coupled congestion control as the configuration wants it: registered with the kernel, given to subflows, taken back.
use mptcp_common::coupled::Figures;

use crate::bpf::congestion::Congestion;
use crate::bpf::coupled::{Algorithm, Coupled};
use crate::bpf::{Error, Kernel};
use crate::view::status::Feature;

/// The congestion control of this network namespace's MPTCP subflows. Dropping it leaves each as it is: the kernel keeps
/// the programs for those that use them, and gives new ones the system's default.
#[derive(Default)]
pub struct Coupling {
    wanted: Option<Algorithm>,
    work: Option<Work>,
    /// Why what is wanted does not work.
    absent: Option<String>,
}

/// What is loaded; nothing is as long as nobody asks for it.
struct Work {
    // Before the names go that it gives to subflows.
    congestion: Congestion,
    coupled: Coupled,
}

impl Work {
    fn begin(kernel: &Kernel) -> Result<Self, Error> {
        let coupled = Coupled::register(kernel)?;
        Ok(Self { congestion: Congestion::attach(kernel)?, coupled })
    }
}

impl Coupling {
    /// Gives subflows, living and to come, this congestion control; none for the system's default. What does not work is
    /// logged once, and told by [`Self::feature`].
    pub fn set(&mut self, wanted: Option<Algorithm>, kernel: &Kernel) {
        self.wanted = wanted;
        let absent = self.give(kernel).err().map(|error| format!("{:#}", anyhow::Error::from(error)));
        if wanted.is_none() {
            self.work = None;
        }
        if absent != self.absent
            && let Some(reason) = &absent
        {
            tracing::warn!("eBPF object coupled is not at work, subflows keep what they have: {reason}");
        }
        self.absent = absent;
    }

    fn give(&mut self, kernel: &Kernel) -> Result<(), Error> {
        if self.work.is_none() && self.wanted.is_some() {
            self.work = Some(Work::begin(kernel)?);
        }
        match &mut self.work {
            Some(work) => work.congestion.give(self.wanted.map(Algorithm::name)),
            None => Ok(()),
        }
    }

    /// Whether it works; nothing where nobody asked for it.
    pub fn feature(&self) -> Option<Feature> {
        self.wanted.map(|_| Feature { name: "coupled".to_owned(), absent: self.absent.clone() })
    }

    /// What the subflows of each connection tell each other, by local tokens.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn connections(&self) -> Result<Vec<(u32, Vec<Figures>)>, Error> {
        self.work.as_ref().map_or_else(|| Ok(Vec::new()), |work| work.coupled.connections())
    }
}
