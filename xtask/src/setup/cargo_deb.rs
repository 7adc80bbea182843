//! cargo-deb, which makes the Debian package, in a folder of its own.
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{paths, process};

/// Needs Rust 1.85.
const VERSION: &str = "3.8.0";

/// The file of the program, there or not.
pub fn path() -> Result<PathBuf> {
    Ok(root()?.join("bin/cargo-deb"))
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    let root = root()?;
    println!("cargo-deb: building {VERSION} into {} (some minutes)", root.display());
    let crate_version = format!("cargo-deb@{VERSION}");
    process::run(
        process::cargo().args(["install", "--quiet", "--locked", &crate_version, "--root"]).arg(root),
    )
    .context("cargo-deb comes from crates.io: is that to be reached?")
}

fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join(format!("cargo-deb-{VERSION}")))
}
