//! Joins what the kernel's programs tell with the collector: takes events in, reads all subflows while data flows, and
//! sleeps while none does.
use std::time::{Duration, SystemTime};

use mptcp_common::path_stats::Sample;
use tokio::time::Instant;

use crate::bpf::coupled::Algorithm;
use crate::bpf::path_stats::{Event, PathStats};
use crate::clock::{self, monotonic_ns, sleep_until};
use crate::control::Feed;
use crate::core::alarm::Figures;
use crate::core::connections::Ends;
use crate::core::uplink::Uplink;
use crate::coupling::Coupling;
use crate::interfaces;
use crate::stats::{Stats, ends};
use crate::view::event::{self, path::PathEvent};
use crate::view::status::Feature;

/// How long after a reading the next one comes, while data flows.
const PERIOD: Duration = Duration::from_secs(1);

/// The same while transfers may be about to become long.
const OFTEN: Duration = Duration::from_millis(50);

/// The measurements of this network namespace.
pub struct Measure {
    /// Absent before the programs are loaded, and on kernels that lack what they need.
    source: Option<PathStats>,
    /// Why there is no source, or not all of it.
    absent: Option<String>,
    coupling: Coupling,
    stats: Stats,
    /// When all subflows are read next; none while nothing flows.
    next_reading: Option<Instant>,
    /// For those who want to know at once.
    feed: Feed,
    /// What was read since somebody last took it; nothing where nobody steers by it.
    figures: Option<Vec<Figures>>,
    /// Readings come often: transfers are growing.
    often: bool,
}

/// Something to be taken in.
pub enum Due {
    /// The kernel's programs have told something.
    Told(Event),
    /// All subflows are to be read.
    Reading,
    /// The programs can no longer be listened to.
    Broken(String),
}

impl Measure {
    /// Measures nothing yet.
    pub fn new() -> Self {
        let absent = Some("not loaded yet".to_owned());
        let (stats, feed) = (Stats::new(monotonic_ns()), Feed::default());
        let coupling = Coupling::default();
        Self { source: None, absent, coupling, stats, next_reading: None, feed, figures: None, often: false }
    }

    /// Loads the kernel's programs, and begins.
    pub fn start(&mut self) {
        match PathStats::attach() {
            Ok(source) => {
                self.absent = (!source.absent().is_empty()).then(|| source.absent().join("; "));
                self.source = Some(source);
                // There may be subflows already.
                self.next_reading = Some(Instant::now());
            }
            Err(error) => self.absent = Some(format!("{:#}", anyhow::Error::from(error))),
        }
        if let Some(reason) = &self.absent {
            tracing::warn!("eBPF object path_stats is not wholly at work: {reason}");
        }
    }

    /// Has subflows use this congestion control; none for the system's default.
    pub fn couple(&mut self, algorithm: Option<Algorithm>) {
        self.coupling.set(algorithm);
    }

    /// Waits until there is something to be taken in: for ever, and without a timer, while nothing flows. Cancelling it
    /// loses nothing.
    pub async fn due(&mut self) -> Due {
        let Some(source) = &mut self.source else { return std::future::pending().await };
        tokio::select! {
            told = source.next() => match told {
                Ok(event) => Due::Told(event),
                Err(error) => Due::Broken(format!("{:#}", anyhow::Error::from(error))),
            },
            () = sleep_until(self.next_reading) => Due::Reading,
        }
    }

    /// Takes in what [`Self::due`] said.
    pub fn take(&mut self, due: Due) {
        match due {
            Due::Told(event) => {
                self.told(&event);
                self.tell_waiting();
            }
            Due::Reading => self.read(),
            Due::Broken(reason) => {
                tracing::error!("eBPF object path_stats is given up: {reason}");
                self.source = None;
                self.absent = Some(reason);
            }
        }
    }

    /// What was read since this was last called, for those who steer by it.
    pub fn figures(&mut self) -> Vec<Figures> {
        self.figures.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether somebody steers by what is read, and whether it has to be read often.
    pub fn pace(&mut self, steers: bool, often: bool) {
        match (steers, &self.figures) {
            (true, None) => self.figures = Some(Vec::new()),
            (false, Some(_)) => self.figures = None,
            _ => {}
        }
        self.often = steers && often;
        if self.often
            && let Some(next) = &mut self.next_reading
        {
            *next = (*next).min(Instant::now() + OFTEN);
        }
    }

    /// Whether subflows are measured at all.
    pub const fn measures(&self) -> bool {
        self.source.is_some()
    }

    /// Reads all subflows now, because somebody looks.
    pub fn look(&mut self) {
        self.tell_waiting();
        self.read_once();
    }

    /// Reads all subflows unless that was done within the last second anyway: for those who come often.
    pub fn refresh(&mut self) {
        if self.next_reading.is_none() {
            self.look();
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
        Feature { name: "path_stats".to_owned(), absent: self.absent.clone() }
    }

    /// Whether coupled congestion control is at work; nothing where nobody asked for it.
    pub fn coupling(&self) -> Option<Feature> {
        self.coupling.feature()
    }

    fn told(&mut self, event: &Event) {
        match event {
            Event::Opened(sample) => {
                self.stats.opened(sample);
                self.figures.iter_mut().for_each(|figures| figures.push(figures_of(sample)));
            }
            // Taken in, and forgotten only when those who listen have been told.
            Event::Closed(sample) => self.stats.read(sample),
            Event::Timeout(timeout) => tracing::debug!(?timeout, "retransmission timer expired"),
            Event::Awake => {}
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

    fn tell_waiting(&mut self) {
        while let Some(event) = self.source.as_mut().and_then(PathStats::waiting) {
            self.told(&event);
        }
    }

    /// Reads, and decides when to read again. Before it sleeps it asks to be woken, and then reads once more: something
    /// may have begun to flow in between.
    fn read(&mut self) {
        self.tell_waiting();
        self.read_once();
        if !self.stats.is_flowing()
            && let Some(source) = &mut self.source
        {
            if let Err(error) = source.sleep() {
                tracing::error!("{:#}", anyhow::Error::from(error));
            }
            self.read_once();
        }
        self.next_reading = self.stats.is_flowing().then(|| Instant::now() + self.period());
    }

    fn read_once(&mut self) {
        let Some(source) = &self.source else { return };
        let (stats, figures) = (&mut self.stats, &mut self.figures);
        match self.coupling.connections() {
            Ok(told) => stats.coupled(told),
            Err(error) => tracing::error!("{:#}", anyhow::Error::from(error)),
        }
        stats.begin();
        let mut take = |sample: &Sample| {
            stats.read(sample);
            figures.iter_mut().for_each(|figures| figures.push(figures_of(sample)));
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
        if self.often { OFTEN } else { PERIOD }
    }
}

/// What the core steers by.
fn figures_of(sample: &Sample) -> Figures {
    let (live, kept) = (&sample.live, &sample.kept);
    Figures {
        token: kept.token,
        ends: Ends { local: ends::local(kept), remote: ends::remote(kept) },
        rtt: (live.rtt_us > 0).then(|| Duration::from_micros(live.rtt_us.into())),
        least: (live.rtt_min_us != u32::MAX).then(|| Duration::from_micros(live.rtt_min_us.into())),
        acked: live.bytes_acked,
        received: live.bytes_received,
        // The last segments of a window may wait for company.
        backlogged: live.in_flight + live.in_flight / 4 >= live.cwnd,
    }
}
