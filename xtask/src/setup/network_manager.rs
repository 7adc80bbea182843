//! NetworkManager, beside which the daemon is tested: its installation would take over this machine's interfaces.
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::unpacked::{self, Which};
use crate::paths;

/// The folder in which it lies as it would in `/`, with what it depends on and this machine lacks. Tests put it over
/// `/usr` in a mount namespace of their own.
pub fn path() -> Result<PathBuf> {
    Ok(paths::cache()?.join("network-manager"))
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.join("usr/sbin/NetworkManager").is_file())
}

pub(super) fn bring() -> Result<()> {
    unpacked::unpack("network-manager", &["network-manager", "dbus"], Which::WithDependencies)
        .map(drop)
        .context("unpacking Debian's NetworkManager")
}
