//! Finds the root cgroup, whose programs see every socket of the machine; it is not always at `/sys/fs/cgroup`. Finds
//! cgroups by their ids.
use std::collections::HashMap;
use std::os::unix::{ffi::OsStringExt, fs::MetadataExt};
use std::path::{Path, PathBuf};
use std::{ffi::OsString, fs};

use super::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Where the root of the cgroup2 hierarchy is mounted.
///
/// # Errors
/// When the mount table cannot be read or has no cgroup2.
pub fn root() -> Result<PathBuf, Error> {
    let table = fs::read(MOUNTINFO).map_err(|source| Error::Read { file: MOUNTINFO.into(), source })?;
    table.split(|&byte| byte == b'\n').find_map(mounted_root).ok_or(Error::NoCgroup)
}

/// All cgroups that there are, by their ids, each before those inside of it; what is removed meanwhile may be missing.
///
/// # Errors
/// Those of [`root`].
pub fn all() -> Result<Vec<(u64, String)>, Error> {
    let root = root()?;
    let mut found = Vec::new();
    look(&root, &root, &mut found);
    Ok(found)
}

/// Finds a cgroup and all that are inside of it.
fn look(root: &Path, folder: &Path, found: &mut Vec<(u64, String)>) {
    if let (Ok(file), Ok(path)) = (fs::metadata(folder), folder.strip_prefix(root)) {
        found.push((file.ino(), format!("/{}", path.to_string_lossy())));
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(root, &entry.path(), found);
        }
    }
}

/// As many paths are kept; an id never means another cgroup.
const MOST_KNOWN: usize = 4096;

/// The paths of cgroups by their ids, which are the numbers of their inodes (fs/kernfs/dir.c). They are looked for where
/// anybody may look: to open one by its id (`open_by_handle_at(2)`) takes CAP_DAC_READ_SEARCH, with which every file
/// of the machine can be read.
pub struct Names {
    root: PathBuf,
    /// None for those that are gone.
    known: HashMap<u64, Option<String>>,
}

impl Names {
    /// Those of the hierarchy that is mounted here.
    ///
    /// # Errors
    /// Those of [`root`], and when it cannot be opened.
    pub fn open() -> Result<Self, Error> {
        let root = root()?;
        fs::read_dir(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
        Ok(Self { root, known: HashMap::new() })
    }

    /// The path from the root of the hierarchy; none for a cgroup that is gone. Costs a look at all cgroups where the
    /// process is not in the one that is meant and this one was not met before.
    pub fn path(&mut self, id: u64, process: Option<u32>) -> Option<String> {
        if let Some(path) = self.known.get(&id) {
            return path.clone();
        }
        self.make_room();
        if let Some(path) = process.and_then(cgroup_of).filter(|path| self.id(path) == Some(id)) {
            self.known.insert(id, Some(path));
        } else {
            self.look_at_all();
        }
        self.known.entry(id).or_default().clone()
    }

    /// The paths of those that are there, with their ids. One look at all cgroups does for any number of them.
    pub fn paths(&mut self, ids: &[u64]) -> Vec<(u64, String)> {
        self.make_room();
        if ids.iter().any(|id| !self.known.contains_key(id)) {
            self.look_at_all();
        }
        ids.iter().filter_map(|id| Some((*id, self.known.entry(*id).or_default().clone()?))).collect()
    }

    fn make_room(&mut self) {
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
    }

    fn look_at_all(&mut self) {
        let mut found = Vec::new();
        look(&self.root, &self.root, &mut found);
        self.known.extend(found.into_iter().map(|(id, path)| (id, Some(path))));
    }

    /// The id of a cgroup.
    fn id(&self, path: &str) -> Option<u64> {
        Some(fs::metadata(self.root.join(path.trim_start_matches('/'))).ok()?.ino())
    }
}

/// The cgroup that a process is in, as far as this process's cgroup namespace shows it.
fn cgroup_of(process: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
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
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        let mut names = Names::open().expect("a cgroup2 hierarchy, and root");
        let root = names.root.clone();
        assert_eq!(names.path(names.id("/").expect("is there"), None).as_deref(), Some("/"));
        let name = format!("/mptcp-pm-test-{}", std::process::id());
        let folder = root.join(&name[1..]);
        fs::create_dir_all(folder.join("inner")).expect("makes cgroups");
        let [outer, inner] = [name.clone(), format!("{name}/inner")];
        let inside = names.id(&inner).expect("is there");
        assert_eq!(names.path(inside, None), Some(inner.clone()));
        // The process is in another one.
        let id = names.id(&outer).expect("is there");
        assert_eq!(names.path(id, Some(std::process::id())), Some(outer));
        fs::remove_dir(folder.join("inner")).and_then(|()| fs::remove_dir(&folder)).expect("removes them");
        assert_eq!(names.path(inside, None), Some(inner));
        assert_eq!(Names::open().expect("as before").path(inside, None), None);
    }

    /// Anybody who has cgroups of his own can have as many begin and end as he likes.
    #[test]
    fn one_look_does_for_all_that_are_gone() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("here")).expect("made");
        let mut names = Names { root: root.path().to_owned(), known: HashMap::new() };
        let here = names.id("/here").expect("is there");
        // Both, since what happens twice in a row is told once (inotify(7)).
        let looks = Inotify::init(InitFlags::IN_NONBLOCK).expect("a watch");
        let flags = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE_NOWRITE | AddWatchFlags::IN_ONLYDIR;
        looks.add_watch(root.path(), flags).expect("watched");
        let look = || {
            let events = looks.read_events().unwrap_or_default();
            let of_root = events.iter().filter(|event| event.name.is_none());
            of_root.filter(|event| event.mask.contains(AddWatchFlags::IN_OPEN)).count()
        };
        let gone = [u64::MAX - 1, u64::MAX];
        assert_eq!(names.paths(&[gone[0], here, gone[1]]), [(here, "/here".to_owned())]);
        assert_eq!(look(), 1);
        assert_eq!(names.paths(&gone), []);
        assert_eq!(look(), 0, "who is gone is gone for good");
    }

    #[test]
    fn the_cgroup_of_a_process_needs_no_look_at_the_others() {
        let mut names = Names::open().expect("a cgroup2 hierarchy");
        let path = cgroup_of(std::process::id()).expect("everybody is in one");
        let id = names.id(&path).expect("is there");
        assert_eq!(names.path(id, Some(std::process::id())), Some(path));
        assert_eq!(names.known.len(), 1);
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
