//! Which system calls a unit's processes may make: filters as systemd installs them.
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};
use syscalls::Sysno;

use super::Unit;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// All filters of a unit; a call has to pass each of them.
pub(super) fn filters(unit: &Unit) -> Result<Vec<BpfProgram>> {
    let mut filters = Vec::new();
    let families: Vec<&str> = unit.words("RestrictAddressFamilies").collect();
    if !families.is_empty() {
        let others = families.into_iter().map(|name| not_equal(family(name)?)).collect::<Result<Vec<_>>>()?;
        let rules = Rules::from([(libc::SYS_socket, vec![SeccompRule::new(others)?])]);
        filters.push(filter(rules, SeccompAction::Allow, refuse(libc::EAFNOSUPPORT))?);
    }
    if unit.is_on("RestrictNamespaces") {
        filters.push(filter(namespaces()?, SeccompAction::Allow, refuse(libc::EPERM))?);
        // Its arguments cannot be looked at; whoever calls it tries clone then.
        let hidden = Rules::from([(libc::SYS_clone3, Vec::new())]);
        filters.push(filter(hidden, SeccompAction::Allow, refuse(libc::ENOSYS))?);
    }
    if unit.is_on("MemoryDenyWriteExecute") {
        filters.push(filter(writable_code()?, SeccompAction::Allow, refuse(libc::EPERM))?);
    }
    // The last one, because to install a filter is not among what it allows.
    if unit.one("SystemCallFilter").is_some() {
        let rules = allowed(unit)?.into_iter().map(|call| (call, Vec::new())).collect();
        filters.push(filter(rules, refuse(libc::EPERM), SeccompAction::Allow)?);
    }
    Ok(filters)
}

pub(super) fn enter(filters: &[BpfProgram]) -> Result<()> {
    filters.iter().try_for_each(|filter| apply_filter(filter)).context("install a filter of system calls")
}

fn filter(rules: Rules, otherwise: SeccompAction, on_match: SeccompAction) -> Result<BpfProgram> {
    Ok(SeccompFilter::new(rules, otherwise, on_match, std::env::consts::ARCH.try_into()?)?.try_into()?)
}

fn refuse(errno: i32) -> SeccompAction {
    SeccompAction::Errno(errno.cast_unsigned())
}

fn not_equal(value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, value)?)
}

fn family(name: &str) -> Result<u64> {
    Ok(match name {
        "AF_UNIX" => libc::AF_UNIX,
        "AF_INET" => libc::AF_INET,
        "AF_INET6" => libc::AF_INET6,
        "AF_NETLINK" => libc::AF_NETLINK,
        _ => bail!("RestrictAddressFamilies: {name} is not known here"),
    } as u64)
}

/// Calls that make or enter a namespace.
fn namespaces() -> Result<Rules> {
    const KINDS: [i32; 8] = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
        0x80, // CLONE_NEWTIME
    ];
    let each = || KINDS.map(|kind| has_bits(0, kind as u64)).into_iter().collect::<Result<Vec<_>>>();
    Ok(Rules::from([(libc::SYS_unshare, each()?), (libc::SYS_clone, each()?), (libc::SYS_setns, Vec::new())]))
}

/// Calls that make memory executable which can be written, or could before.
fn writable_code() -> Result<Rules> {
    let both = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    let code = || Ok::<_, anyhow::Error>(vec![has_bits(2, libc::PROT_EXEC as u64)?]);
    Ok(Rules::from([
        (libc::SYS_mmap, vec![has_bits(2, both)?]),
        (libc::SYS_mprotect, code()?),
        (libc::SYS_pkey_mprotect, code()?),
        (libc::SYS_shmat, vec![has_bits(2, libc::SHM_EXEC as u64)?]),
    ]))
}

fn has_bits(argument: u8, bits: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(bits), bits)?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// `SystemCallFilter`: the first list allows, later ones that begin with `~` take away again. Groups are what systemd says
/// that they are; calls that this architecture lacks are left out, as systemd does.
fn allowed(unit: &Unit) -> Result<BTreeSet<i64>> {
    let mut names: BTreeSet<String> = group("@default")?;
    for list in unit.all("SystemCallFilter") {
        let (list, takes) = list.strip_prefix('~').map_or((list, false), |rest| (rest, true));
        for word in list.split_whitespace() {
            for name in group(word)? {
                if takes {
                    names.remove(&name)
                } else {
                    names.insert(name)
                };
            }
        }
    }
    let numbers = names.iter().filter_map(|name| name.parse::<Sysno>().ok());
    Ok(numbers.map(|number| i64::from(number.id())).collect())
}

/// The calls of a group, and of the groups in it; a call is a group of its own.
fn group(name: &str) -> Result<BTreeSet<String>> {
    if !name.starts_with('@') {
        return Ok(BTreeSet::from([name.to_owned()]));
    }
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", name])
        .output()
        .context("run systemd-analyze: install the package systemd, `cargo xtask setup` does")?;
    ensure!(output.status.success(), "systemd-analyze does not know the group {name}");
    let text = String::from_utf8(output.stdout)?;
    let mut calls = BTreeSet::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        calls.extend(group(line)?);
    }
    Ok(calls)
}
