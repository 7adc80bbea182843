//! Reads and writes the sysctls of the calling thread's network namespace.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::core::world::Sysctl;

/// Why a sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none that an interface can have.
    #[error("{0:?} is no name of an interface: it would lead out of /proc/sys/net/ipv4/conf")]
    Name(String),
    /// Reading failed.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed.
    #[error("write {value:?} to {}: {source}{}", path.display(), remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        source: io::Error,
    },
}

/// The file of a key.
fn path_of(key: &Sysctl) -> Result<PathBuf, Error> {
    let file = |name| Ok(Path::new("/proc/sys/net/mptcp").join(name));
    match key {
        Sysctl::Enabled => file("enabled"),
        Sysctl::PathManager => file("path_manager"),
        Sysctl::PathManagerType => file("pm_type"),
        Sysctl::ReceiveBuffer => Ok("/proc/sys/net/ipv4/tcp_rmem".into()),
        // As one component of the path, a name may have dots in it, as those of VLANs have.
        Sysctl::ReversePathFilter(interface) => {
            Ok(Path::new("/proc/sys/net/ipv4/conf").join(component(interface)?).join("rp_filter"))
        }
    }
}

/// The value of a key, without the end of the line; none where the kernel or the interface has no such key.
pub fn read(key: &Sysctl) -> Result<Option<String>, Error> {
    let path = path_of(key)?;
    match read_at_once(&path) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path, source }),
    }
}

/// What one read returns is all: the daemon reads many keys each time that it looks, and asking for a size and for an
/// end that procfs does not have would double what that takes.
fn read_at_once(path: &Path) -> io::Result<String> {
    let mut text = [0; 256];
    let length = fs::File::open(path).and_then(|mut file| io::Read::read(&mut file, &mut text))?;
    Ok(String::from_utf8_lossy(&text[..length]).trim_end().to_owned())
}

/// Sets a key.
pub fn write(key: &Sysctl, value: &str) -> Result<(), Error> {
    let path = path_of(key)?;
    // Not `fs::write`: that asks for the file to be made where there is none.
    let written = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|source| Error::Write { path, value: value.to_owned(), source })
}

fn component(interface: &str) -> Result<&str, Error> {
    let leads_away = matches!(interface, "" | "." | "..") || interface.contains(['/', '\0']);
    if leads_away { Err(Error::Name(interface.to_owned())) } else { Ok(interface) }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; /proc/sys is mounted read-only, as in most containers: set it on the host, \
             or start the container with this sysctl"
        }
        io::ErrorKind::PermissionDenied => "; run as root, or with CAP_NET_ADMIN",
        io::ErrorKind::NotFound => "; this kernel has no such setting, or the interface is gone",
        io::ErrorKind::InvalidInput => "; the kernel does not accept this value",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_to_their_files() {
        let path = |key: Sysctl| path_of(&key).unwrap().display().to_string();
        assert_eq!(path(Sysctl::Enabled), "/proc/sys/net/mptcp/enabled");
        assert_eq!(path(Sysctl::ReversePathFilter("all".into())), "/proc/sys/net/ipv4/conf/all/rp_filter");
        assert_eq!(
            path(Sysctl::ReversePathFilter("eth0.100".into())),
            "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"
        );
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for name in ["", ".", "..", "../all", "a/b", "/etc", "a\0b"] {
            let key = Sysctl::ReversePathFilter(name.into());
            assert!(matches!(read(&key), Err(Error::Name(refused)) if refused == name));
            assert!(matches!(write(&key, "0"), Err(Error::Name(_))));
        }
    }

    #[test]
    fn what_is_not_there_reads_as_none_and_says_so_when_written() {
        let key = Sysctl::ReversePathFilter("no such link".into());
        assert_eq!(read(&key).unwrap(), None);
        let error = write(&key, "2").unwrap_err().to_string();
        assert!(error.contains("/proc/sys/net/ipv4/conf/no such link/rp_filter"), "{error}");
        assert!(error.contains("the interface is gone"), "{error}");
    }

    #[test]
    fn a_read_only_proc_is_named_with_its_remedy() {
        let error = Error::Write {
            path: path_of(&Sysctl::Enabled).unwrap(),
            value: "1".into(),
            source: io::Error::from(nix::errno::Errno::EROFS),
        };
        let text = error.to_string();
        assert!(text.contains("/proc/sys/net/mptcp/enabled") && text.contains("read-only"), "{text}");
    }
}
