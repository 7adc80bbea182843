//! Slices: cgroups by whose name connections have a service type; commands and systemd's services are put into them.
mod units;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use serde::Serialize;

use super::args::slice::{RootArgs, SliceCommand};
use super::program::become_program;
use super::show;
use crate::bpf;
use crate::core::service::{SLICE, Service};
use units::Units;

/// Is there where systemd runs (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Does what a command says.
pub(super) fn run(command: SliceCommand) -> Result<String> {
    match command {
        SliceCommand::Run { service, cgroup_root, command } => {
            run_in(service, cgroup_root.as_deref(), &command).map(|never| match never {})
        }
        SliceCommand::Unit { unit, service, root } => {
            Units::below(root.root.as_deref()).put(&unit, service)?;
            tell_systemd(&root)?;
            Ok(format!("{unit} is in {} from its next start on: systemctl restart {unit}\n", service.slice()))
        }
        SliceCommand::Remove { unit, root } => {
            Units::below(root.root.as_deref()).remove(&unit)?;
            tell_systemd(&root)?;
            Ok(format!("{unit} is in its own slice from its next start on: systemctl restart {unit}\n"))
        }
        SliceCommand::List { root, cgroup_root, output } => {
            let slices = Slices {
                units: Units::below(root.root.as_deref()).all()?,
                slices: existing(&hierarchy(cgroup_root.as_deref())?),
            };
            Ok(if output.json { show::json(&serde_json::to_value(&slices)?) } else { slices.text() })
        }
    }
}

/// Becomes the command, inside the slice.
fn run_in(service: Service, cgroup_root: Option<&Path>, command: &[OsString]) -> Result<Infallible> {
    if cgroup_root.is_none() && Path::new(SYSTEMD_RUNS).is_dir() {
        let error =
            Command::new("systemd-run").args(scope(service, geteuid().is_root())).args(command).exec();
        return Err(error).context("cannot start systemd-run");
    }
    enter(&hierarchy(cgroup_root)?.join(SLICE).join(service.slice()))?;
    become_program(command, |command| command)
}

/// How systemd-run is told to run a command in a scope of its own; others than root have a manager of their own.
fn scope(service: Service, is_root: bool) -> [String; 6] {
    let manager = if is_root { "--system" } else { "--user" };
    let slice = format!("--slice={}", service.slice());
    [manager, "--scope", "--collect", "--quiet", &slice, "--"].map(str::to_owned)
}

/// Makes a cgroup and moves this process into it.
fn enter(folder: &Path) -> Result<()> {
    let remedy = "run it as root, or below a cgroup of your own (--cgroup-root)";
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the cgroup {}: {remedy}", folder.display()))?;
    let join = || {
        let mut file = fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?;
        // 0 is who writes.
        file.write_all(b"0")
    };
    let joined: io::Result<()> = join();
    joined.with_context(|| format!("cannot move into the cgroup {}: {remedy}", folder.display()))
}

fn hierarchy(told: Option<&Path>) -> Result<PathBuf> {
    told.map_or_else(|| Ok(bpf::cgroup_root()?), |told| Ok(told.to_owned()))
}

/// Has systemd read its files again, where they are its.
fn tell_systemd(root: &RootArgs) -> Result<()> {
    if root.root.is_some() || !Path::new(SYSTEMD_RUNS).is_dir() {
        return Ok(());
    }
    let status = Command::new("systemctl").arg("daemon-reload").status().context("cannot start systemctl")?;
    if !status.success() {
        bail!("systemd has not read its files again: use `systemctl daemon-reload`");
    }
    Ok(())
}

/// What `slice list` shows.
#[derive(Debug, Serialize)]
struct Slices {
    units: Vec<units::Placed>,
    slices: Vec<Slice>,
}

/// A slice that exists.
#[derive(Debug, Serialize)]
struct Slice {
    path: String,
    service: Service,
    processes: usize,
}

impl Slices {
    fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        for units::Placed { unit, service } in &self.units {
            let _ = writeln!(out, "{unit}: {}", service.name());
        }
        for Slice { path, service, processes } in &self.slices {
            let _ = writeln!(out, "{path}: {}, {processes} processes", service.name());
        }
        if out.is_empty() { "no service is in a slice, and no slice exists\n".to_owned() } else { out }
    }
}

/// The slices in a hierarchy, in the order of their paths.
fn existing(root: &Path) -> Vec<Slice> {
    let mut slices = Vec::new();
    look(root, "", &mut slices);
    slices.sort_by(|one, other| one.path.cmp(&other.path));
    slices
}

/// What goes away meanwhile is left out.
fn look(folder: &Path, path: &str, slices: &mut Vec<Slice>) {
    for (inner, name) in inside(folder) {
        let path = format!("{path}/{name}");
        match Service::of_slice(&name) {
            Some(service) => {
                slices.push(Slice { path, service, processes: processes(&inner) });
            }
            None => look(&inner, &path, slices),
        }
    }
}

fn processes(folder: &Path) -> usize {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines().count();
    inside(folder).fold(own, |all, (inner, _)| all + processes(&inner))
}

fn inside(folder: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_asked_for_a_scope_in_the_slice() {
        let words = scope(Service::Aggregate, false);
        let expected = ["--user", "--scope", "--collect", "--quiet", "--slice=mptcp-aggregate.slice", "--"];
        assert_eq!(words, expected);
        assert_eq!(scope(Service::Single, true)[0], "--system");
    }

    #[test]
    fn slices_are_found_wherever_they_are() {
        let root = tempfile::tempdir().expect("a folder");
        let make = |path: &str, processes: &str| {
            let folder = root.path().join(path);
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join("cgroup.procs"), processes).expect("written");
        };
        make("mptcp.slice/mptcp-single.slice", "1\n2\n");
        make("mptcp.slice/mptcp-single.slice/run-1.scope", "3\n");
        make("user.slice/user-1000.slice/user@1000.service/mptcp.slice/mptcp-handover.slice", "");
        make("mptcp.slice/mptcp-other.slice", "4\n");
        let slices = Slices { units: Vec::new(), slices: existing(root.path()) };
        let expected = "/mptcp.slice/mptcp-single.slice: single, 3 processes\n\
            /user.slice/user-1000.slice/user@1000.service/mptcp.slice/mptcp-handover.slice: handover, 0 processes\n";
        assert_eq!(slices.text(), expected);
    }
}
