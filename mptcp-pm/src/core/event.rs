//! Everything that can wake the core.
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::alarm::{Alarm, Figures, Probe};
use super::connections::{Notice, Seen, Token};
use super::hints::Desktop;
use super::owned::Owned;
use super::service::{Owner, Service};
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
    /// What the desktop's services tell now.
    Desktop(Desktop),
    /// Routing netlink lost messages, or the machine slept: what is known may be wrong.
    Lost,
    /// The whole of routing netlink, in answer to [`Action::Resync`].
    Resynced(Snapshot),
    /// Endpoints, limits and sysctls, in answer to [`Action::Observe`].
    Observed(Observation),
    /// Whether the path manager's events are heard: without that the daemon cannot manage connections.
    Hearing(bool),
    /// Something happened to a connection. Where the kernel manages it, only that a way has failed a subflow is of
    /// interest: it does not try that again as long as the endpoint stays.
    Connection(Token, Notice),
    /// Whose a connection is; that may be known before it begins.
    Owned(Token, Owner),
    /// Somebody gives a connection a service type by hand, or leaves it to the rules again.
    Service(Token, Option<Service>),
    /// Events of connections were lost: what is known of them may be wrong.
    ConnectionsLost,
    /// All connections, in answer to [`Action::LookAtConnections`].
    Connections(Vec<Seen>),
    /// Whether subflows are measured from now on.
    Measuring(bool),
    /// A subflow was read.
    Read(Figures),
    /// All subflows have been read that are read together.
    Measured,
    /// A subflow is silent, or no longer is.
    Alarm(Alarm),
    /// Somebody has answered [`Action::Ask`], after so long a time.
    Answered(Probe, Duration),
    /// An action was carried out, or was not.
    Done(Action, Result<(), Failure>),
    /// A deadline has passed.
    Deadline,
    /// Somebody wants to know: read again what the kernel does not report by itself.
    Look,
    /// Remove all that is ours and come to an end.
    Stop,
    /// Leave everything to a successor, and new connections to the kernel until it is there.
    HandOver,
}

/// Why an action was not carried out: nothing was changed by it, or nobody knows.
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
    /// What is to be changed or ended is not there.
    Gone,
    /// The connection takes no further subflows (ENOTCONN): one of its ends has nothing more to send.
    Ending,
    /// The connection's paths are managed by the kernel: it is older than the daemon's path manager.
    OtherManager,
    /// No answer came that could be understood: it was carried out, or it was not.
    Unanswered,
    /// Any other.
    Other,
}
