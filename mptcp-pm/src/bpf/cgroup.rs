//! Finds the root cgroup, whose programs see every socket of the machine; it is not always at `/sys/fs/cgroup`.
use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::PathBuf};

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
