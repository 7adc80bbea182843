//! Coupled congestion control as the configuration wants it: registered with the kernel, given to subflows, taken back.
use mptcp_common::coupled::Figures;

use crate::bpf::congestion::Congestion;
use crate::bpf::coupled::{Algorithm, Coupled};
use crate::bpf::{Error, Kernel};
use crate::config;
use crate::core::connections::Token;
use crate::core::service::Service;
use crate::view::status::Feature;

/// The congestion control of this network namespace's MPTCP subflows. Dropping it leaves each as it is: the kernel keeps
/// the programs for those that use them, and gives new ones the system's default.
#[derive(Default)]
pub struct Coupling {
    wanted: Wanted,
    work: Option<Work>,
    /// Why what is wanted does not work.
    absent: Option<String>,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For each service type.
    pub congestion: config::Congestion,
    /// That of connections without one.
    pub default: Service,
}

impl Wanted {
    /// That of a configuration.
    pub fn of(config: &config::Config) -> Self {
        Self { congestion: config.congestion, default: config.default_service() }
    }

    fn usual(self) -> Option<Algorithm> {
        self.congestion.of(self.default)
    }

    /// What a connection gets in place of the usual one.
    fn exception(self, service: Option<Service>) -> Option<Option<Algorithm>> {
        service.map(|service| self.congestion.of(service)).filter(|control| *control != self.usual())
    }
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
    /// Gives subflows, living and to come, what is wanted, with the service types that connections have. What does not work is
    /// logged once, and told by [`Self::feature`].
    pub fn set(&mut self, wanted: Wanted, served: impl Iterator<Item = (Token, Service)>, kernel: &Kernel) {
        self.wanted = wanted;
        let given = self.give(served, kernel);
        if wanted.congestion.keeps() {
            self.work = None;
        }
        self.note(given);
    }

    /// Takes in which connections have another service type now; none for those that have gone. Their subflows follow within a
    /// round trip.
    pub fn serve(&mut self, served: impl IntoIterator<Item = (Token, Option<Service>)>) {
        for (token, service) in served {
            if let Some(work) = &mut self.work {
                let told = work.congestion.except(token, name(self.wanted.exception(service)));
                self.note(told);
            }
        }
    }

    /// Has subflows follow now, also those that send nothing and those that are older than the daemon.
    pub fn follow(&mut self) {
        if let Some(work) = &self.work {
            let followed = work.congestion.follow();
            self.note(followed);
        }
    }

    fn note(&mut self, result: Result<(), Error>) {
        let absent = result.err().map(|error| format!("{:#}", anyhow::Error::from(error)));
        if absent != self.absent
            && let Some(reason) = &absent
        {
            tracing::warn!("eBPF object coupled is not at work, subflows keep what they have: {reason}");
        }
        self.absent = absent;
    }

    fn give(&mut self, served: impl Iterator<Item = (Token, Service)>, kernel: &Kernel) -> Result<(), Error> {
        if self.work.is_none() && !self.wanted.congestion.keeps() {
            self.work = Some(Work::begin(kernel)?);
        }
        let Some(work) = &mut self.work else { return Ok(()) };
        for (token, service) in served {
            work.congestion.except(token, name(self.wanted.exception(Some(service))))?;
        }
        work.congestion.give(self.wanted.usual().map(Algorithm::name))
    }

    /// Whether it works; nothing where nobody asked for it.
    pub fn feature(&self) -> Option<Feature> {
        let feature = || Feature { name: "coupled".to_owned(), absent: self.absent.clone() };
        (!self.wanted.congestion.keeps()).then(feature)
    }

    /// How many windows the programs have put right ([`Coupled::mended`]); none where they are not at work.
    pub fn windows_mended(&self) -> Option<u64> {
        let mended = self.work.as_ref()?.coupled.mended();
        mended.inspect_err(|error| tracing::error!("reading how many windows were put right: {error}")).ok()
    }

    /// What the subflows of each connection tell each other, by local tokens.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn connections(&self) -> Result<Vec<(u32, Vec<Figures>)>, Error> {
        self.work.as_ref().map_or_else(|| Ok(Vec::new()), |work| work.coupled.connections())
    }
}

/// By their names; no name for the system's default.
fn name(exception: Option<Option<Algorithm>>) -> Option<Option<&'static str>> {
    exception.map(|control| control.map(Algorithm::name))
}
