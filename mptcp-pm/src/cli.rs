//! The command line: parses it, does what it says, prints the outcome.
//!
//! Exit codes: 0 done, 1 failed (the reason is on standard error), 2 the command line itself is wrong.
pub mod args;
mod check;
mod doctor;
mod exec;
mod generate;
mod hook;
mod log;
mod monitor;
mod pm;
mod program;
mod service;
pub mod show;
mod slice;
#[cfg(test)]
mod tests;
mod top;
pub mod values;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::Value;

use crate::config::Config;
use crate::control::{Client, Request};
use crate::daemon;
use crate::view::{self, status::Status};
use args::{Args, CleanupArgs, Command, ConfigCommand, RunArgs, StatusArgs};

/// Does what a command line says; its first word is the program's name.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(Args::parse_from(words).command).and_then(|outcome| outcome.print()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mptcp-pm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a command prints, and how it ends.
struct Outcome {
    output: Vec<u8>,
    code: ExitCode,
}

impl From<Vec<u8>> for Outcome {
    fn from(output: Vec<u8>) -> Self {
        Self { output, code: ExitCode::SUCCESS }
    }
}

impl From<String> for Outcome {
    fn from(output: String) -> Self {
        output.into_bytes().into()
    }
}

impl Outcome {
    /// Prints; a reader that has seen enough is no failure.
    fn print(self) -> Result<ExitCode> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(&self.output).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to standard output")
            }
            _ => Ok(self.code),
        }
    }
}

/// Does what a command says.
fn run(command: Command) -> Result<Outcome> {
    match command {
        Command::Run(args) => run_daemon(args).map(|()| Vec::new().into()),
        Command::Cleanup(args) => cleanup(args).map(|()| Vec::new().into()),
        Command::Status(args) => status(&args).map(Outcome::from),
        Command::Metrics(daemon) => metrics(&daemon.path()).map(Outcome::from),
        Command::Reload(daemon) => reload(&daemon.path()).map(Outcome::from),
        Command::Hook(args) => hook::run(args).map(|()| Vec::new().into()),
        Command::Service(command) => service::change(command).map(Outcome::from),
        Command::Explain(args) => service::explain(&args).map(Outcome::from),
        Command::Config(ConfigCommand::Check { file }) => check_config(&file).map(Outcome::from),
        Command::Completions { shell } => Ok(generate::completions(shell).into()),
        Command::Man { dir: None } => generate::man_page().map(Outcome::from),
        Command::Man { dir: Some(dir) } => generate::man_pages(&dir).map(|()| Vec::new().into()),
        Command::Slice(command) => slice::run(command).map(Outcome::from),
        Command::Exec(args) => exec::run(&args).map(|never| match never {}),
        Command::Doctor(args) => doctor::run(&args),
        Command::Top(args) => top::run(args).map(|()| Vec::new().into()),
        Command::Monitor(args) => monitor::run(&args).map(|()| Vec::new().into()),
        Command::Endpoint(command) => pm::endpoint(command).map(Outcome::from),
        Command::Limits(args) => pm::limits(args).map(Outcome::from),
        Command::Subflow(command) => pm::subflow(command).map(Outcome::from),
        Command::Announce(args) => pm::announce(&args).map(Outcome::from),
        Command::Withdraw(args) => pm::withdraw(&args).map(Outcome::from),
        Command::Priority(args) => pm::priority(&args).map(Outcome::from),
    }
}

fn run_daemon(args: RunArgs) -> Result<()> {
    log::to_stderr();
    let RunArgs { config, socket, runtime_dir } = args;
    daemon::run(&daemon::Options { config, socket, runtime_dir })
}

fn cleanup(args: CleanupArgs) -> Result<()> {
    log::to_stderr();
    daemon::cleanup(args.runtime_dir, args.keep_paths)
}

/// Runs what speaks to the kernel; one thread is plenty.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the event loop")?.block_on(work)
}

fn status(args: &StatusArgs) -> Result<String> {
    let status = Client::connect(&args.daemon.path())?.request(&Request::Status {})?;
    if args.output.json {
        return Ok(show::json(&status));
    }
    Ok(view::status::text(&understood(status)?))
}

/// The daemon may be older or newer than this program.
fn understood(status: Value) -> Result<Status> {
    serde_json::from_value(status).context("cannot read the daemon's status: is it another version?")
}

fn metrics(socket: &Path) -> Result<String> {
    let metrics = Client::connect(socket)?.request(&Request::Metrics {})?;
    serde_json::from_value(metrics).context("cannot read the daemon's metrics: is it another version?")
}

fn reload(socket: &Path) -> Result<String> {
    Client::connect(socket)?.request(&Request::Reload {})?;
    Ok("the configuration is read and holds\n".into())
}

fn check_config(file: &Path) -> Result<String> {
    let config = Config::load(file)?;
    let (uplinks, applications) = (config.uplinks.len(), config.applications.len());
    Ok(format!(
        "{}: right, profile {}, {uplinks} uplink rules, {applications} application rules\n",
        file.display(),
        config.profile.name()
    ))
}
