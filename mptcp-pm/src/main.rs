//! The `mptcp-pm` program.
use std::process::ExitCode;

fn main() -> ExitCode {
    mptcp_pm::cli::main(std::env::args_os())
}
