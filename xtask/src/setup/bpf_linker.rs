//! bpf-linker, in a folder of its own, so that no other version on the machine gets in its way.
use std::path::PathBuf;

use anyhow::Result;

use crate::{paths, process};

/// The last version that works with the LLVM inside the toolchain; later ones want one of the system.
const VERSION: &str = "0.10.3";

/// The linker's file, there or not.
pub fn path() -> Result<PathBuf> {
    Ok(root()?.join("bin/bpf-linker"))
}

pub(super) fn is_done() -> Result<bool> {
    Ok(path()?.is_file())
}

pub(super) fn bring() -> Result<()> {
    let root = root()?;
    println!("bpf-linker: building {VERSION} into {} (about a minute)", root.display());
    let crate_version = format!("bpf-linker@{VERSION}");
    process::run(
        process::cargo().args(["install", "--quiet", "--locked", &crate_version, "--root"]).arg(root),
    )
}

fn root() -> Result<PathBuf> {
    Ok(paths::cache()?.join(format!("bpf-linker-{VERSION}")))
}
