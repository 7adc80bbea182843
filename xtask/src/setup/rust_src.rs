//! rust-src, which must be that of the compiler: by rustup, or out of Debian's package where rustup cannot bring it.
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use crate::{paths, process};

/// The Debian suite whose rust-src is that of the pinned compiler.
const SUITE: &str = "trixie-backports";

pub(super) fn is_done() -> Result<bool> {
    Ok(home(&sysroot()?).join("library/core/src/lib.rs").is_file())
}

pub(super) fn bring() -> Result<()> {
    let sysroot = sysroot()?;
    match by_rustup() {
        Ok(()) if is_done()? => return Ok(()),
        Ok(()) => println!("rust-src: rustup reports success, but the source is not there"),
        Err(error) => println!("rust-src: rustup cannot bring it: {error:#}"),
    }
    by_debian(&sysroot)
}

fn by_rustup() -> Result<()> {
    println!("rust-src: rustup component add rust-src");
    process::output(rustup().args(["component", "add", "rust-src"])).map(drop)
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    command.current_dir(paths::workspace());
    command
}

/// Unpacks Debian's package, without installing it, and links the toolchain to it.
fn by_debian(sysroot: &Path) -> Result<()> {
    if sysroot == Path::new("/usr") {
        bail!(
            "this compiler is the system's: install the rust-src of the same version with the system's package manager"
        );
    }
    let release = release()?;
    let unpacked = paths::cache()?.join(format!("rust-src-{release}"));
    let source = unpacked.join(format!("usr/src/rustc-{release}"));
    if !source.is_dir() {
        download(&release, &unpacked)?;
    }
    if !source.join("library/core/src/lib.rs").is_file() {
        bail!("Debian's rust-src {release} has no {}", source.display());
    }
    link(&source, &home(sysroot))
}

fn download(release: &str, into: &Path) -> Result<()> {
    let apt = Apt::open(&[SUITE])?;
    let versions = apt.versions("rust-src")?;
    let Some(version) = versions.iter().find(|version| is_of(version, release)) else {
        bail!(
            "{SUITE} offers no rust-src {release} (but {}): let rustup bring it, on a machine where it can: \
             `rustup component add rust-src`",
            if versions.is_empty() { "none at all".to_owned() } else { versions.join(", ") }
        );
    };
    println!("rust-src: unpacking Debian's {version} into {}", into.display());
    apt.unpack(&[format!("rust-src={version}")], into)
}

/// Whether a Debian version, such as `1.95.0+dfsg1-2~bpo13+1`, is that of an upstream release.
fn is_of(debian_version: &str, release: &str) -> bool {
    debian_version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

fn link(source: &Path, home: &Path) -> Result<()> {
    let parent = home.parent().context("the toolchain's source folder has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    if home.is_symlink() {
        fs::remove_file(home).with_context(|| format!("removing the old link {}", home.display()))?;
    }
    println!("rust-src: linking {} to it", home.display());
    symlink(source, home).with_context(|| format!("linking {} to {}", home.display(), source.display()))
}

/// Where the compiler expects the source.
fn home(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib/src/rust")
}

fn sysroot() -> Result<PathBuf> {
    let out = process::output(rustc().args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(out.trim()))
}

/// The compiler's version, such as `1.95.0`.
fn release() -> Result<String> {
    let out = process::output(rustc().arg("-vV"))?;
    let release = out.lines().find_map(|line| line.strip_prefix("release: "));
    Ok(release.context("`rustc -vV` names no release")?.to_owned())
}

fn rustc() -> Command {
    let mut command = Command::new("rustc");
    command.current_dir(paths::workspace());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_compilers_own_version_will_do() {
        assert!(is_of("1.95.0+dfsg1-2~bpo13+1", "1.95.0"));
        assert!(is_of("1.95.0-1", "1.95.0"));
        assert!(!is_of("1.95.01+dfsg1-1", "1.95.0"));
        assert!(!is_of("1.94.0+dfsg1-2", "1.95.0"));
    }

    #[test]
    fn a_stale_link_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (source, home) = (dir.path().join("new"), dir.path().join("src/rust"));
        fs::create_dir_all(&source).unwrap();
        fs::create_dir_all(home.parent().unwrap()).unwrap();
        symlink(dir.path().join("gone"), &home).unwrap();
        link(&source, &home).unwrap();
        assert_eq!(fs::read_link(&home).unwrap(), source);
    }
}
