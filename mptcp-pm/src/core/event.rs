//! Everything that can wake the core.
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::owned::Owned;
use super::world::{Change, Observation, Snapshot};
use crate::config::Config;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The configuration that holds from now on.
    Configured(Config),
    /// What a predecessor left, from the state file.
    Inherited(Owned),
    /// Routing netlink reports a change.
    Changed(Change),
    /// Routing netlink lost messages, or the machine slept: what is known may be wrong.
    Lost,
    /// The whole of routing netlink, in answer to [`Action::Resync`].
    Resynced(Snapshot),
    /// Endpoints, limits and sysctls, in answer to [`Action::Observe`].
    Observed(Observation),
    /// A way has failed a subflow from a local address, with this error. The kernel's path manager does not try it again
    /// as long as the endpoint stays.
    SubflowFailed(IpAddr, String),
    /// An action was carried out, or was not.
    Done(Action, Result<(), Failure>),
    /// A deadline has passed.
    Deadline,
    /// Somebody wants to know: read again what the kernel does not report by itself.
    Look,
    /// Remove all that is ours and come to an end.
    Stop,
}

/// Why an action was not carried out: nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of refusal, as far as the core acts on it.
    pub kind: FailureKind,
    /// The text of the error, with what the kernel said.
    pub text: String,
}

/// The kinds of refusal that the core tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// Such an object exists already (EEXIST).
    Exists,
    /// The table is full (ERANGE; EINVAL on 6.1).
    Full,
    /// The kernel does not take the value (EINVAL).
    Invalid,
    /// Any other.
    Other,
}
