//! The state file: what is ours in the kernel, kept across a crash of the daemon.
//!
//! Each line is all that is ours from then on, as JSON; the last whole one holds. So what is written before an action
//! costs one system call most of the time, and a daemon that is killed in the middle of it has not begun the action: the
//! line before still says how things are. A file that has become long is replaced by one of a single line.
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::owned::Owned;

/// What can go wrong with the state file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path} is no state file of this program ({source}): move it away, then check `ip mptcp endpoint` for leftovers"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The file is replaced rather than made longer than this, in bytes.
const LONGEST: u64 = 32 << 10;

/// The state file of one daemon.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The file that this daemon has written, to be written on.
    open: Option<fs::File>,
}

impl StateFile {
    /// The state file in a folder.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join("state.json"), open: None }
    }

    /// What the predecessor left; nothing where there is no file.
    ///
    /// # Errors
    /// Where the file cannot be read or is not ours.
    pub fn load(&self) -> Result<Owned, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(last_line(&bytes))
                .map_err(|source| Error::Content { path: self.path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Owned::default()),
            Err(error) => Err(self.error("read", error)),
        }
    }

    /// Has the file say this, in one step; when nothing is ours, there is no file.
    ///
    /// Not synced to a disk: the file lives in memory (`/run`), like what it describes.
    ///
    /// # Errors
    /// Where the file cannot be written; what it said before still holds.
    pub fn save(&mut self, owned: &Owned) -> Result<(), Error> {
        let open = self.open.take();
        if *owned == Owned::default() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("remove", error)),
                _ => Ok(()),
            };
        }
        let mut line =
            serde_json::to_vec(owned).map_err(|source| Error::Content { path: self.path.clone(), source })?;
        line.push(b'\n');
        self.open = open.and_then(|file| self.append(file, &line));
        if self.open.is_none() {
            self.open = Some(self.replace(&line)?);
        }
        Ok(())
    }

    /// Adds a line to a file that has room for it and is still in its place; none where it is to be replaced.
    fn append(&self, mut file: fs::File, line: &[u8]) -> Option<fs::File> {
        let (about, there) = (file.metadata().ok()?, fs::metadata(&self.path).ok()?);
        let in_place = (about.dev(), about.ino()) == (there.dev(), there.ino());
        if !in_place || about.len() + line.len() as u64 > LONGEST {
            return None;
        }
        match file.write(line) {
            Ok(written) if written == line.len() => Some(file),
            _ => {
                // A piece of a line says nothing, but may be taken for something by those who look.
                drop(file.set_len(about.len()));
                None
            }
        }
    }

    fn replace(&self, line: &[u8]) -> Result<fs::File, Error> {
        let fresh = self.path.with_extension("new");
        // What an earlier daemon could not finish is in the way.
        drop(fs::remove_file(&fresh));
        let written = fs::File::options().append(true).create_new(true).open(&fresh).and_then(|mut file| {
            file.write_all(line)?;
            fs::rename(&fresh, &self.path)?;
            Ok(file)
        });
        written.map_err(|error| {
            // Where there is no room, half a file is in the way too.
            drop(fs::remove_file(&fresh));
            self.error("write", error)
        })
    }

    fn error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, path: self.path.clone(), source }
    }
}

/// The last line that is whole. Earlier versions wrote one, and did not end it.
fn last_line(bytes: &[u8]) -> &[u8] {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(bytes, |end| &bytes[..end]);
    let mut lines = whole.rsplit(|byte| *byte == b'\n');
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::NewEndpoint;
    use crate::core::owned::Replaced;
    use crate::core::world::{EndpointFlags, Limits, Sysctl};

    fn owned() -> Owned {
        Owned {
            endpoints: vec![NewEndpoint {
                addr: "2001:db8::1".parse().unwrap(),
                ifindex: 7,
                flags: EndpointFlags::SUBFLOW | EndpointFlags::BACKUP,
            }],
            limits: Some(Replaced {
                before: Limits { subflows: 2, add_addr_accepted: 0 },
                ours: vec![Limits { subflows: 8, add_addr_accepted: 2 }],
            }),
            sysctls: [
                Sysctl::Enabled,
                Sysctl::PathManager,
                Sysctl::PathManagerType,
                Sysctl::ReceiveBuffer,
                Sysctl::ReversePathFilter("eth0.100".into()),
            ]
            .map(|key| (key, Replaced { before: "0".to_owned(), ours: vec!["1".to_owned()] }))
            .into(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StateFile::in_dir(dir.path());
        assert_eq!(file.load().unwrap(), Owned::default());
        file.save(&owned()).unwrap();
        assert_eq!(file.load().unwrap(), owned());
        file.save(&Owned::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_last_whole_line_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StateFile::in_dir(dir.path());
        let fewer = Owned { endpoints: Vec::new(), ..owned() };
        file.save(&fewer).unwrap();
        file.save(&owned()).unwrap();
        let path = dir.path().join("state.json");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(StateFile::in_dir(dir.path()).load().unwrap(), owned());
        // Killed at any byte of the second line, a daemon has not done what that says.
        let (first, second) = text.split_at(text.find('\n').unwrap() + 1);
        for length in 0..second.len() {
            fs::write(&path, [first, &second[..length]].concat()).unwrap();
            assert_eq!(StateFile::in_dir(dir.path()).load().unwrap(), fewer, "{length}");
        }
        // What earlier versions wrote.
        fs::write(&path, second.trim_end()).unwrap();
        assert_eq!(StateFile::in_dir(dir.path()).load().unwrap(), owned());
    }

    #[test]
    fn the_file_does_not_grow_for_ever_and_comes_back_when_somebody_removes_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = StateFile::in_dir(dir.path());
        let path = dir.path().join("state.json");
        let mut longest = 0;
        for _ in 0..2 * LONGEST / serde_json::to_vec(&owned()).unwrap().len() as u64 {
            file.save(&owned()).unwrap();
            longest = longest.max(fs::metadata(&path).unwrap().len());
        }
        assert!(longest > LONGEST / 2 && longest <= LONGEST, "{longest}");
        for remove in
            [|path: &Path| fs::remove_file(path), |path: &Path| fs::rename(path, path.with_extension("old"))]
        {
            remove(&path).unwrap();
            file.save(&owned()).unwrap();
            assert_eq!(file.load().unwrap(), owned());
        }
    }

    #[test]
    fn a_foreign_file_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::in_dir(dir.path());
        fs::write(dir.path().join("state.json"), "{\"endpoints\":3}").unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("state.json is no state file"), "{error}");
        assert!(dir.path().join("state.json").exists());
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let mut file = StateFile::in_dir(Path::new("/nonexistent/mptcp-pm"));
        let error = file.save(&owned()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nonexistent/mptcp-pm/state.json"), "{error}");
    }
}
