//! What a unit's processes see of the file system.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Unit;

const NOTHING: Option<&str> = None;

/// What `ProtectSystem=strict` leaves as it is (systemd.exec(5)).
const API: [&str; 3] = ["/proc", "/sys", "/dev"];

pub(super) fn enter(unit: &Unit) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    let writable: Vec<&Path> = unit.words("ReadWritePaths").map(Path::new).collect();
    for path in &writable {
        bind(path, path)?;
    }
    let cgroups = unit.is_on("ProtectControlGroups").then_some("/sys/fs/cgroup");
    for path in unit.words("ReadOnlyPaths").chain(cgroups).map(Path::new) {
        bind(path, path)?;
        read_only(|mounted| {
            mounted.starts_with(path) && !writable.iter().any(|kept| mounted.starts_with(kept))
        })?;
    }
    match unit.one("ProtectSystem") {
        Some("strict") => {
            let api = |mounted: &Path| API.iter().any(|api| mounted.starts_with(api));
            read_only(|mounted| !api(mounted) && !writable.iter().any(|kept| mounted.starts_with(kept)))?;
        }
        other => ensure!(other.is_none(), "ProtectSystem={other:?} is not understood here"),
    }
    for path in ["/home", "/root", "/run/user"].iter().filter(|_| unit.is_on("ProtectHome")) {
        hide(Path::new(path), "mode=000,ro")?;
    }
    if unit.is_on("PrivateTmp") {
        hide(Path::new("/tmp"), "mode=1777")?;
        hide(Path::new("/var/tmp"), "mode=1777")?;
    }
    if unit.is_on("PrivateDevices") {
        devices()?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

/// Puts an empty folder in the place of one, where there is one.
fn hide(path: &Path, options: &str) -> Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options))
        .with_context(|| format!("hide {}", path.display()))
}

/// Makes mounts read-only for this namespace.
fn read_only(is_meant: impl Fn(&Path) -> bool) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mount table")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    for point in points.filter(|point| is_meant(point)) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        match mount(NOTHING, &point, NOTHING, flags, NOTHING) {
            // It lies below another mount and cannot be reached anyway.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
            Err(errno) => Err(errno).with_context(|| format!("make {} read-only", point.display()))?,
        }
    }
    Ok(())
}

/// A `/dev` with what every program expects, and the folder of shared memory.
fn devices() -> Result<()> {
    let fresh = Path::new("/tmp/dev");
    fs::create_dir(fresh)?;
    mount(Some("tmpfs"), fresh, Some("tmpfs"), MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID, Some("mode=755"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        File::create(fresh.join(name))?;
        bind(&Path::new("/dev").join(name), &fresh.join(name))?;
    }
    fs::create_dir(fresh.join("shm"))?;
    bind(Path::new("/dev/shm"), &fresh.join("shm"))?;
    bind(fresh, Path::new("/dev"))
}
