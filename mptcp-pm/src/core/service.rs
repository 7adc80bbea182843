//! What an application wants of its connection: the service types, in the words that Apple gave them; and who decides
//! on that of a connection.
mod decide;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use decide::{Conversion, Owner, PassedOver, Rules, Served, Subject, Why};

/// The slice that those of the service types lie in.
pub const SLICE: &str = "mptcp.slice";

/// A service type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// One path at a time, the one that the owner prefers; the others stand by and carry data only when it fails.
    #[default]
    Handover,
    /// The path with the lowest delay; the others stand by, warm.
    Interactive,
    /// Begins with the path of the lowest delay and those of as low a one; the others are let in once the transfer has shown that
    /// it is long.
    Aggregate,
    /// No second subflow.
    Single,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Handover, Self::Interactive, Self::Aggregate, Self::Single];

    /// Its word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handover => "handover",
            Self::Interactive => "interactive",
            Self::Aggregate => "aggregate",
            Self::Single => "single",
        }
    }

    /// The slice whose connections have it, as systemd names slices: it lies in [`SLICE`].
    pub fn slice(self) -> String {
        format!("mptcp-{}.slice", self.name())
    }

    /// The service type that a slice is for.
    pub fn of_slice(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| name == service.slice())
    }

    /// The service type of what is in a cgroup: that of the innermost slice that it is in.
    pub fn of_cgroup(path: &str) -> Option<Self> {
        path.rsplit('/').find_map(Self::of_slice)
    }
}
