//! A Debian tree that is booted: its own systemd runs in namespaces and a cgroup of its own, and takes the package's unit
//! as it is shipped.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tree::Tree;
use crate::process;

const BOOT: &str = include_str!("boot.sh");
const TRIAL: &str = include_str!("trial.sh");

/// For a boot, and for the end of its processes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Boots a tree, and goes through what happens to an installed package with a connection.
pub fn go_through(tree: &Tree, package: &Path, old: &Path) -> Result<()> {
    let place = |name: &str| tree.path().join("root").join(name);
    for (from, name) in [(package, "new.deb"), (old, "old.deb")] {
        fs::copy(from, place(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    fs::write(place("trial.sh"), TRIAL).context("writing the trial")?;
    // A boot starts what is installed.
    fs::remove_file(tree.path().join("usr/sbin/policy-rc.d")).context("removing policy-rc.d")?;
    let machine = Machine::boot(tree)?;
    process::run(&mut machine.command(&["sh", "/root/trial.sh"]))
}

/// A booted tree; dropping it ends all its processes.
struct Machine {
    child: Child,
    first: u32,
    _cgroup: Cgroup,
}

impl Machine {
    fn boot(tree: &Tree) -> Result<Self> {
        let cgroup = Cgroup::make()?;
        let mut command = Command::new("sh");
        // A process enters its cgroup before the namespace of cgroups begins there.
        command
            .args(["-c", "echo $$ > \"$1\" && shift && exec unshare \"$@\"", "sh"])
            .arg(cgroup.0.join("cgroup.procs"));
        command.args(["--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]);
        command.args(["sh", "-c", BOOT, "sh"]).arg(tree.path());
        let child = command.stdin(Stdio::null()).spawn().context("starting unshare")?;
        let mut machine = Self { child, first: 0, _cgroup: cgroup };
        machine.await_boot()?;
        Ok(machine)
    }

    fn await_boot(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let unshare = self.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                bail!("the tree does not boot: {status}");
            }
            let first = fs::read_to_string(&children).unwrap_or_default();
            self.first = first.trim().parse().unwrap_or_default();
            // Nothing tells when the first process can be asked.
            sleep(Duration::from_millis(200));
            let asked = process::attempt(&mut self.command(&["systemctl", "is-system-running"]))?;
            if asked.stdout == b"running\n" {
                return Ok(());
            }
        }
        bail!("the tree has not booted within {PATIENCE:?}")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--wdns=/"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process dies with unshare, and all others with the first one.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A cgroup of its own; dropping it removes it and what was made inside.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self> {
        let table = fs::read_to_string("/proc/self/mounts").context("reading the mount table")?;
        let mount = table.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next()? == "cgroup2").then_some(place)
        });
        let mount = mount.context("no cgroup2 is mounted: `mount -t cgroup2 none DIRECTORY`")?;
        let folder = Path::new(mount).join(format!("mptcp-pm-dist-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self(folder))
    }

    fn remove(folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)?.flatten() {
            if entry.file_type()?.is_dir() {
                Self::remove(&entry.path())?;
            }
        }
        Ok(fs::remove_dir(folder)?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        // Processes leave it a moment after they were killed.
        while Self::remove(&self.0).is_err() && Instant::now() < end {
            sleep(Duration::from_millis(100));
        }
    }
}
