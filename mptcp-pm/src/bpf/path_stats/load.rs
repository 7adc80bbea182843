//! Loads `path_stats` and attaches its programs. The counting program is needed; each other one only if it can be had.
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use aya::Btf;
use aya::maps::{Array, HashMap, Map, RingBuf};
use aya_log::EbpfLogger;
use mptcp_common::path_stats::UNHEARD;
use tokio::io::unix::AsyncFd;
use tracing_log::LogTracer;

use super::super::attach::{self, Object};
use super::super::{Error, Kernel, sys};
use super::{Aside, OBJECT, PathStats, map_error};

const COUNTING: &str = "path_stats";
const READING: &str = "read";
const ADOPTING: &str = "adopt";

pub(super) fn attach(kernel: &Kernel) -> Result<PathStats, Error> {
    let (offsets, mut absent) = kernel.types()?.table();
    let tick = attach::tick_ns()?.to_ne_bytes();
    let globals: [(&str, &[u8]); 2] = [(aya_log::LEVEL, &[wanted_log_level()]), ("TICK_NS", &tick)];
    let mut object = Object::load(OBJECT, &offsets, &globals)?;
    for field in &mut absent {
        *field = format!("this kernel has no {field}: what depends on it stays 0");
    }
    let link = object.attach_to_root(COUNTING)?;
    let mut optional = |what: &str, made: Result<OwnedFd, Error>| {
        made.map_err(|error| absent.push(format!("{what}: {:#}", anyhow::Error::from(error)))).ok()
    };
    let (adopter, reader) = match kernel.for_aya() {
        // In this order: the map of subflows, which the reader takes, is part of both programs.
        Ok(types) => (
            optional("older subflows are not followed", object.over_sockets(types, ADOPTING)),
            optional("figures of living subflows are absent", attach_reader(&mut object, types)),
        ),
        Err(error) => (None, optional("figures of living and older subflows are absent", Err(error))),
    };
    let ring = RingBuf::try_from(object.take_map("EVENTS")?).map_err(|source| map_error("EVENTS", source))?;
    let aside = HashMap::try_from(object.take_map("ASIDE")?).map_err(|source| map_error("ASIDE", source))?;
    let log = match wanted_log_level() {
        0 => None,
        _ => Some(log(&mut object)?),
    };
    let mut stats = PathStats {
        events: sys::watch(ring).map_err(Error::Ring)?,
        meanwhile: VecDeque::new(),
        aside: Aside::new(aside),
        counters: Array::try_from(object.take_map("COUNTERS")?)
            .map_err(|source| map_error("COUNTERS", source))?,
        asleep: Array::try_from(object.take_map("ASLEEP")?).map_err(|source| map_error("ASLEEP", source))?,
        log,
        reader,
        absent,
        _link: link,
    };
    if let Some(adopter) = adopter {
        object.run(&adopter)?;
        let unheard = stats.counter(UNHEARD)?;
        if unheard > 0 {
            stats.absent.push(format!(
                "{unheard} subflows are older than the programs: their round-trip times are not counted, and that they have \
                 ended is seen by reading (Linux 6.12 tells both)"
            ));
        }
    }
    Ok(stats)
}

/// How much the programs log: what the daemon's log would show. For what is not wanted they have no code once the kernel
/// has taken them in.
fn wanted_log_level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) { aya_log::Level::Debug as u8 } else { 0 }
}

/// The lines of the programs, to go into the daemon's log.
fn log(object: &mut Object) -> Result<AsyncFd<EbpfLogger<LogTracer>>, Error> {
    let logger = EbpfLogger::init_with_logger(&mut object.ebpf, LogTracer::new());
    let logger = logger.map_err(|source| Error::Log { object: OBJECT, source: Box::new(source) })?;
    sys::watch(logger).map_err(Error::Ring)
}

/// The reading program visits the sockets that have an element in the map of subflows.
fn attach_reader(object: &mut Object, types: &Btf) -> Result<OwnedFd, Error> {
    let program = object.load_iterator(types, READING, "bpf_sk_storage_map")?;
    let Map::SkStorage(subflows) = object.take_map("SUBFLOWS")? else {
        return Err(Error::Mismatch { object: OBJECT, part: "SUBFLOWS" });
    };
    sys::attach_iterator(program.as_fd(), Some(subflows.fd().as_fd()))
        .map_err(|source| Error::AttachIterator { object: OBJECT, program: READING, source })
}
