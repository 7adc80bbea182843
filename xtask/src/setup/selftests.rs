//! The kernel's own MPTCP tests, out of Debian's package of its source, built into the cache; and the `ip` and
//! `ss` that they want, where the backports have newer ones.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt::{Apt, own_suite};
use crate::{paths, process};

/// The suite with the newest source.
const SUITE: &str = "trixie-backports";

/// What building the tests needs of the source.
const PARTS: [&str; 9] = [
    "Makefile",
    "Kbuild",
    "scripts",
    "include",
    "arch/x86",
    "tools/include",
    "tools/scripts",
    "tools/build",
    "tools/testing/selftests",
];

/// The folder of all tests, in which those of MPTCP are in `net/mptcp`.
pub fn path() -> Result<PathBuf> {
    Ok(root()?.join("linux/tools/testing/selftests"))
}

/// A program of iproute2 that the tests are to call: some of them want what it has since 6.15.
pub fn tool(name: &str) -> Result<PathBuf> {
    let newer =
        ["usr/sbin", "usr/bin", "sbin", "bin"].map(|dir| iproute().map(|root| root.join(dir).join(name)));
    let newer = newer.into_iter().flatten().find(|file| file.is_file());
    newer.or_else(|| paths::command(name)).with_context(|| format!("there is no {name}(8)"))
}

pub(super) fn is_done() -> Result<bool> {
    Ok(is_built()? && iproute()?.is_dir())
}

fn is_built() -> Result<bool> {
    Ok(path()?.join("net/mptcp/pm_nl_ctl").is_file())
}

pub(super) fn bring() -> Result<()> {
    let backports = format!("{}-backports", own_suite()?);
    let apt = Apt::open(&[SUITE, &backports])?;
    bring_iproute(&apt, &backports)?;
    if is_built()? {
        return Ok(());
    }
    let Some(package) = newest(apt.names("linux-source-")?) else {
        bail!("{SUITE} has no linux-source: the tests come from there");
    };
    let root = root()?;
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing the old {}", root.display()))?;
    }
    println!("selftests: unpacking Debian's {package} into {} (170 MB)", root.display());
    apt.unpack(std::slice::from_ref(&package), &root)?;
    unpack_parts(&root, &package)?;
    println!("selftests: building");
    build(&root.join("linux"))
}

/// The package with the highest version in its name, as in `linux-source-7.3`.
fn newest(names: Vec<String>) -> Option<String> {
    fn version(name: &str) -> Option<Vec<u32>> {
        name.strip_prefix("linux-source-")?.split('.').map(|number| number.parse().ok()).collect()
    }
    names.into_iter().filter(|name| version(name).is_some()).max_by_key(|name| version(name))
}

/// Only what is needed, out of an archive of which the rest is sixty times as large.
fn unpack_parts(root: &Path, package: &str) -> Result<()> {
    let archive = root.join(format!("usr/src/{package}.tar.xz"));
    let linux = root.join("linux");
    fs::create_dir_all(&linux).with_context(|| format!("creating {}", linux.display()))?;
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&linux)
        .arg("--strip-components=1");
    process::output(tar.args(PARTS.map(|part| format!("{package}/{part}"))))?;
    fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))
}

/// Where the backports have none, the machine's own has to do; an empty folder says so.
fn bring_iproute(apt: &Apt, suite: &str) -> Result<()> {
    let into = iproute()?;
    if into.is_dir() {
        return Ok(());
    }
    if let Err(error) = apt.unpack(&[format!("iproute2/{suite}")], &into) {
        println!("selftests: no newer iproute2: {error:#}");
        fs::create_dir_all(&into).with_context(|| format!("creating {}", into.display()))?;
    }
    Ok(())
}

fn build(linux: &Path) -> Result<()> {
    let make = |dir: &Path, target: &str| {
        let mut make = Command::new("make");
        make.args(["--silent", "--directory"]).arg(dir).arg(target);
        process::output(&mut make).map(drop)
    };
    make(linux, "headers")?;
    make(&linux.join("tools/testing/selftests/net/mptcp"), "all")
}

fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join("selftests"))
}

fn iproute() -> Result<PathBuf> {
    Ok(paths::cache()?.join("iproute2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_source_is_told_from_what_is_none() {
        let names = ["linux-source-6.12", "linux-source-7.3", "linux-source-6.9", "linux-source-7.3-rt"];
        assert_eq!(newest(names.map(str::to_owned).to_vec()).as_deref(), Some("linux-source-7.3"));
        assert_eq!(newest(Vec::new()), None);
    }
}
