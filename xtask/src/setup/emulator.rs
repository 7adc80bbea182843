//! What boots other kernels: qemu, the server of its shared file system, busybox for the first steps of a guest, kmod.
use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    apt::{Apt, own_suite},
    unpacked::{self, Script},
};
use crate::{paths, process};

const QEMU: &str = "qemu-system-x86_64";
const VIRTIOFSD: &str = "virtiofsd";
const KMOD: &str = "kmod";

/// Starts the emulator.
pub fn qemu() -> Result<PathBuf> {
    unpacked::script(QEMU)
}

/// Starts the server of a file system that a guest shares.
pub fn virtiofsd() -> Result<PathBuf> {
    unpacked::script(VIRTIOFSD)
}

/// A shell with its tools that needs no library.
pub fn busybox() -> Result<PathBuf> {
    program("busybox")
}

/// One of the programs that kmod is, `modprobe` for example.
pub fn kmod(name: &str) -> Result<Command> {
    let mut command = Command::new(kmod_file()?);
    command.arg0(name);
    Ok(command)
}

/// Their one file.
pub fn kmod_file() -> Result<PathBuf> {
    program(KMOD)
}

pub(super) fn is_done() -> Result<bool> {
    // The script of qemu is written last.
    Ok(qemu()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    let root = root()?;
    let apt = Apt::open(&[])?;
    // Its own package in newer releases, in older ones a part of qemu's.
    let server = apt.names(VIRTIOFSD)?.into_iter().find(|name| name == VIRTIOFSD);
    let wanted = ["qemu-system-x86", "busybox-static", KMOD];
    let wanted: Vec<&str> = wanted.into_iter().chain(server.as_deref()).collect();
    let mut packages = apt.with_missing_dependencies(&wanted)?;
    // Those of a machine that has some of them already are needed in the cache all the same.
    packages.extend(["qemu-system-common", "qemu-system-data", "seabios"].map(str::to_owned));
    packages.sort();
    packages.dedup();
    println!("emulator: unpacking {} packages into {}", packages.len(), root.display());
    replace(&root, |root| apt.unpack(&packages, root))?;

    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
    let script = |name, program, arguments| Script { name, program, libraries: &libraries, arguments };
    let servers = ["usr/libexec/virtiofsd", "usr/lib/qemu/virtiofsd"].map(|file| root.join(file));
    let server = servers.into_iter().find(|file| file.is_file()).context("Debian's virtiofsd has moved")?;
    script(VIRTIOFSD, server, Vec::new()).make()?;
    process::output(Command::new(busybox()?).arg("true"))?;
    process::output(kmod("modprobe")?.arg("--version"))?;

    let newer = newer_qemu().inspect_err(|error| println!("emulator: no newer qemu: {error:#}"));
    let started = newer.and_then(|newer| script(QEMU, newer.join(PROGRAM), firmware(&newer)).make());
    started.or_else(|_| script(QEMU, root.join(PROGRAM), firmware(&root)).make())
}

const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// The one among the backports, where there is one: it is twice as fast as that of Debian 12.
fn newer_qemu() -> Result<PathBuf> {
    let suite = format!("{}-backports", own_suite()?);
    let apt = Apt::open(&[&suite])?;
    let packages = ["qemu-system-x86", "qemu-system-data", "seabios"].map(|name| format!("{name}/{suite}"));
    let root = paths::cache()?.join("emulator-newer");
    println!("emulator: unpacking {} into {}", packages.join(", "), root.display());
    replace(&root, |root| apt.unpack(&packages, root))?;
    Ok(root)
}

/// Where it finds what a machine starts with.
fn firmware(root: &Path) -> Vec<String> {
    let folders = ["usr/share/qemu", "usr/share/seabios"].map(|dir| root.join(dir).display().to_string());
    folders.into_iter().flat_map(|dir| ["-L".to_owned(), dir]).collect()
}

fn replace(root: &Path, with: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("removing the old {}", root.display()))?;
    }
    with(root)
}

/// Newer releases have all programs below `/usr`.
fn program(name: &str) -> Result<PathBuf> {
    let root = root()?;
    let files = ["usr/bin", "bin"].map(|dir| root.join(dir).join(name));
    files
        .into_iter()
        .find(|file| file.is_file())
        .with_context(|| format!("there is no {name} in {}", root.display()))
}

fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join("emulator"))
}
