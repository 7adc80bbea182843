//! mptcpd, the daemon that benchmarks compare with: Debian's, unpacked, never installed, because its installation
//! starts a service that would change this machine's own endpoints.
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use crate::{paths, process};

/// A script that starts the unpacked mptcpd with its own libraries and plugins; the process keeps its id.
pub fn path() -> Result<PathBuf> {
    Ok(paths::cache()?.join("bin/mptcpd"))
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    let apt = Apt::open(None)?;
    let packages =
        apt.with_missing_dependencies(&["mptcpd", "mptcpd-plugins"]).context("asking apt for mptcpd")?;
    let root = paths::cache()?.join("mptcpd");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing the old {}", root.display()))?;
    }
    println!("mptcpd: unpacking {} into {}", packages.join(", "), root.display());
    apt.unpack(&packages, &root)?;
    let script = Script::of(&root)?;
    script.check()?;
    script.write(&path()?)
}

/// What the start of an unpacked mptcpd needs to be told.
struct Script {
    program: PathBuf,
    libraries: PathBuf,
}

impl Script {
    fn of(root: &Path) -> Result<Self> {
        let program = root.join("usr/libexec/mptcpd");
        let lib = root.join("usr/lib");
        let entries = fs::read_dir(&lib).with_context(|| format!("listing {}", lib.display()))?;
        let with_plugins = |dir: &PathBuf| dir.join("mptcpd").is_dir();
        let libraries = entries.flatten().map(|entry| entry.path()).find(with_plugins);
        Ok(Self {
            program,
            libraries: libraries.context("Debian's mptcpd has no plugin folder where it used to be")?,
        })
    }

    /// Fails when a library is missing, which ldd says without starting anything.
    fn check(&self) -> Result<()> {
        let out =
            process::output(Command::new("ldd").arg(&self.program).env("LD_LIBRARY_PATH", &self.libraries))?;
        match out.lines().find(|line| line.contains("not found")) {
            Some(line) => bail!("the unpacked mptcpd lacks a library: {}", line.trim()),
            None => Ok(()),
        }
    }

    fn write(&self, file: &Path) -> Result<()> {
        let (libraries, program) = (self.libraries.display(), self.program.display());
        let text = format!(
            "#!/bin/sh\n# Starts Debian's mptcpd where `cargo xtask setup` has unpacked it.\n\
             LD_LIBRARY_PATH='{libraries}' exec '{program}' --plugin-dir='{libraries}/mptcpd' \"$@\"\n"
        );
        let dir = file.parent().context("the script's path has no folder")?;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(file, executable).with_context(|| format!("making {} executable", file.display()))
    }
}
