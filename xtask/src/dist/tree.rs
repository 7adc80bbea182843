//! A small Debian system in a folder, to install packages in; this machine's own is not touched.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::dist;
use crate::{process, setup::apt};

/// What a package like ours finds on every machine, and what the checks use.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2";

/// Makes the folders that the kernel and each boot fill, and goes into the tree.
const ENTER: &str = "root=$1; shift; mount -t proc proc \"$root/proc\" && mount -t tmpfs tmpfs \"$root/run\" && \
                     exec chroot \"$root\" \"$@\"";

/// Nothing is started in a tree (invoke-rc.d(8)).
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// A fresh tree; dropping it removes it.
pub struct Tree(PathBuf);

impl Tree {
    /// Unpacks a suite, which is brought first where it is not cached, from this machine's mirror.
    pub fn unpack(suite: &str) -> Result<Self> {
        let packed = packed(suite)?;
        let tree = Self(dist().join("trees").join(suite));
        tree.remove()?;
        fs::create_dir_all(&tree.0).with_context(|| format!("creating {}", tree.0.display()))?;
        process::output(Command::new("tar").arg("-xf").arg(packed).arg("-C").arg(&tree.0))?;
        let policy = tree.0.join("usr/sbin/policy-rc.d");
        fs::write(&policy, POLICY).with_context(|| format!("writing {}", policy.display()))?;
        process::output(Command::new("chmod").arg("755").arg(&policy))?;
        Ok(tree)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A command in it, as the first process of namespaces of its own: what it mounts, starts and configures ends with it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc", "sh", "-c"]);
        command.arg(ENTER);
        command.arg("sh").arg(&self.0).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(self.remove());
    }
}

/// The packed tree of a suite.
fn packed(suite: &str) -> Result<PathBuf> {
    let folder = dist().join("trees");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join(format!("{suite}.tar"));
    if !file.is_file() {
        println!("{suite}: bringing a tree of Debian");
        let fresh = folder.join(format!("{suite}.part.tar"));
        let source = apt::source_of(suite)?;
        let sources = folder.join(format!("{suite}.{}", source.format));
        fs::write(&sources, source.text).with_context(|| format!("writing {}", sources.display()))?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), suite]);
        process::output(command.arg(&fresh).arg(&sources))?;
        fs::rename(&fresh, &file).with_context(|| format!("renaming {}", fresh.display()))?;
    }
    Ok(file)
}
