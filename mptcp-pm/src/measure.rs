//! Joins what the kernel's programs tell with the collector: takes events in, reads all subflows while data flows, and
//! sleeps while none does.
use std::time::{Duration, SystemTime};

use mptcp_common::path_stats::{Established, Sample};
use tokio::time::Instant;

use crate::bpf::path_stats::{Event, PathStats};
use crate::bpf::{self, Kernel};
use crate::clock::{self, monotonic_ns, sleep_until};
use crate::control::Feed;
use crate::core::alarm::Figures;
use crate::core::connections::{Ends, Token};
use crate::core::flow::FRESH;
use crate::core::service::Service;
use crate::core::uplink::Uplink;
use crate::coupling::{Coupling, Wanted};
use crate::interfaces;
use crate::source::{Source, joined};
use crate::stats::{Stats, ends};
use crate::view::event::{self, path::PathEvent};
use crate::view::status::Feature;

/// How long after a reading the next one comes, while data flows.
const PERIOD: Duration = Duration::from_secs(1);

/// The same while transfers may be about to become long.
const OFTEN: Duration = Duration::from_millis(50);

/// The same where so much is to be read that it would take more than [`SHARE`] of the time, and at most.
const LONGEST: Duration = Duration::from_secs(10);

/// The part of a processor that readings may take: one in so many.
const SHARE: u32 = 100;

/// The same while transfers may be about to become long.
const SHARE_OFTEN: u32 = 50;

/// The measurements of this network namespace.
pub struct Measure {
    /// Absent before the programs are loaded, and on kernels that lack what they need.
    source: Source<PathStats>,
    coupling: Coupling,
    stats: Stats,
    /// When all subflows are read next; none while nothing flows.
    next_reading: Option<Instant>,
    /// For those who want to know at once.
    feed: Feed,
    /// Somebody steers by what is read.
    steers: bool,
    /// Readings come often: transfers are growing.
    often: bool,
    /// When data was first seen to flow again.
    woken: Option<Instant>,
    /// How much of a processor's time the last one took, with what was decided on it.
    cost: Duration,
}

/// Where the figures of subflows go that somebody steers by, one after the other: all together they would take more room than
/// what is kept of them.
pub type Steer<'a> = &'a mut dyn FnMut(Figures);

/// Something to be taken in.
pub enum Due {
    /// The kernel's programs have told something.
    Told(Event),
    /// All subflows are to be read.
    Reading,
    /// The programs can no longer be listened to.
    Broken(bpf::Error),
}

impl Measure {
    /// Measures nothing yet.
    pub fn new() -> Self {
        Self {
            source: Source::new("path_stats"),
            coupling: Coupling::default(),
            stats: Stats::new(monotonic_ns()),
            next_reading: None,
            feed: Feed::default(),
            steers: false,
            often: false,
            woken: None,
            cost: Duration::ZERO,
        }
    }

    /// Loads the kernel's programs, and begins.
    pub fn start(&mut self, kernel: &Kernel) {
        self.source.begin(PathStats::attach(kernel), |source| joined(source.absent()));
        // There may be subflows already.
        self.next_reading = self.measures().then(Instant::now);
    }

    /// Has subflows use the congestion controls that are wanted for the service types of their connections.
    pub fn couple(
        &mut self,
        wanted: Wanted,
        served: impl Iterator<Item = (Token, Service)>,
        kernel: &Kernel,
    ) {
        self.coupling.set(wanted, served, kernel);
    }

    /// Takes in which connections have another service type now, none for those that have gone; `at_once` where somebody waits
    /// for their subflows to follow.
    pub fn serve(&mut self, served: Vec<(Token, Option<Service>)>, at_once: bool) {
        self.coupling.serve(served);
        if at_once {
            self.coupling.follow();
        }
    }

    /// Waits until there is something to be taken in: for ever, and without a timer, while nothing flows. Cancelling it
    /// loses nothing.
    pub async fn due(&mut self) -> Due {
        let Some(source) = self.source.get_mut() else { return std::future::pending().await };
        tokio::select! {
            told = source.next() => match told {
                Ok(event) => Due::Told(event),
                Err(error) => Due::Broken(error),
            },
            () = sleep_until(self.next_reading) => Due::Reading,
        }
    }

    /// Takes in what [`Self::due`] said.
    pub fn take(&mut self, due: Due, steer: Steer<'_>) {
        match due {
            Due::Told(event) => {
                self.told(&event, steer);
                self.hear_waiting(steer);
            }
            Due::Reading => self.read(steer),
            Due::Broken(error) => self.source.give_up(error),
        }
    }

    /// Whether somebody steers by what is read, and whether it has to be read often.
    pub fn pace(&mut self, steers: bool, often: bool) {
        self.steers = steers;
        let is_fresh = self.woken.is_some_and(|at| at.elapsed() < FRESH);
        self.often = steers && (often || is_fresh);
        let period = self.period();
        if self.often
            && let Some(next) = &mut self.next_reading
        {
            *next = (*next).min(Instant::now() + period);
        }
    }

    /// How much of a processor's time a reading has taken, with what was decided on it.
    pub const fn took(&mut self, cost: Duration) {
        self.cost = cost;
    }

    /// Whether subflows are measured at all.
    pub const fn measures(&self) -> bool {
        self.source.get().is_some()
    }

    /// Reads all subflows now, because somebody looks.
    pub fn look(&mut self, steer: Steer<'_>) {
        self.hear_waiting(steer);
        self.read_once(steer);
    }

    /// Reads all subflows unless that is done anyway while data flows: for those who come often.
    pub fn refresh(&mut self, steer: Steer<'_>) {
        if self.next_reading.is_none() {
            self.look(steer);
        }
    }

    /// What belongs to which uplink from now on.
    pub fn uplinks(&mut self, uplinks: &[Uplink]) {
        self.stats.uplinks(uplinks, &interfaces::addresses().unwrap_or_default());
    }

    /// What has been measured.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Where events of paths are told as they come.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Whether the programs that measure are at work.
    pub fn feature(&self) -> Feature {
        self.source.feature()
    }

    /// Whether coupled congestion control is at work; nothing where nobody asked for it.
    pub fn coupling(&self) -> Option<Feature> {
        self.coupling.feature()
    }

    /// How many windows coupled congestion control has put right; none where it is not at work.
    pub fn windows_mended(&self) -> Option<u64> {
        self.coupling.windows_mended()
    }

    fn told(&mut self, event: &Event, steer: Steer<'_>) {
        match event {
            Event::Opened(sample) => {
                self.stats.opened(sample);
                if self.steers {
                    steer(figures_of(sample));
                }
            }
            // Taken in, and forgotten only when those who listen have been told.
            Event::Closed(sample) | Event::Read(sample) => self.stats.read(sample),
            Event::Timeout(timeout) => tracing::debug!(?timeout, "retransmission timer expired"),
            Event::Awake => self.woken = Some(Instant::now()),
        }
        self.tell(event);
        if let Event::Closed(sample) = event {
            self.stats.closed(sample);
        }
        let period = self.period();
        self.next_reading.get_or_insert_with(|| Instant::now() + period);
    }

    /// Passes on what is about a path; costs nothing while nobody listens.
    fn tell(&self, event: &Event) {
        if !self.feed.is_heard() {
            return;
        }
        if let Some(event) = PathEvent::new(event, &self.stats, clock::realtime) {
            self.feed.tell(&event);
        }
    }

    /// Takes in what the kernel's programs have told already.
    pub fn hear_waiting(&mut self, steer: Steer<'_>) {
        while let Some(event) = self.source.get_mut().and_then(PathStats::waiting) {
            self.told(&event, steer);
        }
    }

    /// Reads, and decides when to read again. Before it sleeps it asks to be woken, and then reads once more: something
    /// may have begun to flow in between.
    fn read(&mut self, steer: Steer<'_>) {
        self.hear_waiting(steer);
        self.read_once(steer);
        if !self.stats.is_flowing()
            && let Some(source) = self.source.get_mut()
        {
            if let Err(error) = source.sleep() {
                tracing::error!("{:#}", anyhow::Error::from(error));
            }
            self.read_once(steer);
        }
        self.next_reading = self.stats.is_flowing().then(|| Instant::now() + self.period());
    }

    fn read_once(&mut self, steer: Steer<'_>) {
        let Some(source) = self.source.get_mut() else { return };
        let (stats, steers) = (&mut self.stats, self.steers);
        match self.coupling.connections() {
            Ok(told) => stats.coupled(told),
            Err(error) => tracing::error!("{:#}", anyhow::Error::from(error)),
        }
        stats.begin();
        let mut take = |sample: &Sample| {
            stats.read(sample);
            if steers {
                steer(figures_of(sample));
            }
        };
        let read = source.read(&mut take).and_then(|()| source.losses());
        match read {
            Ok(losses) => {
                if stats.lost(losses) {
                    self.feed.tell(&event::Event::lost(SystemTime::now()));
                }
            }
            Err(error) => tracing::error!("{:#}", anyhow::Error::from(error)),
        }
        stats.end(monotonic_ns());
    }

    fn period(&self) -> Duration {
        let (share, shortest) = if self.often { (SHARE_OFTEN, OFTEN) } else { (SHARE, PERIOD) };
        (self.cost * share).clamp(shortest, LONGEST)
    }
}

/// What the core steers by.
fn figures_of(sample: &Sample) -> Figures {
    let (live, kept) = (&sample.live, &sample.kept);
    Figures {
        token: kept.token,
        ends: Ends::new(ends::local(kept), ends::remote(kept)),
        opened: Established::is_active_at(kept.way),
        rtt: (live.rtt_us > 0).then(|| Duration::from_micros(live.rtt_us.into())),
        least: (live.rtt_min_us != u32::MAX).then(|| Duration::from_micros(live.rtt_min_us.into())),
        acked: live.bytes_acked,
        received: live.bytes_received,
        // The last segments of a window may wait for company.
        backlogged: live.in_flight + live.in_flight / 4 >= live.cwnd,
    }
}
