//! The commands that speak to the kernel's path managers.
use anyhow::{Result, bail};

use super::args::pm::{
    AnnounceArgs, EndpointCommand, LimitsArgs, LimitsCommand, PriorityArgs, SubflowCommand, WithdrawArgs,
};
use super::check::{Machine, same_family};

pub(super) fn endpoint(command: EndpointCommand) -> Result<String> {
    if let EndpointCommand::Add(args) = &command {
        Machine::look()?.endpoint(args)?;
    }
    bail!("not built in yet")
}

pub(super) fn limits(args: LimitsArgs) -> Result<String> {
    let _command = args.command.unwrap_or(LimitsCommand::Show(args.output));
    bail!("not built in yet")
}

pub(super) fn subflow(command: SubflowCommand) -> Result<String> {
    match command {
        SubflowCommand::Create { local, dev, remote, .. } => {
            Machine::look()?.subflow(local, dev.as_deref(), remote)?;
        }
        SubflowCommand::Destroy { local, remote, .. } => same_family(local.ip(), remote.ip())?,
    }
    bail!("not built in yet")
}

pub(super) fn announce(args: &AnnounceArgs) -> Result<String> {
    Machine::look()?.announcement(args)?;
    bail!("not built in yet")
}

pub(super) fn withdraw(_args: &WithdrawArgs) -> Result<String> {
    bail!("not built in yet")
}

pub(super) fn priority(args: &PriorityArgs) -> Result<String> {
    same_family(args.local.ip(), args.remote.ip())?;
    bail!("not built in yet")
}
