//! Child processes whose failures name the command that failed.
use std::{
    env,
    ffi::OsString,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Cargo, the one that runs this program, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(paths::workspace());
    command
}

/// Runs a command that speaks to the user itself.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command silently and returns what it wrote; on failure its errors become ours.
pub fn output(command: &mut Command) -> Result<String> {
    let out = attempt(command)?;
    if !out.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            shown(command),
            out.status,
            String::from_utf8_lossy(&out.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a command silently and leaves it to the caller what its failure means.
pub fn attempt(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("starting `{}`", shown(command)))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
