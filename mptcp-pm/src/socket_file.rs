//! A listening socket with a file (`unix(7)`): made with the right owner from its first moment, replaced after a crash, removed at the end.
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Group, getegid};
use socket2::{Domain, SockAddr, Socket, Type};

/// How long accepting rests when the system has no more file descriptors.
pub const ACCEPT_REST: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody listens there already, most likely another daemon.
    #[error("another process{} listens at {}: stop it, or use another path",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), .path.display())]
    Running {
        /// The socket.
        path: PathBuf,
        /// The other process, where the kernel names it.
        pid: Option<i32>,
    },
    /// Another daemon makes its socket there at this moment.
    #[error("another mptcp-pm is starting in {}: stop it, or use another path", .0.display())]
    Starting(PathBuf),
    /// There is something else.
    #[error("{} is there and is no socket: remove it, or use another path", .0.display())]
    Occupied(PathBuf),
    /// The group is not one that this process may give files to.
    #[error(
        "cannot give the socket {} to the group {group:?}: have the daemon belong to it (SupplementaryGroups={group} in \
         a drop-in of mptcp-pm.service), or configure a group that it belongs to", .path.display()
    )]
    Group {
        /// The socket.
        path: PathBuf,
        /// The group's name.
        group: String,
    },
    /// The system refuses.
    #[error("cannot {operation} for the socket {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A listening socket, whose file goes with it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: what somebody else puts there later is not ours to remove.
    identity: (u64, u64),
    socket: UnixListener,
}

impl SocketFile {
    /// Makes the socket for this user, root and a group, and listens; a folder that is missing is made, a dead daemon's
    /// socket is replaced. Where there is no such group, this process's own has its place.
    ///
    /// # Errors
    /// Where another daemon listens, where the path is taken by something else, and what the system refuses.
    pub fn bind(path: &Path, group: &str) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_folder(folder).map_err(failed("make the folder"))?;
        let _only_one_at_a_time = lock(folder).map_err(|error| match error {
            TryLockError::WouldBlock => Error::Starting(folder.to_owned()),
            TryLockError::Error(source) => failed("lock the folder")(source),
        })?;
        clear(path)?;
        let socket = bind(path).map_err(failed("bind"))?;
        give(path, group)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed("set the permissions"))?;
        socket.listen(64).map_err(failed("listen"))?;
        let socket = socket.into();
        let file = fs::symlink_metadata(path).map_err(failed("look at the file"))?;
        Ok(Self { path: path.to_owned(), identity: (file.dev(), file.ino()), socket })
    }

    /// The socket, non-blocking.
    ///
    /// # Errors
    /// What `dup(2)` refuses.
    pub fn socket(&self) -> io::Result<UnixListener> {
        self.socket.try_clone()
    }

    /// Hands the socket over to another group; who is connected stays.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn set_group(&self, group: &str) -> Result<(), Error> {
        give(&self.path, group)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// Everybody may pass through, so that the socket's own permissions decide.
fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Locks a folder until the file is dropped, so that two daemons that start at once cannot both find a dead
/// predecessor's socket and remove each other's. Who may not read the folder cannot lock it.
fn lock(folder: &Path) -> Result<File, TryLockError> {
    let folder = File::open(folder).map_err(TryLockError::Error)?;
    folder.try_lock()?;
    Ok(folder)
}

/// Removes the socket of a daemon that is dead.
fn clear(path: &Path) -> Result<(), Error> {
    let failed = |operation| move |source| Error::Io { operation, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at the file")(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(Error::Occupied(path.to_owned())),
        Ok(_) => (),
    }
    match knock(path) {
        Ok(who) => Err(Error::Running { path: path.to_owned(), pid: who.map(|who| who.pid()) }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the old file"))
        }
        Err(error) => Err(failed("see whether a daemon listens")(error)),
    }
}

/// Who listens at a socket; none for a process that is too busy to accept.
pub fn knock(path: &Path) -> io::Result<Option<UnixCredentials>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Some(getsockopt(&socket, PeerCredentials)?)),
    }
}

fn bind(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    // The file gets the mode that the socket has (net/unix/af_unix.c, unix_bind_bsd): nobody else can connect
    // before its group is right.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Hands the socket's file to a group; to this process's own where there is none of that name.
fn give(path: &Path, name: &str) -> Result<(), Error> {
    let group = match Group::from_name(name) {
        Ok(Some(group)) => group.gid,
        missing => {
            tracing::debug!(?missing, name, "a socket is for the daemon's own group: no such group");
            getegid()
        }
    };
    lchown(path, None, Some(group.as_raw())).map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => Error::Group { path: path.to_owned(), group: name.to_owned() },
        _ => Error::Io { operation: "set the group", path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "daemon";

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("run/control")
    }

    #[test]
    fn the_file_is_for_its_owner_and_group_and_vanishes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let listener = SocketFile::bind(&path, GROUP).expect("binds");
        let file = fs::symlink_metadata(&path).expect("is there");
        assert_eq!(file.mode() & 0o7777, 0o660);
        let daemon = Group::from_name("daemon").expect("readable").expect("Debian has it");
        assert_eq!((file.uid(), file.gid()), (nix::unistd::geteuid().as_raw(), daemon.gid.as_raw()));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_group_leaves_the_socket_to_our_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let _listener = SocketFile::bind(&path, "no-such-group").expect("binds");
        assert_eq!(fs::symlink_metadata(&path).expect("is there").gid(), getegid().as_raw());
    }

    #[test]
    fn the_group_can_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let listener = SocketFile::bind(&path, "no-such-group").expect("binds");
        listener.set_group(GROUP).expect("changes");
        let daemon = Group::from_name(GROUP).expect("readable").expect("Debian has it");
        assert_eq!(fs::symlink_metadata(&path).expect("is there").gid(), daemon.gid.as_raw());
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        fs::create_dir(folder.path().join("run")).expect("a folder");
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists());
        let _listener = SocketFile::bind(&path, GROUP).expect("replaces it");
        assert!(knock(&path).is_ok());
    }

    #[test]
    fn a_living_daemon_is_named_and_keeps_its_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let _first = SocketFile::bind(&path, GROUP).expect("binds");
        let message = SocketFile::bind(&path, GROUP).expect_err("refuses").to_string();
        let expected = format!("another process (pid {}) listens at ", std::process::id());
        assert!(message.starts_with(&expected), "{message}");
        assert!(knock(&path).is_ok());
    }

    #[test]
    fn a_daemon_that_does_not_accept_is_still_a_living_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let _first = SocketFile::bind(&path, GROUP).expect("binds");
        let connect = || std::os::unix::net::UnixStream::connect(&path).expect("connects");
        let _backlog: Vec<_> = (0..65).map(|_| connect()).collect();
        assert!(matches!(SocketFile::bind(&path, GROUP), Err(Error::Running { pid: None, .. })));
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        fs::create_dir(folder.path().join("run")).expect("a folder");
        fs::write(&path, "precious").expect("writes");
        assert!(matches!(SocketFile::bind(&path, GROUP), Err(Error::Occupied(_))));
        assert_eq!(fs::read(&path).expect("is there"), b"precious");
    }

    #[test]
    fn a_successors_socket_is_not_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path(&folder);
        let listener = SocketFile::bind(&path, GROUP).expect("binds");
        fs::rename(&path, folder.path().join("old")).expect("renames");
        let _successor = SocketFile::bind(&path, GROUP).expect("binds");
        drop(listener);
        assert!(path.exists());
    }
}
