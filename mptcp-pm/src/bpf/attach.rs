//! What the loaders of objects that aya loads have in common: maps, programs at the root cgroup and at tracepoints,
//! iterators.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::Map;
use aya::programs::links::CgroupAttachMode;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::programs::{BtfTracePoint, Iter, ProgramError, SockOps};
use aya::{Btf, Ebpf, EbpfLoader};
use mptcp_common::fields;
use nix::time::{ClockId, clock_getres};

use super::{Error, cgroup, netns, objects, sys};

/// A loaded object, by its name.
pub struct Object {
    /// Its name, for errors.
    pub name: &'static str,
    /// Its programs and maps.
    pub ebpf: Ebpf,
}

impl Object {
    /// Sets the object's globals by name, beside what each has to know: the network namespace and the offsets. Then has its
    /// maps made.
    ///
    /// # Errors
    /// When the daemon was built without it, or the kernel does not make its maps.
    pub fn load(
        name: &'static str,
        offsets: &[u32; fields::COUNT],
        globals: &[(&str, &[u8])],
    ) -> Result<Self, Error> {
        let bytes = objects::get(name)?;
        let cookie = netns::cookie()?;
        let mut loader = EbpfLoader::new();
        loader
            // The kernel's types serve relocations, which Rust objects do not have.
            .btf(None)
            .override_global("NETNS_COOKIE", &cookie, true)
            .override_global("OFFSETS", &offsets[..], true);
        for (global, value) in globals {
            loader.override_global(global, *value, true);
        }
        let ebpf = loader.load(bytes);
        let ebpf = ebpf.map_err(|source| Error::Object { object: name, source: Box::new(source) })?;
        Ok(Self { name, ebpf })
    }

    /// Takes a map out of it. Programs that are loaded later must not need it.
    ///
    /// # Errors
    /// `Error::Mismatch`, when it has none of this name.
    pub fn take_map(&mut self, map: &'static str) -> Result<Map, Error> {
        self.ebpf.take_map(map).ok_or(Error::Mismatch { object: self.name, part: map })
    }

    /// Loads a sockops program and attaches it to the root cgroup, until the link is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_to_root(&mut self, name: &'static str) -> Result<SockOpsLink, Error> {
        let object = self.name;
        let refused = |source| load_error(object, name, source);
        let found = self.ebpf.program_mut(name).ok_or(Error::Mismatch { object, part: name })?;
        let program: &mut SockOps = found.try_into().map_err(refused)?;
        program.load().map_err(refused)?;
        let root = cgroup::root()?;
        let cgroup = File::open(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
        // A cgroup link always allows others beside it; asking for that with a flag is an error.
        let attached = program.attach(cgroup, CgroupAttachMode::Single).and_then(|id| program.take_link(id));
        let source = match attached {
            Ok(link) => return Ok(link),
            Err(error) => Box::new(error),
        };
        Err(Error::Attach { object, program: name, cgroup: root, source })
    }

    /// Loads a program and attaches it to a tracepoint, until the link is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_to_tracepoint(
        &mut self,
        types: &Btf,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<BtfTracePointLink, Error> {
        let object = self.name;
        let refused = |source| load_error(object, name, source);
        let found = self.ebpf.program_mut(name).ok_or(Error::Mismatch { object, part: name })?;
        let program: &mut BtfTracePoint = found.try_into().map_err(refused)?;
        program.load(tracepoint, types).map_err(refused)?;
        let attached = program.attach().and_then(|id| program.take_link(id));
        attached.map_err(|source| Error::Trace { object, program: name, source: Box::new(source) })
    }

    /// Loads an iterator program, to be attached.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load_iterator(&mut self, types: &Btf, name: &'static str, over: &str) -> Result<OwnedFd, Error> {
        let object = self.name;
        let refused = |source| load_error(object, name, source);
        let found = self.ebpf.program_mut(name).ok_or(Error::Mismatch { object, part: name })?;
        let program: &mut Iter = found.try_into().map_err(refused)?;
        program.load(over, types).map_err(refused)?;
        let fd = program.fd().map_err(refused)?;
        fd.as_fd().try_clone_to_owned().map_err(|source| Error::Iterate { object, source })
    }

    /// Loads an iterator program over all TCP sockets of the namespace of who runs it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn over_sockets(&mut self, types: &Btf, name: &'static str) -> Result<OwnedFd, Error> {
        let program = self.load_iterator(types, name, "tcp")?;
        let attached = sys::attach_iterator(program.as_fd(), None);
        attached.map_err(|source| Error::AttachIterator { object: self.name, program: name, source })
    }

    /// Has an iterator run once, for what it does on the way.
    ///
    /// # Errors
    /// `Error::Iterate`, when the kernel refuses.
    pub fn run(&self, iterator: &OwnedFd) -> Result<(), Error> {
        let error = |source: io::Error| Error::Iterate { object: self.name, source };
        let mut output = sys::open_iterator(iterator.as_fd()).map_err(|errno| error(errno.into()))?;
        let mut nothing = Vec::new();
        output.read_to_end(&mut nothing).map(|_| ()).map_err(error)
    }
}

/// The length of a timer tick, nanoseconds: the resolution of the coarse clocks (clock_getres(2)).
///
/// # Errors
/// `Error::Tick`, when it is not to be had.
pub fn tick_ns() -> Result<u64, Error> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(Error::Tick)?;
    Ok(resolution.tv_nsec() as u64)
}

fn load_error(object: &'static str, program: &'static str, source: ProgramError) -> Error {
    Error::Load { object, program, source: Box::new(source) }
}
