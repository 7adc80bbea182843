//! Runs a command as a service of a systemd unit would run: `under-unit UNIT [--without CAPABILITY]… -- COMMAND…`
use std::ffi::CString;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::fexecve;
use tests::unit::Unit;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let unit = Unit::load(Path::new(&words.next().context("name the unit's file")?))?;
    let mut without = Vec::new();
    while words.next().context("end the options with --")? == "--without" {
        without.push(words.next().context("name a capability")?);
    }
    let command: Vec<String> = words.collect();
    // Opened before the unit hides it: the command may be below /home.
    let program = command.first().context("name a command")?;
    let program = File::open(program).with_context(|| format!("open {program}"))?;
    let strings = |words: Vec<String>| words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = strings(command)?;
    let environment = strings(std::env::vars().map(|(name, value)| format!("{name}={value}")).collect())?;
    unit.enter(&without)?;
    fexecve(program, &arguments, &environment)?;
    Ok(())
}
