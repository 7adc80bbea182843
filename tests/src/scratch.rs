//! Scratch folders that vanish with the lab, or at the next lab's start when this process was killed.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

const PREFIX: &str = "mptcp-pm-lab";
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder of this process alone, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes `mptcp-pm-lab.PID.N` in [`parent`], after removing those of processes that are gone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        purge(&parent(), is_gone);
        let name = format!("{PREFIX}.{}.{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent().join(name);
        fs::create_dir(&path).with_context(|| format!("make the scratch folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// A folder for one host.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).with_context(|| format!("make the scratch folder {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is recognised by the next lab.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Where scratch folders are: in memory, as `/run` is where a daemon is installed; a disk would be slower.
pub fn parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { env::temp_dir() }
}

/// Removes all scratch folders of this process, which is about to end without dropping them.
pub fn remove_all() {
    purge(&parent(), |pid| pid == process::id());
}

/// Removes the folders of the processes that are meant. Another lab may do the same at the same time.
fn purge(parent: &Path, is_meant: impl Fn(u32) -> bool) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| owner(path).is_some_and(&is_meant)) {
        drop(fs::remove_dir_all(path));
    }
}

fn owner(path: &Path) -> Option<u32> {
    let (pid, number) =
        path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_prefix('.')?.split_once('.')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_those_of_the_living_stay() {
        let parent = Scratch::new().unwrap();
        let mut child = process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let [dead, alive] =
            [child.id(), process::id()].map(|pid| parent.folder(&format!("{PREFIX}.{pid}.0")));
        let other = parent.folder("mptcp-pm-lab.1x.0").unwrap();
        purge(&parent.0, is_gone);
        assert!(!dead.unwrap().exists() && alive.unwrap().exists() && other.exists());
    }
}
