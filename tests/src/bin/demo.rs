//! `cargo xtask demo`: the demonstration as a program.

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;
use std::{env, io, process, thread};
use tests::Family;
use tests::demo::{Pace, run};

const HELP: &str = "\
Shows mptcp-pm at work on an emulated network.

Usage: demo [--quick] [--ipv6]

  --quick  shorter transfers
  --ipv6   IPv6 addresses instead of IPv4";

fn main() -> ExitCode {
    match leave_nothing_on_interrupt().and_then(|()| tell()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<()> {
    let (mut family, mut pace) = (Family::V4, Pace::FULL);
    for arg in env::args().skip(1) {
        match arg.as_str() {
            "--quick" => pace = Pace::QUICK,
            "--ipv6" => family = Family::V6,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown argument {other}: see --help"),
        }
    }
    run(family, pace, &mut io::stdout())
}

/// Networks and programs end with this process; its files do not. No other thread exists yet, so that none takes the
/// signal in place of the one that waits for it. Programs inherit that it is blocked, and end with this process.
fn leave_nothing_on_interrupt() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            tests::remove_scratch_folders();
            process::exit(128 + signal as i32);
        }
    })?;
    Ok(())
}
