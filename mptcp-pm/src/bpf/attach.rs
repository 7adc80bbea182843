//! Attaches the programs of objects that aya loads: to the root cgroup, as iterators.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::programs::links::CgroupAttachMode;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{Iter, ProgramError, SockOps};
use aya::{Btf, Ebpf};

use super::{Error, cgroup, sys};

/// Has a program run at the events of all sockets of the machine.
///
/// # Errors
/// `Error::Mismatch`, `Error::Load`, `Error::Attach`, and those of finding the root cgroup.
pub fn sock_ops(ebpf: &mut Ebpf, object: &'static str, name: &'static str) -> Result<SockOpsLink, Error> {
    let found = ebpf.program_mut(name).ok_or(Error::Mismatch { object, part: name })?;
    let program: &mut SockOps = found.try_into().map_err(|source| load_error(object, name, source))?;
    program.load().map_err(|source| load_error(object, name, source))?;
    let root = cgroup::root()?;
    let cgroup = File::open(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
    // A cgroup link always allows others beside it; asking for that with a flag is an error.
    let attached = program.attach(cgroup, CgroupAttachMode::Single).and_then(|id| program.take_link(id));
    attached.map_err(|source| Error::Attach { object, program: name, cgroup: root, source: Box::new(source) })
}

/// A program that visits something of the kernel's, one after the other.
pub struct Iterator {
    /// Its object.
    pub object: &'static str,
    /// Its name.
    pub program: &'static str,
    /// What it visits, as the kernel calls it.
    pub over: &'static str,
}

impl Iterator {
    /// Loads it.
    ///
    /// # Errors
    /// `Error::Mismatch`, `Error::Load`.
    pub fn load(&self, ebpf: &mut Ebpf, types: &Btf) -> Result<OwnedFd, Error> {
        let (object, name) = (self.object, self.program);
        let found = ebpf.program_mut(name).ok_or(Error::Mismatch { object, part: name })?;
        let program: &mut Iter = found.try_into().map_err(|source| load_error(object, name, source))?;
        program.load(self.over, types).map_err(|source| load_error(object, name, source))?;
        let fd = program.fd().map_err(|source| load_error(object, name, source))?;
        fd.as_fd().try_clone_to_owned().map_err(|source| Error::Iterate { object, source })
    }

    /// Makes it ready to be run: over a map, or over what its type says.
    ///
    /// # Errors
    /// `Error::AttachIterator`.
    pub fn attach(&self, program: &OwnedFd, map: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
        sys::attach_iterator(program.as_fd(), map).map_err(|source| Error::AttachIterator {
            object: self.object,
            program: self.program,
            source,
        })
    }
}

/// Has an iterator run once, for what it does on the way.
///
/// # Errors
/// `Error::Iterate`.
pub fn run(object: &'static str, link: &OwnedFd) -> Result<(), Error> {
    let iterate_error = |source: io::Error| Error::Iterate { object, source };
    let mut output = sys::open_iterator(link.as_fd()).map_err(|errno| iterate_error(errno.into()))?;
    let mut nothing = Vec::new();
    output.read_to_end(&mut nothing).map(|_| ()).map_err(iterate_error)
}

fn load_error(object: &'static str, program: &'static str, source: ProgramError) -> Error {
    Error::Load { object, program, source: Box::new(source) }
}
