//! The object `silence` at work: it says at once when nothing comes back on a subflow of this network namespace.
mod alarm;

use std::os::fd::OwnedFd;
use std::time::Duration;

use aya::maps::{Array, HashMap, MapData, MapError, RingBuf};
use aya::programs::sock_ops::SockOpsLink;
use mptcp_common::fields::Field;
use mptcp_common::silence::{Counter, Watched};
use tokio::io::unix::AsyncFd;

use super::attach::{self, Object};
use super::{Error, Kernel, sys};

pub use alarm::{Alarm, Kind};

const OBJECT: &str = "silence";
const WATCHING: &str = "silence";
const ADOPTING: &str = "adopt";

/// Without these it would give false alarms, or none.
pub(super) const NEEDED: [Field; 21] = [
    Field::State,
    Field::Cookie,
    Field::Family,
    Field::CongestionState,
    Field::LastReceived,
    Field::AnswerReceived,
    Field::UlpData,
    Field::OnItsWay,
    Field::TreeLeft,
    Field::PacketNode,
    Field::PacketSent,
    Field::SegmentsIn,
    Field::DataSegmentsIn,
    Field::DataSegmentsOut,
    Field::SegmentsRetransmitted,
    Field::Delivered,
    Field::Rtt,
    Field::RttDeviation,
    Field::InFlight,
    Field::CalledAt,
    Field::IsMptcp,
];

/// What it could not do so far, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subflows that are not watched: there was no room for them, see
    /// [`MAX_WATCHED`](mptcp_common::silence::MAX_WATCHED), or no memory.
    pub not_watched: u64,
    /// Alarms that were not told: the ring buffer was full.
    pub untold: u64,
    /// How often subflows were looked at.
    pub looks: u64,
    /// How long that took altogether.
    pub looked: Duration,
}

/// The attached programs; dropping it detaches.
pub struct Silence {
    alarms: AsyncFd<RingBuf<MapData>>,
    counters: Array<MapData, u64>,
    patience: HashMap<MapData, u32, u32>,
    /// Timers run as long as somebody holds the map that they are in.
    watched: HashMap<MapData, u64, [u8; size_of::<Watched<[u64; 2]>>()]>,
    /// What does not work here, each in a sentence.
    absent: Vec<String>,
    _link: SockOpsLink,
}

impl Silence {
    /// Loads the object for the network namespace of this thread, attaches it, and begins to watch the subflows that are
    /// there. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it cannot do without (timers of eBPF:
    /// Linux 5.15); see [`Error`].
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        let offsets = kernel.types()?.table_with(&NEEDED)?;
        let tick = attach::tick_ns()?.to_ne_bytes();
        let mut object = Object::load(OBJECT, &offsets, &[("TICK_NS", &tick)])?;
        let link = object.attach_to_root(WATCHING)?;
        let mut absent = Vec::new();
        let adopter = kernel.for_aya().and_then(|types| object.over_sockets(types, ADOPTING));
        let adopted = adopter.and_then(|adopter: OwnedFd| object.run(&adopter));
        if let Err(error) = adopted {
            absent.push(format!("older subflows are not watched: {:#}", anyhow::Error::from(error)));
        }
        let ring = RingBuf::try_from(object.take_map("ALARMS")?);
        let ring = ring.map_err(|source| map_error("ALARMS", source))?;
        let counters = Array::try_from(object.take_map("COUNTERS")?);
        let patience = HashMap::try_from(object.take_map("PATIENCE")?);
        let watched = HashMap::try_from(object.take_map("WATCHED")?);
        Ok(Self {
            alarms: sys::watch(ring).map_err(Error::Ring)?,
            counters: counters.map_err(|source| map_error("COUNTERS", source))?,
            patience: patience.map_err(|source| map_error("PATIENCE", source))?,
            watched: watched.map_err(|source| map_error("WATCHED", source))?,
            absent,
            _link: link,
        })
    }

    /// What does not work on this kernel, each in a sentence: the rest does.
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// Waits for the next alarm. Cancelling it loses nothing.
    ///
    /// # Errors
    /// `Error::Ring`, when the ring buffer cannot be waited for.
    pub async fn next(&mut self) -> Result<Alarm, Error> {
        loop {
            if let Some(alarm) = self.waiting() {
                return Ok(alarm);
            }
            let mut ready = self.alarms.readable_mut().await.map_err(Error::Ring)?;
            // Cleared before the next look, so that what comes in between is not missed.
            ready.clear_ready();
        }
    }

    /// The next alarm, if one has been told already.
    pub fn waiting(&mut self) -> Option<Alarm> {
        let ring = self.alarms.get_mut();
        while let Some(record) = ring.next() {
            match Alarm::parse(&record) {
                Some(alarm) => return Some(alarm),
                None => tracing::warn!(length = record.len(), "an alarm is not understood and passed over"),
            }
        }
        None
    }

    /// Has silence up to this long pass for usual on an interface, the one that subflows are bound to or else receive by:
    /// nothing is late or quiet before, and silent only somewhat later. Zero is as before.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to write the map: it has room for 256 interfaces.
    pub fn set_patience(&mut self, ifindex: u32, patience: Duration) -> Result<(), Error> {
        let micros = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
        let written = match (micros, self.patience.get(&ifindex, 0)) {
            (0, Err(MapError::KeyNotFound)) => Ok(()),
            (0, _) => self.patience.remove(&ifindex),
            _ => self.patience.insert(ifindex, micros, 0),
        };
        written.map_err(|source| map_error("PATIENCE", source))
    }

    /// What it could not do so far, and what it took.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn counts(&self) -> Result<Counts, Error> {
        let read = |counter: Counter| {
            self.counters.get(&counter.index(), 0).map_err(|source| map_error("COUNTERS", source))
        };
        Ok(Counts {
            not_watched: read(Counter::NotWatched)?,
            untold: read(Counter::Untold)?,
            looks: read(Counter::Looks)?,
            looked: Duration::from_nanos(read(Counter::LooksNs)?),
        })
    }

    /// How many subflows are being watched now.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn watched(&self) -> Result<usize, Error> {
        let mut number = 0;
        for key in self.watched.keys() {
            key.map_err(|source| map_error("WATCHED", source))?;
            number += 1;
        }
        Ok(number)
    }
}

fn map_error(map: &'static str, source: MapError) -> Error {
    Error::Map { object: OBJECT, map, source: Box::new(source) }
}
