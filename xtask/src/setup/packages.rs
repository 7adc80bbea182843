//! The commands that tests and demonstration call, installed by apt where root may, named where not.
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::{paths, process};

/// A command that must be there, and the Debian package that has it.
const NEEDED: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("tmux", "tmux"),
    ("pgrep", "procps"),
    ("curl", "curl"),
    ("wget", "wget"),
    ("ssh", "openssh-client"),
    ("python3", "python3"),
];

pub(super) fn is_done() -> bool {
    missing().is_empty()
}

pub(super) fn bring() -> Result<()> {
    let packages = missing();
    let names = packages.join(" ");
    if paths::command("apt-get").is_none() {
        bail!("install what these Debian packages have, with this system's package manager: {names}");
    }
    if !geteuid().is_root() {
        bail!("only root can install packages: run `sudo apt-get install {names}`");
    }
    println!("packages: apt-get install {names}");
    if install(&packages).is_err() {
        println!("packages: apt-get update, then once more");
        process::output(apt_get().arg("update"))?;
        install(&packages)?;
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    let lacks =
        |(command, package): (&str, &'static str)| paths::command(command).is_none().then_some(package);
    NEEDED.into_iter().filter_map(lacks).collect()
}

fn install(packages: &[&str]) -> Result<()> {
    process::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(drop)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}
