//! The commands that tests call, demonstration, packaging and the kernel's own tests: installed by apt where root may, named
//! where not.
use std::process::Command;

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::{paths, process};

/// Commands that must be there, each with the Debian package that has it.
pub(super) type Commands = [(&'static str, &'static str)];

/// Those of tests and demonstration.
pub(super) const TEST: &Commands = &[
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("tmux", "tmux"),
    ("pgrep", "procps"),
    ("curl", "curl"),
    ("wget", "wget"),
    ("ssh", "openssh-client"),
    ("python3", "python3"),
    ("systemd-analyze", "systemd"),
    ("dbus-daemon", "dbus-daemon"),
];

/// Those of the kernel's own tests.
pub(super) const SELFTESTS: &Commands = &[("iptables", "iptables"), ("ip6tables", "iptables")];

/// Those that make a package and try it out.
pub(super) const DIST: &Commands = &[
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("mmdebstrap", "mmdebstrap"),
    ("lintian", "lintian"),
];

pub(super) fn is_done(needed: &Commands) -> bool {
    missing(needed).is_empty()
}

pub(super) fn bring(needed: &Commands) -> Result<()> {
    let packages = missing(needed);
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

fn missing(needed: &Commands) -> Vec<&'static str> {
    let lacks =
        |(command, package): &(&str, &'static str)| paths::command(command).is_none().then_some(*package);
    let mut packages: Vec<_> = needed.iter().filter_map(lacks).collect();
    packages.dedup();
    packages
}

fn install(packages: &[&str]) -> Result<()> {
    process::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(drop)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}
