//! Cgroups of the test's own, in the hierarchy that is mounted here.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::daemon::await_that;

/// A cgroup, removed when dropped, with what is inside of it.
pub struct Cgroup {
    folder: PathBuf,
    path: String,
}

impl Cgroup {
    /// Makes one of its own name at the root of the hierarchy.
    ///
    /// # Errors
    /// Where no cgroup2 is mounted, or nobody may make one.
    pub fn make() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = fs::read_to_string("/proc/self/mounts")?;
        let mount = table.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next()? == "cgroup2").then_some(place)
        });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mptcp-pm-test-{}-{number}", std::process::id());
        Self::at(Path::new(mount.context("find a cgroup2 hierarchy")?), "", &name)
    }

    /// Makes one inside of it.
    ///
    /// # Errors
    /// Where nobody may.
    pub fn inside(&self, name: &str) -> Result<Self> {
        Self::at(&self.folder, &self.path, name)
    }

    fn at(folder: &Path, path: &str, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("make the cgroup {}", folder.display()))?;
        Ok(Self { folder, path: format!("{path}/{name}") })
    }

    /// Its path from the root of the hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes leave it when they have ended, a moment after they were waited for.
        let left = || Ok(remove(&self.folder));
        drop(await_that("an empty cgroup", left, |gone| *gone));
    }
}

/// The kernel removes a cgroup only when it is empty.
fn remove(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}
