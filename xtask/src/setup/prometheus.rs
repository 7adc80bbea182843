//! Prometheus, which scrapes the metrics in a test: its installation would start a service that listens on all addresses.
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::unpacked::{self, Script, Which};
use crate::paths;

/// Its server, and the tool that checks expositions and rules.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// What starts the server.
pub fn path() -> Result<PathBuf> {
    program(PROGRAMS[0])
}

/// What starts the tool.
pub fn promtool() -> Result<PathBuf> {
    program(PROGRAMS[1])
}

/// This machine's own, if it has one.
fn program(name: &str) -> Result<PathBuf> {
    paths::command(name).map_or_else(|| unpacked::script(name), Ok)
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.is_file() && promtool()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    // Its dependencies are the pages of its user interface, and what makes a user at its installation.
    let root = unpacked::unpack("prometheus", &["prometheus"], Which::Alone).context(
        "unpacking Debian's Prometheus (or install prometheus and promtool by this system's means)",
    )?;
    let bin = root.join("usr/bin");
    PROGRAMS.iter().try_for_each(|&name| {
        Script { name, program: bin.join(name), libraries: &[], arguments: Vec::new() }.make()
    })
}
