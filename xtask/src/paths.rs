//! Where things lie: the workspace, its build products, the cache that outlives `cargo clean`.
use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo's build folder, wherever the developer has put it.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The eBPF objects, one file per object; `mptcp-pm/build.rs` looks here.
pub fn objects() -> PathBuf {
    workspace().join("target/ebpf")
}

/// What set-up brought. Outside of `target/`, because it takes minutes to bring and never changes.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env::var_os("HOME").context("finding the cache folder: HOME is not set")?)
            .join(".cache"),
    };
    Ok(base.join("mptcp-pm"))
}

/// The file of a command as the shell would find it; the sbin folders count even when PATH lacks them.
pub fn command(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|file| file.is_file())
}
