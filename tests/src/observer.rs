//! `PathStats` at work in a host of the lab: what it reads, and all that it has told.

use crate::Host;
use crate::daemon::PATIENCE;
use anyhow::{Context, Result, ensure};
use mptcp_common::path_stats::{Sample, Timeout};
use mptcp_pm::bpf::Kernel;
use mptcp_pm::bpf::path_stats::{Event, PathStats};
use nix::libc;
use std::cell::{RefCell, RefMut};
use std::net::IpAddr;
use std::time::Instant;
use tokio::runtime::Runtime;

/// The programs attached for one host; dropping it detaches them.
pub struct Observer {
    // Before the runtime in which it waits.
    stats: RefCell<PathStats>,
    runtime: Runtime,
    told: Vec<Event>,
}

impl Observer {
    /// Attaches them in a host.
    ///
    /// # Errors
    /// When the kernel refuses a program: also one of those that the daemon can do without.
    pub fn attach(host: &Host) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stats = host.run(|| {
            let _inside = runtime.enter();
            PathStats::attach(&Kernel::default())
        })?;
        ensure!(stats.absent().is_empty(), "{:?}", stats.absent());
        Ok(Self { stats: RefCell::new(stats), runtime, told: Vec::new() })
    }

    /// The programs themselves.
    pub fn stats(&self) -> RefMut<'_, PathStats> {
        self.stats.borrow_mut()
    }

    /// All living subflows.
    ///
    /// # Errors
    /// When the kernel refuses to read them.
    pub fn living(&self) -> Result<Vec<Sample>> {
        let mut living = Vec::new();
        self.stats().read(|sample| living.push(*sample))?;
        Ok(living)
    }

    /// All that has been told so far.
    pub fn told(&mut self) -> &[Event] {
        let stats = self.stats.get_mut();
        self.told.extend(std::iter::from_fn(|| stats.waiting()));
        &self.told
    }

    /// The first figures of all subflows that have begun.
    pub fn opened(&mut self) -> Vec<Sample> {
        let opening = |event: &Event| if let Event::Opened(sample) = event { Some(*sample) } else { None };
        self.told().iter().filter_map(opening).collect()
    }

    /// The last figures of all subflows that have ended.
    pub fn closed(&mut self) -> Vec<Sample> {
        let closing = |event: &Event| if let Event::Closed(sample) = event { Some(*sample) } else { None };
        self.told().iter().filter_map(closing).collect()
    }

    /// The alarms so far.
    pub fn timeouts(&mut self) -> Vec<Timeout> {
        let alarm = |event: &Event| if let Event::Timeout(timeout) = event { Some(*timeout) } else { None };
        self.told().iter().filter_map(alarm).collect()
    }

    /// Waits until what has been told is as expected.
    ///
    /// # Errors
    /// With what was expected and all that was told, when it is not in time.
    pub fn await_that(&mut self, expected: &str, holds: impl Fn(&mut Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            let left = end.saturating_duration_since(Instant::now());
            let stats = self.stats.get_mut();
            let next = self.runtime.block_on(async { tokio::time::timeout(left, stats.next()).await });
            let next = next.with_context(|| format!("expected {expected}, was told {:#?}", self.told))?;
            self.told.push(next?);
        }
        Ok(())
    }

    /// Waits until so many subflows, and all that have begun, have ended, each once; returns the last figures of each,
    /// and forgets all that has been told.
    ///
    /// # Errors
    /// When one does not end in time, or is told of twice.
    pub fn await_end(&mut self, at_least: usize) -> Result<Vec<Sample>> {
        let all = |this: &mut Self| {
            let closed = this.closed().len();
            closed >= at_least && closed >= this.opened().len()
        };
        self.await_that("the end of all subflows", all)?;
        let (opened, closed) = (cookies(&self.opened()), cookies(&self.closed()));
        ensure!(opened == closed, "begun {opened:?}, ended {closed:?}");
        let last = self.closed();
        self.told.clear();
        Ok(last)
    }
}

/// The local and the remote address of a subflow.
pub fn addresses(sample: &Sample) -> [IpAddr; 2] {
    [sample.kept.local, sample.kept.remote].map(|bytes| match bytes {
        [a, b, c, d, ..] if i32::from(sample.kept.family) == libc::AF_INET => IpAddr::from([a, b, c, d]),
        bytes => IpAddr::from(bytes),
    })
}

fn cookies(samples: &[Sample]) -> Vec<u64> {
    let mut cookies: Vec<u64> = samples.iter().map(|sample| sample.kept.cookie).collect();
    cookies.sort_unstable();
    cookies
}
