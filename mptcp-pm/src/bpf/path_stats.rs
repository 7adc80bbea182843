//! The object `path_stats` at work: loaded for this network namespace, attached to the root cgroup, its figures read.
mod aside;
mod event;
mod load;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, MapData, RingBuf};
use aya::programs::sock_ops::SockOpsLink;
use aya_log::EbpfLogger;
use mptcp_common::path_stats::{Established, Lost, PUT_ASIDE, Sample};
use tokio::io::unix::AsyncFd;
use tracing_log::LogTracer;

use super::{Error, Kernel, sys};
use crate::view::paths::Losses;

use aside::Aside;
pub use event::Event;

const OBJECT: &str = "path_stats";

/// The subflows of this network namespace that have been established since the program was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubflowCounts {
    /// Initial subflows (MP_CAPABLE) that this side opened.
    pub capable_active: u64,
    /// Initial subflows that the peer opened.
    pub capable_passive: u64,
    /// Further subflows (MP_JOIN) that this side opened.
    pub join_active: u64,
    /// Further subflows that the peer opened.
    pub join_passive: u64,
}

/// The attached programs; dropping it detaches.
pub struct PathStats {
    events: AsyncFd<RingBuf<MapData>>,
    /// What was told while all subflows were read.
    meanwhile: VecDeque<Event>,
    aside: Aside,
    counters: Array<MapData, u64>,
    asleep: Array<MapData, u32>,
    /// What the programs log, when the daemon's log shows it.
    log: Option<AsyncFd<EbpfLogger<LogTracer>>>,
    /// Absent where the kernel refuses the iterator, which is known by `absent`.
    reader: Option<OwnedFd>,
    /// What does not work here, each in a sentence.
    absent: Vec<String>,
    _link: SockOpsLink,
}

impl PathStats {
    /// Loads the object for the network namespace of this thread, attaches it, and adopts the subflows that are there.
    /// Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it cannot do without; see [`Error`].
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        load::attach(kernel)
    }

    /// What does not work on this kernel, each in a sentence: the rest does.
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// What has been established so far.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn counts(&self) -> Result<SubflowCounts, Error> {
        let read = |way: Established| self.counter(way.index());
        Ok(SubflowCounts {
            capable_active: read(Established::CapableActive)?,
            capable_passive: read(Established::CapablePassive)?,
            join_active: read(Established::JoinActive)?,
            join_passive: read(Established::JoinPassive)?,
        })
    }

    /// What could not be told so far.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn losses(&self) -> Result<Losses, Error> {
        let read = |what: Lost| self.counter(what.index());
        Ok(Losses {
            subflows: read(Lost::Subflow)?,
            openings: read(Lost::Opening)?,
            closings: read(Lost::Closing)?,
            alarms: read(Lost::Alarm)?,
        })
    }

    fn counter(&self, index: u32) -> Result<u64, Error> {
        self.counters.get(&index, 0).map_err(|source| map_error("COUNTERS", source))
    }

    /// Reads all living subflows, one after the other. What else is told meanwhile comes with the next events.
    ///
    /// # Errors
    /// `Error::Iterate`, when the kernel refuses. Without the iterator there are none.
    pub fn read(&mut self, mut each: impl FnMut(&Sample)) -> Result<(), Error> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let mut iteration =
            sys::open_iterator(reader.as_fd()).map_err(|errno| iterate_error(errno.into()))?;
        loop {
            let is_complete = iterate(&mut iteration).map_err(iterate_error)?;
            while let Some(event) = take(self.events.get_mut()) {
                match event {
                    Event::Read(sample) => each(&sample),
                    other => self.meanwhile.push_back(other),
                }
            }
            if is_complete {
                return Ok(());
            }
        }
    }

    /// Waits for the next event; meanwhile passes on what the programs log. Cancelling it loses nothing.
    ///
    /// # Errors
    /// `Error::Ring`, when the ring buffers cannot be waited for.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.waiting() {
                return Ok(event);
            }
            tokio::select! {
                ready = self.events.readable_mut() => {
                    let mut ready = ready.map_err(Error::Ring)?;
                    // Cleared before the next look, so that what comes in between is not missed.
                    ready.clear_ready();
                }
                lines = logged(self.log.as_mut()) => lines?,
            }
        }
    }

    /// The next event, if one has been told already. What was put aside comes when the ring buffer is empty: whoever
    /// waits for that is woken, as it was full.
    pub fn waiting(&mut self) -> Option<Event> {
        let told = self.meanwhile.pop_front().or_else(|| take(self.events.get_mut()));
        told.or_else(|| self.put_aside().map(Event::Closed))
    }

    fn put_aside(&mut self) -> Option<Sample> {
        let put = self.counter(PUT_ASIDE);
        let next = put.and_then(|put| self.aside.next(put).map_err(|source| map_error("ASIDE", source)));
        next.unwrap_or_else(|error| {
            tracing::error!("{:#}", anyhow::Error::from(error));
            None
        })
    }

    /// Has [`Event::Awake`] told once, as soon as a subflow moves data.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to write the map.
    pub fn sleep(&mut self) -> Result<(), Error> {
        self.asleep.set(0, 1, 0).map_err(|source| map_error("ASLEEP", source))
    }
}

/// Passes on what was logged, as soon as there is something; without a log for ever.
async fn logged(log: Option<&mut AsyncFd<EbpfLogger<LogTracer>>>) -> Result<(), Error> {
    let Some(log) = log else { return std::future::pending().await };
    let mut ready = log.readable_mut().await.map_err(Error::Ring)?;
    ready.clear_ready();
    ready.get_inner_mut().flush();
    Ok(())
}

/// The next record that is understood. Others cannot come: the object and this code are built together.
fn take(ring: &mut RingBuf<MapData>) -> Option<Event> {
    while let Some(record) = ring.next() {
        match Event::parse(&record) {
            Some(event) => return Some(event),
            None => tracing::warn!(length = record.len(), "an eBPF record is not understood and passed over"),
        }
    }
    None
}

/// Lets an iteration go on, which has no output of its own. Tells whether it is complete; otherwise the ring buffer is to
/// be emptied first.
fn iterate(iteration: &mut File) -> io::Result<bool> {
    match iteration.read(&mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn map_error(map: &'static str, source: aya::maps::MapError) -> Error {
    Error::Map { object: OBJECT, map, source: Box::new(source) }
}

fn iterate_error(source: io::Error) -> Error {
    Error::Iterate { object: OBJECT, source }
}
