//! Loads `path_stats` and attaches its programs. The counting program is needed; each other one only if it can be had.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, Map, RingBuf};
use aya::programs::links::CgroupAttachMode;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{Iter, ProgramError, SockOps};
use aya::{Btf, Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use nix::time::{ClockId, clock_getres};
use tokio::io::unix::AsyncFd;
use tracing_log::LogTracer;

use super::super::{Error, cgroup, netns, objects, offsets::Types, sys};
use super::{OBJECT, PathStats, map_error};

const COUNTING: &str = "path_stats";
const READING: &str = "read";
const ADOPTING: &str = "adopt";

pub(super) fn attach() -> Result<PathStats, Error> {
    let (mut ebpf, mut absent) = load()?;
    for field in &mut absent {
        *field = format!("this kernel has no {field}: what depends on it stays 0");
    }
    let link = attach_counting(&mut ebpf)?;
    let types = Btf::from_sys_fs().map_err(|source| Error::KernelTypes(Box::new(source)));
    let mut optional = |what: &str, made: Result<OwnedFd, Error>| {
        made.map_err(|error| absent.push(format!("{what}: {:#}", anyhow::Error::from(error)))).ok()
    };
    let (adopter, reader) = match types {
        // In this order: the map of subflows, which the reader takes, is part of both programs.
        Ok(types) => (
            optional("older subflows are not followed", attach_adopter(&mut ebpf, &types)),
            optional("figures of living subflows are absent", attach_reader(&mut ebpf, &types)),
        ),
        Err(error) => (None, optional("figures of living and older subflows are absent", Err(error))),
    };
    let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?).map_err(|source| map_error("EVENTS", source))?;
    let log = match wanted_log_level() {
        0 => None,
        _ => Some(log(&mut ebpf)?),
    };
    let stats = PathStats {
        events: sys::watch(ring).map_err(Error::Ring)?,
        counters: Array::try_from(take(&mut ebpf, "COUNTERS")?)
            .map_err(|source| map_error("COUNTERS", source))?,
        asleep: Array::try_from(take(&mut ebpf, "ASLEEP")?).map_err(|source| map_error("ASLEEP", source))?,
        log,
        reader,
        absent,
        _link: link,
    };
    if let Some(adopter) = adopter {
        run(&adopter)?;
    }
    Ok(stats)
}

/// Sets what the programs are to know of this kernel and this namespace, then has their maps made. Also returns the
/// fields that this kernel does not have.
fn load() -> Result<(Ebpf, Vec<String>), Error> {
    let bytes = objects::get(OBJECT)?;
    let cookie = netns::cookie()?;
    let (offsets, absent) = Types::of_this_kernel()?.table();
    let tick = tick_ns()?;
    let ebpf = EbpfLoader::new()
        // The kernel's types serve relocations, which Rust objects do not have.
        .btf(None)
        .override_global(aya_log::LEVEL, &wanted_log_level(), true)
        .override_global("NETNS_COOKIE", &cookie, true)
        .override_global("TICK_NS", &tick, true)
        .override_global("OFFSETS", &offsets[..], true)
        .load(bytes)
        .map_err(|source| Error::Object { object: OBJECT, source: Box::new(source) })?;
    Ok((ebpf, absent))
}

/// How much the programs log: what the daemon's log would show. For what is not wanted they have no code once the kernel
/// has taken them in.
fn wanted_log_level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) { aya_log::Level::Debug as u8 } else { 0 }
}

/// The lines of the programs, to go into the daemon's log.
fn log(ebpf: &mut Ebpf) -> Result<AsyncFd<EbpfLogger<LogTracer>>, Error> {
    let logger = EbpfLogger::init_with_logger(ebpf, LogTracer::new());
    let logger = logger.map_err(|source| Error::Log { object: OBJECT, source: Box::new(source) })?;
    sys::watch(logger).map_err(Error::Ring)
}

/// The length of a timer tick, nanoseconds: the resolution of the coarse clocks (clock_getres(2)).
pub(in crate::bpf) fn tick_ns() -> Result<u64, Error> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(Error::Tick)?;
    Ok(resolution.tv_nsec() as u64)
}

fn take(ebpf: &mut Ebpf, map: &'static str) -> Result<Map, Error> {
    ebpf.take_map(map).ok_or(Error::Mismatch { object: OBJECT, part: map })
}

fn attach_counting(ebpf: &mut Ebpf) -> Result<SockOpsLink, Error> {
    let found = ebpf.program_mut(COUNTING).ok_or(Error::Mismatch { object: OBJECT, part: COUNTING })?;
    let program: &mut SockOps = found.try_into().map_err(|source| load_error(COUNTING, source))?;
    program.load().map_err(|source| load_error(COUNTING, source))?;
    let root = cgroup::root()?;
    let cgroup = File::open(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
    // A cgroup link always allows others beside it; asking for that with a flag is an error.
    let attached = program.attach(cgroup, CgroupAttachMode::Single).and_then(|id| program.take_link(id));
    attached.map_err(|source| Error::Attach {
        object: OBJECT,
        program: COUNTING,
        cgroup: root,
        source: Box::new(source),
    })
}

/// The reading program visits the sockets that have an element in the map of subflows.
fn attach_reader(ebpf: &mut Ebpf, types: &Btf) -> Result<OwnedFd, Error> {
    let program = load_iterator(ebpf, types, READING, "bpf_sk_storage_map")?;
    let Map::SkStorage(subflows) = take(ebpf, "SUBFLOWS")? else {
        return Err(Error::Mismatch { object: OBJECT, part: "SUBFLOWS" });
    };
    sys::attach_iterator(program.as_fd(), Some(subflows.fd().as_fd()))
        .map_err(|errno| attach_error(READING, errno))
}

/// The adopting program visits all TCP sockets.
fn attach_adopter(ebpf: &mut Ebpf, types: &Btf) -> Result<OwnedFd, Error> {
    let program = load_iterator(ebpf, types, ADOPTING, "tcp")?;
    sys::attach_iterator(program.as_fd(), None).map_err(|errno| attach_error(ADOPTING, errno))
}

fn load_iterator(ebpf: &mut Ebpf, types: &Btf, name: &'static str, over: &str) -> Result<OwnedFd, Error> {
    let found = ebpf.program_mut(name).ok_or(Error::Mismatch { object: OBJECT, part: name })?;
    let program: &mut Iter = found.try_into().map_err(|source| load_error(name, source))?;
    program.load(over, types).map_err(|source| load_error(name, source))?;
    let fd = program.fd().map_err(|source| load_error(name, source))?;
    fd.as_fd().try_clone_to_owned().map_err(|source| Error::Iterate { object: OBJECT, source })
}

fn attach_error(program: &'static str, source: nix::errno::Errno) -> Error {
    Error::AttachIterator { object: OBJECT, program, source }
}

/// Has an iterator run once, for what it does on the way.
fn run(link: &OwnedFd) -> Result<(), Error> {
    let iterate_error = |source: io::Error| Error::Iterate { object: OBJECT, source };
    let mut output = sys::open_iterator(link.as_fd()).map_err(|errno| iterate_error(errno.into()))?;
    let mut nothing = Vec::new();
    output.read_to_end(&mut nothing).map(|_| ()).map_err(iterate_error)
}

fn load_error(program: &'static str, source: ProgramError) -> Error {
    Error::Load { object: OBJECT, program, source: Box::new(source) }
}
