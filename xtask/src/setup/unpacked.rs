//! Debian's packages unpacked into the cache, never installed, because an installation starts services and changes the
//! machine; and a script for each program in them, by which it is started.
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use crate::{paths, process};

/// The script that starts a program; the process keeps its id.
pub fn script(name: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("bin").join(name))
}

/// Which packages are unpacked.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// The named ones and those of their dependencies that this machine lacks.
    WithDependencies,
    /// The named ones alone.
    Alone,
}

/// Unpacks packages into a folder of the cache, in place of what is there, and returns its path.
pub(super) fn unpack(name: &str, packages: &[&str], which: Which) -> Result<PathBuf> {
    let apt = Apt::open(&[])?;
    let packages = match which {
        Which::WithDependencies => {
            apt.with_missing_dependencies(packages).with_context(|| format!("asking apt for {name}"))?
        }
        Which::Alone => packages.iter().map(|&package| package.to_owned()).collect(),
    };
    let root = paths::cache()?.join(name);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing the old {}", root.display()))?;
    }
    println!("{name}: unpacking {} into {}", packages.join(", "), root.display());
    apt.unpack(&packages, &root)?;
    Ok(root)
}

/// What the start of an unpacked program needs to be told.
pub(super) struct Script<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// The unpacked program.
    pub(super) program: PathBuf,
    /// Where its libraries are that came with it.
    pub(super) libraries: &'a [PathBuf],
    /// Its first arguments.
    pub(super) arguments: Vec<String>,
}

impl Script<'_> {
    /// Checks that the program can start, and writes the script.
    pub(super) fn make(&self) -> Result<()> {
        self.check()?;
        self.write(&script(self.name)?)
    }

    /// Fails when a library is missing, which ldd says without starting anything.
    fn check(&self) -> Result<()> {
        let mut ldd = Command::new("ldd");
        ldd.arg(&self.program);
        if !self.libraries.is_empty() {
            ldd.env("LD_LIBRARY_PATH", self.library_path());
        }
        match process::output(&mut ldd)?.lines().find(|line| line.contains("not found")) {
            Some(line) => bail!("the unpacked {} lacks a library: {}", self.name, line.trim()),
            None => Ok(()),
        }
    }

    fn library_path(&self) -> String {
        let paths: Vec<String> = self.libraries.iter().map(|path| path.display().to_string()).collect();
        paths.join(":")
    }

    fn write(&self, file: &Path) -> Result<()> {
        let libraries = match self.library_path() {
            path if path.is_empty() => path,
            path => format!("LD_LIBRARY_PATH='{path}' "),
        };
        let arguments: String = self.arguments.iter().map(|argument| format!("'{argument}' ")).collect();
        let text = format!(
            "#!/bin/sh\n# Starts Debian's {} where `cargo xtask setup` has unpacked it.\n\
             {}exec '{}' {arguments}\"$@\"\n",
            self.name,
            libraries,
            self.program.display()
        );
        let dir = file.parent().context("the script's path has no folder")?;
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(file, executable).with_context(|| format!("making {} executable", file.display()))
    }
}
