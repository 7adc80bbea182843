//! What the daemon may do: it keeps the capabilities that it needs, and gives up the others for good.
use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Needed for as long as the daemon runs:
///
/// | capability | for |
/// |---|---|
/// | CAP_NET_ADMIN | endpoints, limits, subflows, routes, rules, `net.*` sysctls, sock_diag, sockops programs |
/// | CAP_NET_RAW | ICMP echo requests where `net.ipv4.ping_group_range` leaves us out |
/// | CAP_BPF, CAP_PERFMON | eBPF programs, and tracing ones among them |
/// | CAP_CHOWN, CAP_DAC_OVERRIDE | root without the unit: sockets for another group, files of the unit's user |
///
/// The unit goes without the last two, and its user is not root.
const NEEDED: [Capability; 6] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
];

/// What stands in the way of having less.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {source}")]
pub struct Error {
    operation: &'static str,
    source: CapsError,
}

/// Gives up what is not needed, for this thread and those that it begins. What is needed and lacks makes a feature
/// absent, which is said where it is wanted.
///
/// # Errors
/// What the system refuses, which it has no reason to.
pub fn drop_others() -> Result<(), Error> {
    let failed = |operation| move |source| Error { operation, source };
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("read the capabilities"))?;
    let kept: CapsHashSet = NEEDED.into_iter().filter(|needed| permitted.contains(needed)).collect();
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("clear the inheritable capabilities"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("give up effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("give up capabilities"))?;
    // What root executes would have all of them again.
    let refused = |errno: nix::errno::Errno| Error {
        operation: "forbid new privileges",
        source: errno.to_string().into(),
    };
    nix::sys::prctl::set_no_new_privs().map_err(refused)
}
