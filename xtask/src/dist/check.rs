//! Tries the package out: lintian's opinion, and in a tree of each Debian and Ubuntu that it is for an installation, an
//! upgrade, a removal and a purge, after which all is as before.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::boot;
use super::tree::{self, Release, Tree, Vendor};
use crate::process;

/// Debian 12 and 13, Ubuntu 22.04 and 24.04.
const RELEASES: [Release; 4] = [
    Release { vendor: Vendor::Debian, suite: "bookworm" },
    Release { vendor: Vendor::Debian, suite: "trixie" },
    Release { vendor: Vendor::Ubuntu, suite: "jammy" },
    Release { vendor: Vendor::Ubuntu, suite: "noble" },
];

/// What is upgraded from: the same files under another version.
pub const OLD_VERSION: &str = "0.0.9-1";

const CONFIG: &str = "etc/mptcp-pm/mptcp-pm.toml";
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/mptcp-pm.service";

/// All checks of a package, with another one to upgrade from.
pub fn all(package: &Path, old: &Path) -> Result<()> {
    lintian(package)?;
    for release in RELEASES {
        let packed = match tree::packed(release) {
            // Not every mirror of Debian's has it.
            Err(error) if release.vendor == Vendor::Ubuntu => {
                println!("{release}: not tried: {error:#}");
                continue;
            }
            packed => packed?,
        };
        Installation { tree: Tree::unpack(release, &packed)? }
            .go_through(package, old)
            .with_context(|| format!("trying {} in {release}", package.display()))?;
        println!("{release}: installed, upgraded, removed, purged; booted:");
        boot::go_through(&Tree::unpack(release, &packed)?, package, old)
            .with_context(|| format!("trying {} in a booted {release}", package.display()))?;
    }
    Ok(())
}

fn lintian(package: &Path) -> Result<()> {
    let mut command = Command::new("lintian");
    let said = process::attempt(
        command.args(["--fail-on", "error,warning", "--tag-display-limit", "0"]).arg(package),
    )?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(said.status.success() && text.trim().is_empty(), "lintian is not quiet:\n{text}");
    println!("lintian: quiet");
    Ok(())
}

struct Installation {
    tree: Tree,
}

impl Installation {
    fn go_through(&self, package: &Path, old: &Path) -> Result<()> {
        let before = self.files()?;
        self.install(old)?;
        self.works()?;
        // What the owner has written stays.
        let own = "profile = \"heavy\"\n";
        fs::write(self.path(CONFIG), own)?;
        self.install(package)?;
        ensure!(fs::read_to_string(self.path(CONFIG))? == own, "the upgrade has changed {CONFIG}");
        self.works()?;
        self.run(&["dpkg", "--remove", "mptcp-pm"])?;
        ensure!(!self.path("usr/bin/mptcp-pm").exists(), "the removal leaves the program");
        ensure!(self.path(CONFIG).exists(), "the removal takes {CONFIG} with it");
        self.run(&["dpkg", "--purge", "mptcp-pm"])?;
        let after = self.files()?;
        let left: Vec<_> = after.difference(&before).collect();
        let lost: Vec<_> = before.difference(&after).collect();
        ensure!(left.is_empty() && lost.is_empty(), "the purge leaves {left:?} and takes {lost:?} with it");
        Ok(())
    }

    fn install(&self, package: &Path) -> Result<()> {
        let place = self.path("tmp/mptcp-pm.deb");
        fs::copy(package, &place).with_context(|| format!("copying {}", package.display()))?;
        let said = self.run(&["dpkg", "--install", "--force-confold", "/tmp/mptcp-pm.deb"])?;
        ensure!(!said.contains("warning"), "dpkg warns:\n{said}");
        fs::remove_file(&place).with_context(|| format!("removing {}", place.display()))
    }

    /// The program runs, and everything is in its place.
    fn works(&self) -> Result<()> {
        self.run(&["mptcp-pm", "config", "check", "/etc/mptcp-pm/mptcp-pm.toml"])?;
        self.run(&["getent", "passwd", "mptcp-pm"])?;
        self.run(&["systemd-analyze", "verify", "--man=no", "mptcp-pm.service"])?;
        ensure!(self.path(ENABLED).is_symlink(), "{ENABLED} is not there: a boot would not start the daemon");
        ensure!(self.path("usr/share/man/man1/mptcp-pm.1.gz").is_file(), "there is no man page");
        // It is not started here, and there is no way to anywhere: both are said, with what to do about it.
        let doctor = process::attempt(&mut self.tree.command(&["mptcp-pm", "doctor"]))?;
        let text = String::from_utf8_lossy(&doctor.stdout);
        let told = text.contains("remedy: systemctl start mptcp-pm")
            && text.contains("no interface leads to the Internet");
        ensure!(doctor.status.code() == Some(1) && told, "the doctor says\n{text}");
        Ok(())
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let out = process::attempt(&mut self.tree.command(words))?;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        if !out.status.success() {
            bail!("`{}` failed: {}\n{said}", words.join(" "), out.status);
        }
        Ok(said)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.tree.path().join(name)
    }

    /// The names of all files, but for logs and what dpkg keeps of every package that ever was.
    fn files(&self) -> Result<BTreeSet<String>> {
        const NOT_OURS: [&str; 4] = ["./var/lib/dpkg/", "./var/log/", "./var/cache/", "./proc/"];
        let mut find = Command::new("find");
        let text = process::output(find.args([".", "-xdev"]).current_dir(self.tree.path()))?;
        let ours = |name: &&str| !NOT_OURS.iter().any(|folder| name.starts_with(folder));
        Ok(text.lines().filter(ours).map(str::to_owned).collect())
    }
}
