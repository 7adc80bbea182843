//! A Debian tree that is booted: its own systemd runs in namespaces and a cgroup of its own, and takes the package's unit
//! as it is shipped.
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::tree::Tree;
use crate::process;

const BOOT: &str = include_str!("boot.sh");
const ACCESSES: &str = include_str!("accesses.sh");
const TRIAL: &str = include_str!("trial.sh");
const NEXT_BOOT: &str = include_str!("next-boot.sh");

/// For a boot, which takes a second on an idle machine, and for the end of its processes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Says what systemd does and has done.
const REPORT: &str = "systemctl list-jobs; systemctl --failed; journalctl --no-pager --lines 60";

/// Boots a tree, and goes through what happens to an installed package with a connection.
pub fn go_through(tree: &Tree, package: &Path, old: &Path) -> Result<()> {
    let place = |name: &str| tree.path().join("root").join(name);
    for (from, name) in [(package, "new.deb"), (old, "old.deb")] {
        fs::copy(from, place(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    for (text, name) in [(ACCESSES, "accesses.sh"), (TRIAL, "trial.sh"), (NEXT_BOOT, "next-boot.sh")] {
        fs::write(place(name), text).with_context(|| format!("writing {name}"))?;
    }
    // A boot starts what is installed.
    fs::remove_file(tree.path().join("usr/sbin/policy-rc.d")).context("removing policy-rc.d")?;
    let machine = Machine::boot(tree)?;
    process::run(&mut machine.command(&["sh", "/root/trial.sh"]))?;
    process::output(&mut machine.command(&["dpkg", "--install", "/root/new.deb"]))?;
    drop(machine);
    process::run(&mut Machine::boot(tree)?.command(&["sh", "/root/next-boot.sh"]))
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
        let socket = tree.path().join("booted");
        if socket.exists() {
            fs::remove_file(&socket).with_context(|| format!("removing {}", socket.display()))?;
        }
        let booted = UnixDatagram::bind(&socket).with_context(|| format!("making {}", socket.display()))?;
        command.args(["sh", "-c", BOOT, "sh"]).arg(tree.path()).arg(&socket);
        let child = command.stdin(Stdio::null()).spawn().context("starting unshare")?;
        let mut machine = Self { child, first: 0, _cgroup: cgroup };
        machine.await_boot(&booted)?;
        Ok(machine)
    }

    /// Waits until systemd says that all is started (sd_notify(3)), and asks how that went.
    fn await_boot(&mut self, booted: &UnixDatagram) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        // Whether the process has ended is looked at that often.
        booted.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut text = [0; 4096];
        let is_ready = |text: &[u8]| String::from_utf8_lossy(text).lines().any(|line| line == "READY=1");
        while !booted.recv(&mut text).is_ok_and(|length| is_ready(&text[..length])) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the tree does not boot: {status}");
            }
            ensure!(Instant::now() < end, "the tree has not booted within {PATIENCE:?}:\n{}", self.report()?);
        }
        self.find_first()?;
        let asked = process::attempt(&mut self.command(&["systemctl", "is-system-running"]))?;
        ensure!(asked.stdout == b"running\n", "something does not start in the tree:\n{}", self.report()?);
        Ok(())
    }

    /// The process that is the first one of its namespace.
    fn find_first(&mut self) -> Result<()> {
        let unshare = self.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let first = fs::read_to_string(&children).with_context(|| format!("reading {children}"))?;
        self.first = first.trim().parse().with_context(|| format!("reading {first:?} of {children}"))?;
        Ok(())
    }

    fn report(&mut self) -> Result<String> {
        self.find_first()?;
        let said = process::attempt(&mut self.command(&["sh", "-c", REPORT]))?;
        Ok(String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
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
