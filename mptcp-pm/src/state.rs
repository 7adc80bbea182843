//! The state file: what is ours in the kernel, kept across a crash of the daemon.
use std::fs;
use std::io::{self, Write as _};
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

/// The state file of one daemon.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The state file in a folder.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join("state.json") }
    }

    /// What the predecessor left; nothing where there is no file.
    ///
    /// # Errors
    /// Where the file cannot be read or is not ours.
    pub fn load(&self) -> Result<Owned, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Content { path: self.path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Owned::default()),
            Err(error) => Err(self.error("read", error)),
        }
    }

    /// Replaces the file in one step; when nothing is ours, there is no file.
    ///
    /// Not synced to a disk: the file lives in memory (`/run`), like what it describes.
    ///
    /// # Errors
    /// Where the file cannot be written; the old one is then still whole.
    pub fn save(&self, owned: &Owned) -> Result<(), Error> {
        if *owned == Owned::default() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("remove", error)),
                _ => Ok(()),
            };
        }
        let json =
            serde_json::to_vec(owned).map_err(|source| Error::Content { path: self.path.clone(), source })?;
        let fresh = self.path.with_extension("new");
        let written = fs::File::create(&fresh)
            .and_then(|mut file| file.write_all(&json))
            .and_then(|()| fs::rename(&fresh, &self.path));
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
        let file = StateFile::in_dir(dir.path());
        assert_eq!(file.load().unwrap(), Owned::default());
        file.save(&owned()).unwrap();
        assert_eq!(file.load().unwrap(), owned());
        file.save(&Owned::default()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
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
        let file = StateFile::in_dir(Path::new("/nonexistent/mptcp-pm"));
        let error = file.save(&owned()).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nonexistent/mptcp-pm/state.json"), "{error}");
    }
}
