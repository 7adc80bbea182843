//! What people install: a Debian package and a tarball, in `target/dist`.
mod boot;
mod check;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{
    build, paths, process,
    setup::{self, cargo_deb, ensure},
};

/// What is made, and whether it is tried out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Not optimized, to try the package out.
    pub dev: bool,
    /// Installs, upgrades, removes and purges it in Debian trees, and has lintian look at it.
    pub check: bool,
}

/// Builds, packs, and says where things are.
pub fn run(options: Options) -> Result<()> {
    ensure(setup::DIST)?;
    build::all(!options.dev)?;
    generate(&program(options.dev))?;
    let package = pack(options.dev, None)?;
    let tarball = tarball(&package)?;
    println!("{}\n{}", package.display(), tarball.display());
    if options.check { check::all(&package, &pack(options.dev, Some(check::OLD_VERSION))?) } else { Ok(()) }
}

fn dist() -> PathBuf {
    paths::target().join("dist")
}

fn program(dev: bool) -> PathBuf {
    paths::target().join(if dev { "debug" } else { "release" }).join("mptcp-pm")
}

/// What the program itself writes: man pages and completions, where `assets` in mptcp-pm/Cargo.toml looks for them.
fn generate(program: &Path) -> Result<()> {
    let folder = paths::workspace().join("target/dist/generated");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    process::output(Command::new(program).args(["man", "--dir"]).arg(folder.join("man")))?;
    for shell in ["bash", "zsh", "fish"] {
        let script = process::output(Command::new(program).args(["completions", shell]))?;
        let file = folder.join(format!("mptcp-pm.{shell}"));
        fs::write(&file, script).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Makes the package, of another version where one is named, and returns its file.
fn pack(dev: bool, version: Option<&str>) -> Result<PathBuf> {
    let folder = dist().join(if version.is_some() { "old" } else { "deb" });
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut command = Command::new(cargo_deb::path()?);
    command.current_dir(paths::workspace());
    command.args(["--quiet", "--no-build", "--no-dbgsym", "--package", "mptcp-pm", "--output"]).arg(&folder);
    if dev {
        command.args(["--fast", "--profile", "dev"]);
    }
    if let Some(version) = version {
        command.args(["--deb-version", version]);
    }
    process::output(&mut command)?;
    let files = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut packages = files.flatten().map(|entry| entry.path());
    match (packages.next(), packages.next()) {
        (Some(package), None) => Ok(package),
        _ => bail!("cargo-deb has not made one file in {}", folder.display()),
    }
}

/// The same files as in the package, for systems without dpkg: in one folder, as they lie below `/`.
fn tarball(package: &Path) -> Result<PathBuf> {
    let name = format!("mptcp-pm-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let root = dist().join(&name);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root))?;
    let file = dist().join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--sort=name", "-czf"]).arg(&file).arg("-C").arg(dist()).arg(&name);
    process::output(&mut tar)?;
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    Ok(file)
}
