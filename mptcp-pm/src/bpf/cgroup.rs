//! Finds the root cgroup, whose programs see every socket of the machine; it is not always at `/sys/fs/cgroup`. Finds
//! cgroups by their ids.
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::PathBuf};

use super::{Error, sys};

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Where the root of the cgroup2 hierarchy is mounted.
///
/// # Errors
/// When the mount table cannot be read or has no cgroup2.
pub fn root() -> Result<PathBuf, Error> {
    let table = fs::read(MOUNTINFO).map_err(|source| Error::Read { file: MOUNTINFO.into(), source })?;
    table.split(|&byte| byte == b'\n').find_map(mounted_root).ok_or(Error::NoCgroup)
}

/// As many paths are kept; an id never means another cgroup.
const MOST_KNOWN: usize = 4096;

/// The paths of cgroups by their ids.
pub struct Names {
    root: PathBuf,
    mount: File,
    known: HashMap<u64, String>,
}

impl Names {
    /// Those of the hierarchy that is mounted here.
    ///
    /// # Errors
    /// Those of [`root`], and when it cannot be opened.
    pub fn open() -> Result<Self, Error> {
        let root = root()?;
        let mount = File::open(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
        Ok(Self { root, mount, known: HashMap::new() })
    }

    /// The path from the root of the hierarchy; none for a cgroup that is gone.
    pub fn path(&mut self, id: u64) -> Option<String> {
        if let Some(path) = self.known.get(&id) {
            return Some(path.clone());
        }
        let path = self.find(id)?;
        if self.known.len() == MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, path.clone());
        Some(path)
    }

    /// Forgets those that were found, of which some may be gone.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn find(&self, id: u64) -> Option<String> {
        let cgroup = sys::open_cgroup(self.mount.as_fd(), id).ok()?;
        let place = fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd())).ok()?;
        let path = place.strip_prefix(&self.root).ok()?.to_string_lossy();
        // What was removed since it was opened has no path of its own any more.
        fs::exists(&place).ok()?.then(|| format!("/{path}"))
    }
}

/// The mount point of one line, when that is a cgroup2 hierarchy mounted from its root. See proc_pid_mountinfo(5):
/// `41 31 0:38 ROOT MOUNT_POINT options [fields …] - TYPE source options`.
fn mounted_root(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|&byte| byte == b' ').skip(3);
    let (root, mount_point) = (words.next()?, words.next()?);
    let file_system = words.skip_while(|&word| word != b"-").nth(1)?;
    (root == b"/" && file_system == b"cgroup2")
        .then(|| PathBuf::from(OsString::from_vec(unescaped(mount_point))))
}

/// The kernel writes blanks, line ends and backslashes as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        use std::os::unix::fs::MetadataExt;
        let mut names = Names::open().expect("a cgroup2 hierarchy, and root");
        let id = |path: &Path| fs::metadata(path).expect("is there").ino();
        assert_eq!(names.path(id(&names.root)).as_deref(), Some("/"));
        let folder = names.root.join(format!("mptcp-pm-test-{}", std::process::id()));
        fs::create_dir(&folder).expect("makes a cgroup");
        let inside = id(&folder);
        let name = folder.file_name().and_then(|name| name.to_str()).expect("is text");
        assert_eq!(names.path(inside), Some(format!("/{name}")));
        fs::remove_dir(&folder).expect("removes it");
        assert_eq!(Names::open().expect("as before").path(inside), None);
    }

    #[test]
    fn the_root_is_where_the_whole_hierarchy_is_mounted() {
        let hybrid = b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(mounted_root(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let shared =
            b"30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mounted_root(shared).as_deref(), Some(Path::new("/sys/fs/cgroup")));
        let blank = b"30 23 0:26 / /mnt/a\\040b\\134 rw - cgroup2 none rw";
        assert_eq!(mounted_root(blank).as_deref(), Some(Path::new("/mnt/a b\\")));
    }

    #[test]
    fn other_mounts_are_not_it() {
        assert_eq!(mounted_root(b"30 23 0:26 /part /mnt rw - cgroup2 cgroup2 rw"), None);
        assert_eq!(mounted_root(b"32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(mounted_root(b"32 31 0:29 / /cgroup2 rw - tmpfs cgroup2 rw"), None);
        assert_eq!(mounted_root(b""), None);
    }
}
