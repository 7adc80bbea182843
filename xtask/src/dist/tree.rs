//! A small system of Debian or Ubuntu in a folder, to install packages in; this machine's own is not touched.
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::dist;
use crate::process;
use crate::setup::{apt, sources::Source};

/// What a package like ours finds on every machine, and what the checks use. Without kmod, which the kernel's packages
/// bring, systemd fails to load modules (`systemd-modules-load` of Debian 13).
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,kmod";

/// A release that the package is tried on.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Whose it is.
    pub vendor: Vendor,
    /// Its suite.
    pub suite: &'static str,
}

/// Whose release it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.vendor, self.suite)
    }
}

impl Release {
    /// Its packages, on this machine's mirror.
    fn source(self) -> Result<Source> {
        match self.vendor {
            Vendor::Debian => apt::source_of(self.suite),
            Vendor::Ubuntu => apt::ubuntu_source_of(self.suite),
        }
    }
}

/// Makes the folders that the kernel and each boot fill, and goes into the tree.
const ENTER: &str = "root=$1; shift; mount -t proc proc \"$root/proc\" && mount -t tmpfs tmpfs \"$root/run\" && \
                     exec chroot \"$root\" \"$@\"";

/// Nothing is started in a tree (invoke-rc.d(8)).
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// A fresh tree; dropping it removes it.
pub struct Tree(PathBuf);

impl Tree {
    /// Unpacks a release that [`packed`] has brought.
    pub fn unpack(release: Release, packed: &Path) -> Result<Self> {
        let tree = Self(dist().join("trees").join(release.suite));
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

/// The packed tree of a release, brought from this machine's mirror where it is not cached.
pub fn packed(release: Release) -> Result<PathBuf> {
    let suite = release.suite;
    let folder = dist().join("trees");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    // Another choice of packages is another tree.
    let file = folder.join(format!("{suite}-{}.tar", PACKAGES.replace(',', "-")));
    if !file.is_file() {
        println!("{release}: bringing a tree");
        let fresh = folder.join(format!("{suite}.part.tar"));
        let source = release.source()?;
        let sources = folder.join(format!("{suite}.{}", source.format));
        fs::write(&sources, source.text).with_context(|| format!("writing {}", sources.display()))?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), suite]);
        // Ubuntu's keys are in a folder of root's, which apt's own user may not enter.
        command.arg("--aptopt=APT::Sandbox::User \"root\"");
        process::output(command.arg(&fresh).arg(&sources))?;
        fs::rename(&fresh, &file).with_context(|| format!("renaming {}", fresh.display()))?;
    }
    Ok(file)
}
