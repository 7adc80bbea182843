//! The commands that speak to the kernel's path managers.
mod endpoint;

use anyhow::{Error, Result, anyhow};
use nix::errno::Errno;

use super::args::pm::{
    AnnounceArgs, EndpointCommand, LimitsArgs, LimitsCommand, Priority, PriorityArgs, SetLimitsArgs,
    SubflowCommand, WithdrawArgs,
};
use super::check::{Machine, same_family};
use super::{block_on, show};
use crate::core::world::{EndpointFlags, Limits};
use crate::netlink::mptcp::{Mptcp, NewSubflow, Target};
use crate::netlink::transport;

pub(super) fn endpoint(command: EndpointCommand) -> Result<String> {
    block_on(async {
        let mut mptcp = Mptcp::open().await?;
        match command {
            EndpointCommand::List { token, output } => endpoint::list(&mut mptcp, token, output.json).await,
            EndpointCommand::Add(args) => endpoint::add(&mut mptcp, &args).await,
            EndpointCommand::Change(args) => endpoint::change(&mut mptcp, &args).await,
            EndpointCommand::Delete { id, addr } => endpoint::delete(&mut mptcp, id, addr).await,
            EndpointCommand::Flush => mptcp.flush().await.map_err(explained).map(silent),
        }
    })
}

pub(super) fn limits(args: LimitsArgs) -> Result<String> {
    block_on(async {
        let mut mptcp = Mptcp::open().await?;
        let present = mptcp.limits().await?;
        let output = match args.command {
            Some(LimitsCommand::Set(set)) => {
                let wanted = changed(present, set);
                return mptcp.set_limits(wanted).await.map_err(above_maximum).map(silent);
            }
            Some(LimitsCommand::Show(output)) => output,
            None => args.output,
        };
        Ok(if output.json { show::json(&show::limits_json(present)) } else { show::limits(present) })
    })
}

pub(super) fn subflow(command: SubflowCommand) -> Result<String> {
    match command {
        SubflowCommand::Create { token, local, local_id, dev, remote, backup } => {
            let ifindex = Machine::look()?.subflow(local, dev.as_deref(), remote)?;
            let new = NewSubflow { local, local_id, ifindex, backup, remote };
            of_connection(async |mptcp| mptcp.subflow_create(token, &new).await)
        }
        SubflowCommand::Destroy { token, local, remote } => {
            same_family(local.ip(), remote.ip())?;
            of_connection(async |mptcp| mptcp.subflow_destroy(token, local, remote).await)
        }
    }
}

pub(super) fn announce(args: &AnnounceArgs) -> Result<String> {
    let ifindex = Machine::look()?.announcement(args)?;
    let addr = (args.addr, args.port.unwrap_or(0)).into();
    of_connection(async |mptcp| mptcp.announce(args.token, args.id, addr, ifindex).await)
}

pub(super) fn withdraw(args: &WithdrawArgs) -> Result<String> {
    of_connection(async |mptcp| mptcp.remove(args.token, args.id).await)
}

pub(super) fn priority(args: &PriorityArgs) -> Result<String> {
    same_family(args.local.ip(), args.remote.ip())?;
    let flags = match args.priority {
        Priority::Backup => EndpointFlags::BACKUP,
        Priority::Active => EndpointFlags::empty(),
    };
    let local = Target::Addr(args.local);
    of_connection(async |mptcp| mptcp.set_flags_of(args.token, local, Some(args.remote), flags).await)
}

/// Does something to one connection of the userspace path manager.
fn of_connection(work: impl AsyncFnOnce(&mut Mptcp) -> Result<(), transport::Error>) -> Result<String> {
    block_on(async {
        let mut mptcp = Mptcp::open().await?;
        work(&mut mptcp).await.map_err(explained).map(silent)
    })
}

/// What is done and needs no words.
fn silent((): ()) -> String {
    String::new()
}

fn changed(present: Limits, set: SetLimitsArgs) -> Limits {
    Limits {
        subflows: set.subflows.unwrap_or(present.subflows),
        add_addr_accepted: set.add_addr_accepted.unwrap_or(present.add_addr_accepted),
    }
}

fn above_maximum(error: transport::Error) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => anyhow!("{error}; kernels before 7.2 take up to 8, later ones up to 64"),
        _ => explained(error),
    }
}

/// An error with its remedy, where there is one.
fn explained(error: transport::Error) -> Error {
    match remedy(&error) {
        Some(remedy) => anyhow!("{error}; {remedy}"),
        None => error.into(),
    }
}

/// The kernel says `EINVAL` to nearly everything: its words, where it has some, tell what it means.
fn remedy(error: &transport::Error) -> Option<&'static str> {
    let refusal = error.refusal()?;
    let says = |words| refusal.says(words);
    match refusal.errno {
        Errno::EEXIST => Some("`mptcp-pm endpoint list` shows it, `mptcp-pm endpoint change` changes it"),
        Errno::EBUSY => Some("leave --id out, and the kernel chooses a free one"),
        Errno::ERANGE => Some("delete another one first (kernels before 7.2 hold 8)"),
        _ if says("token") => Some("`mptcp-pm status` and `ss -Mi` show the tokens that exist"),
        _ if says("not selected") => Some(
            "it takes a connection made while net.mptcp.path_manager was `userspace` \
             (before Linux 6.15: net.mptcp.pm_type=1)",
        ),
        Errno::ENOENT | Errno::ESRCH => Some("`ss -ti` shows the subflows with their addresses and ports"),
        Errno::EADDRNOTAVAIL => Some("name an address that `ip address` shows"),
        _ if refusal.is_not_found() => Some("`mptcp-pm endpoint list` shows what there is"),
        _ => None,
    }
}
