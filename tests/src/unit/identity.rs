//! As whom a unit's processes run, and with which capabilities.
use anyhow::{Context, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::Unit;

/// Stands for the unit's user and group, which a machine that only tests need not have. systemd gives such numbers to users
/// that exist only as long as a service does.
pub const UID: u32 = 61_184;

/// The order is that of systemd: what is given up last is what giving up takes.
pub(super) fn enter(unit: &Unit, without: &[String]) -> Result<()> {
    let ambient = capabilities(unit, "AmbientCapabilities", without)?;
    let bounding = capabilities(unit, "CapabilityBoundingSet", without)?;
    ensure!(
        unit.one("User").is_some() && unit.one("Group").is_some(),
        "a unit for root is not understood here"
    );
    if let Some(mask) = unit.one("UMask") {
        umask(Mode::from_bits_truncate(u32::from_str_radix(mask, 8)?));
    }
    for capability in caps::read(None, CapSet::Bounding)?.difference(&bounding) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(UID), Gid::from_raw(UID));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    caps::set(None, CapSet::Permitted, &ambient)?;
    caps::set(None, CapSet::Inheritable, &ambient)?;
    caps::set(None, CapSet::Ambient, &ambient)?;
    // Another user's processes do not die with their parent, unless they ask again.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unit.is_on("NoNewPrivileges") {
        prctl::set_no_new_privs()?;
    }
    Ok(())
}

fn capabilities(unit: &Unit, setting: &str, without: &[String]) -> Result<CapsHashSet> {
    let wanted = unit.words(setting).filter(|name| !without.iter().any(|left_out| left_out == name));
    wanted.map(|name| name.parse::<Capability>().with_context(|| format!("{setting}: {name}"))).collect()
}
