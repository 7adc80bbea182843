//! Becomes another program.
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

/// Becomes the program, so that signals and the exit status are its own; what `prepare` does to the command comes first.
///
/// # Errors
/// When it cannot be started.
pub(super) fn become_program(
    command: &[OsString],
    prepare: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<Infallible> {
    let (program, rest) = command.split_first().context("no command: write one behind --")?;
    let error = prepare(Command::new(program).args(rest)).exec();
    let program = program.display();
    Err(match error.kind() {
        ErrorKind::NotFound => anyhow!("no program is called {program}: check its name, or give its path"),
        _ => anyhow::Error::new(error).context(format!("cannot start {program}")),
    })
}
