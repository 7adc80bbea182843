//! mptcpd, the daemon that benchmarks compare with: its installation would start a service that changes this machine's
//! own endpoints.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::unpacked::{self, Script, Which};

/// What starts it, with its own libraries and plugins.
pub fn path() -> Result<PathBuf> {
    unpacked::script("mptcpd")
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    let root = unpacked::unpack("mptcpd", &["mptcpd", "mptcpd-plugins"], Which::WithDependencies)?;
    let libraries = with_plugins(&root.join("usr/lib"))?;
    let plugins = format!("--plugin-dir={}/mptcpd", libraries.display());
    let program = root.join("usr/libexec/mptcpd");
    Script { name: "mptcpd", program, libraries: &[libraries], arguments: vec![plugins] }.make()
}

fn with_plugins(lib: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(lib).with_context(|| format!("listing {}", lib.display()))?;
    let has_plugins = |dir: &PathBuf| dir.join("mptcpd").is_dir();
    let found = entries.flatten().map(|entry| entry.path()).find(has_plugins);
    found.context("Debian's mptcpd has no plugin folder where it used to be")
}
