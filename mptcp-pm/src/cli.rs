//! The command line: parses it, does what it says, prints the outcome.
//!
//! Exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line itself is wrong.
pub mod args;
mod check;
mod generate;
mod pm;
mod show;
#[cfg(test)]
mod tests;
pub mod values;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::config::Config;
use crate::control::{Client, Request};
use args::{Args, Command, ConfigCommand, StatusArgs};

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    match run(Args::parse().command).and_then(|output| print(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mptcp-pm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what a command says; the result is what it prints.
fn run(command: Command) -> Result<Vec<u8>> {
    match command {
        Command::Run(args) => daemon::run(&args.into()).map(|()| Vec::new()),
        Command::Status(args) => status(&args).map(String::into),
        Command::Reload(daemon) => reload(&daemon.socket).map(String::into),
        Command::Config(ConfigCommand::Check { file }) => check_config(&file).map(String::into),
        Command::Completions { shell } => Ok(generate::completions(shell)),
        Command::Man { dir: None } => generate::man_page(),
        Command::Man { dir: Some(dir) } => generate::man_pages(&dir).map(|()| Vec::new()),
        Command::Monitor(_) | Command::Doctor(_) | Command::Cleanup(_) => bail!("not built in yet"),
        Command::Endpoint(command) => pm::endpoint(command).map(String::into),
        Command::Limits(args) => pm::limits(args).map(String::into),
        Command::Subflow(command) => pm::subflow(command).map(String::into),
        Command::Announce(args) => pm::announce(&args).map(String::into),
        Command::Withdraw(args) => pm::withdraw(&args).map(String::into),
        Command::Priority(args) => pm::priority(&args).map(String::into),
    }
}

fn status(args: &StatusArgs) -> Result<String> {
    let status = Client::connect(&args.daemon.socket)?.request(&Request::Status {})?;
    Ok(if args.output.json { show::json(&status) } else { show::outline(&status) })
}

fn reload(socket: &Path) -> Result<String> {
    Client::connect(socket)?.request(&Request::Reload {})?;
    Ok("the configuration is read and holds\n".into())
}

fn check_config(file: &Path) -> Result<String> {
    let config = Config::load(file)?;
    let uplinks = config.uplinks.len();
    Ok(format!("{}: right, profile {}, {uplinks} uplink rules\n", file.display(), config.profile.name()))
}

/// Prints; a reader that has seen enough is no failure.
fn print(output: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(output).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
