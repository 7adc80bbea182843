//! Set-up, build, checks, demonstration and benchmarks: `cargo xtask COMMAND`.
mod build;
mod paths;
mod process;
mod run;
mod setup;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// What every developer and the CI run; no command needs anything but rustup's or Debian's Rust.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Bring what this machine lacks: rust-src, bpf-linker, tools of the tests, Prometheus for one of them, mptcpd for
    /// the benchmarks
    Setup,
    /// Build the eBPF objects, then the daemon with the objects inside it
    Build {
        /// Optimized, at target/release/mptcp-pm
        #[arg(long)]
        release: bool,
    },
    /// Build, then run all tests; needs root, all traffic stays in network namespaces of its own
    Test {
        /// Run only tests whose names contain one of these
        filters: Vec<String>,
    },
    /// Show the daemon at work on an emulated network
    Demo {
        /// Arguments for the demonstration itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run one benchmark, which writes target/bench/NAME.json
    Bench {
        /// Not optimized, which is built sooner: for work on what is measured, not for figures
        #[arg(long)]
        dev: bool,
        /// The benchmark's name, a file in tests/benches
        name: String,
        /// Arguments for the benchmark itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Clippy with warnings denied, for the host crates and for the eBPF programs
    Lint,
    /// Check what a compiler cannot
    Tidy,
}

fn main() -> ExitCode {
    match execute(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Setup => setup::all(),
        Command::Build { release } => build::all(release),
        Command::Test { filters } => run::test(&filters),
        Command::Demo { args } => run::demo(&args),
        Command::Bench { dev, name, args } => run::bench(&name, !dev, &args),
        Command::Lint => build::lint(),
        Command::Tidy => tidy::all(),
    }
}
