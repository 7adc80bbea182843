//! Set-up, build, checks, demonstration and benchmarks: `cargo xtask COMMAND`.
mod build;
mod conformance;
mod dist;
mod fuzz;
mod paths;
mod process;
mod run;
mod setup;
mod tidy;
mod vm;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

/// What every developer and the CI run; no command needs anything but rustup's or Debian's Rust.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Bring what this machine lacks: rust-src, bpf-linker, tools and servers of the tests, Prometheus and NetworkManager
    /// for some of them, mptcpd for the benchmarks
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
        /// On other kernels instead: try what each can do, run the tests of the path manager there, compare what the
        /// verifier has to do, and print a table
        #[arg(long, conflicts_with = "filters")]
        vm: bool,
        /// Only on the kernel of this series, 6.12 for example
        #[arg(long, requires = "vm")]
        kernel: Option<String>,
        /// Only load the eBPF objects; where the kernel cannot be brought, say so and leave it out
        #[arg(long, requires = "vm")]
        quick: bool,
        /// Make what the verifier has to do now the baseline
        #[arg(long, requires = "vm")]
        bless: bool,
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
    /// Run a command as root under another kernel, on this machine's files; nothing that it writes stays
    Vm {
        /// The kernel's series, 6.12 for example; the newest one if none is named
        #[arg(long, default_value = "7", conflicts_with = "all")]
        kernel: String,
        /// Each of 6.1, 6.12, 6.18 and 7, one after the other
        #[arg(long)]
        all: bool,
        /// Seconds until the guest is ended
        #[arg(long, default_value_t = 600)]
        limit: u64,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run the kernel's own MPTCP tests with this project's code in place of the kernel's tools, and compare
    Conformance {
        /// On the kernel of this series, 6.12 for example, instead of this machine's
        #[arg(long)]
        kernel: Option<String>,
        /// The scripts, as in `pm_netlink.sh` or 'pm_netlink.sh -i'
        #[arg(default_values = conformance::SCRIPTS)]
        scripts: Vec<String>,
    },
    /// Give bytes of any kind to what reads bytes from outside, guided by which code they reach
    Fuzz {
        /// The target, a file in fuzz/fuzz_targets; each one if none is named
        target: Option<String>,
        /// For so many seconds each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Make what people install: a Debian package and a tarball, in target/dist
    Dist {
        /// Not optimized, which is built sooner: to try the package out
        #[arg(long)]
        dev: bool,
        /// Then install, upgrade, remove and purge it in trees of Debian 12 and 13 and of Ubuntu 22.04 and
        /// 24.04, boot them, and have lintian look at it; needs root, brings the trees first
        #[arg(long)]
        check: bool,
    },
    /// Clippy with warnings denied, for the host crates and for the eBPF programs
    Lint,
    /// Check what a compiler cannot
    Tidy,
}

fn main() -> ExitCode {
    match execute(Command::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup => setup::all(),
        Command::Build { release } => build::all(release),
        Command::Test { vm: true, kernel, quick, bless, .. } => {
            vm::matrix::run(&vm::matrix::Options { series: kernel.as_deref(), quick, bless })
        }
        Command::Test { filters, .. } => run::test(&filters),
        Command::Demo { args } => run::demo(&args),
        Command::Bench { dev, name, args } => run::bench(&name, !dev, &args),
        Command::Vm { kernel, all, limit, command } => {
            let series = if all { setup::kernels::SERIES.to_vec() } else { vec![kernel.as_str()] };
            return vm::command(&series, &command, Duration::from_secs(limit));
        }
        Command::Conformance { kernel, scripts } => conformance::run(kernel.as_deref(), &scripts),
        Command::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Command::Dist { dev, check } => dist::run(dist::Options { dev, check }),
        Command::Lint => build::lint(),
        Command::Tidy => tidy::all(),
    }
    .map(|()| ExitCode::SUCCESS)
}
