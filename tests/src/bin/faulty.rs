//! The daemon with faults between it and the kernel: `faulty SEED PERCENT BUDGET FAULT|all mptcp-pm run …`.
use std::process::ExitCode;

use tests::faults::Plan;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let (plan, command) = words.split_at(words.len().min(4));
    let plan: Vec<_> = plan.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match Plan::from_words(&plan) {
        Ok(plan) => plan.begin(),
        Err(error) => {
            eprintln!("faulty: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    mptcp_pm::cli::main(command.iter().cloned())
}
