//! The system's clocks: what the monotonic one says, and when the realtime one jumps, as it does when a suspended
//! machine wakes up.
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::readable::{self, Owned};

/// The time of `CLOCK_MONOTONIC`, nanoseconds, as eBPF programs have it (`bpf_ktime_get_ns`).
pub fn monotonic_ns() -> u64 {
    // It is on every Linux.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// What this thread has taken of a processor's time so far.
pub fn processor_time() -> Duration {
    // It is on every Linux.
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}

/// When it was so late by `CLOCK_MONOTONIC`, nanoseconds, as the wall clock is set now.
pub fn realtime(ns: u64) -> SystemTime {
    SystemTime::now() - Duration::from_nanos(monotonic_ns().saturating_sub(ns))
}

/// Waits for a deadline; without one for ever, and without a timer.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Jumps of the realtime clock: a timer in the far future that the kernel cancels when the clock is set
/// (`TFD_TIMER_CANCEL_ON_SET`, timerfd_create(2)). Waking up sets the clock. While it does not jump, nothing wakes.
#[derive(Debug)]
pub struct Jumps {
    timer: AsyncFd<Owned<TimerFd>>,
}

impl Jumps {
    /// Begins to watch. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where the kernel gives no timer.
    pub fn watch() -> std::io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let jumps = Self { timer: readable::watch(timer)? };
        jumps.arm()?;
        Ok(jumps)
    }

    /// Waits for the next jump; for ever where the timer fails.
    pub async fn next(&mut self) {
        if self.wait().await.is_err() {
            std::future::pending().await
        }
    }

    /// The timer is readable when the clock was set; its own end is years away. It must be armed again, and whoever does
    /// that is told of the jump once more (`timerfd_setup`, fs/timerfd.c): by then it is armed.
    async fn wait(&mut self) -> std::io::Result<()> {
        self.timer.readable().await?.clear_ready();
        match self.arm() {
            Err(Errno::ECANCELED) => Ok(()),
            armed => armed.map_err(Into::into),
        }
    }

    fn arm(&self) -> nix::Result<()> {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)?;
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.timer.get_ref().0.set(Expiration::OneShot(now + TimeSpec::from_duration(YEAR * 30)), flags)
    }
}
