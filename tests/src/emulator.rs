//! The device loop of one link: carries packets between two TUN devices through two queues, on time.

use crate::queue::{Counters, Queue, Settings};
use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};
use tun_rs::SyncDevice;

/// Packets read from one device before the other direction and the due packets get their turn.
const BATCH: usize = 32;
/// Real-time priorities: the link itself goes before those who watch it.
const EMULATOR: &str = "20";
const OBSERVER: &str = "10";
/// The largest IP packet.
const LARGEST: usize = 65_535;

/// A direction of a link, seen from its first device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first device (the customer's side) to the second.
    Up,
    /// From the second device to the first.
    Down,
}

/// A running link; dropping it stops the loop and closes both devices.
pub struct Emulator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    clock: Instant,
    up: Mutex<Queue<Vec<u8>>>,
    down: Mutex<Queue<Vec<u8>>>,
    /// Ends the wait of the loop after a change of settings.
    wake: EventFd,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Emulator {
    /// Starts carrying packets between two nonblocking devices.
    ///
    /// # Errors
    /// When the thread or its event descriptor cannot be made.
    pub fn start(name: &str, ends: [SyncDevice; 2], up: Settings, down: Settings, seed: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            clock: Instant::now(),
            up: Mutex::new(Queue::new(up, seed)),
            down: Mutex::new(Queue::new(down, !seed)),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
                .context("make an event descriptor")?,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let worker = shared.clone();
        let thread = thread::Builder::new()
            .name(format!("link-{name}"))
            .spawn(move || worker.work(&ends))
            .context("start the link's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes the settings of one direction.
    pub fn set(&self, direction: Direction, change: impl FnOnce(&mut Settings)) {
        let mut queue = self.shared.queue(direction);
        let mut settings = queue.settings().clone();
        change(&mut settings);
        queue.set(self.shared.clock.elapsed(), settings);
        drop(queue);
        self.shared.wake();
    }

    /// The settings of one direction.
    pub fn settings(&self, direction: Direction) -> Settings {
        self.shared.queue(direction).settings().clone()
    }

    /// What became of the packets of one direction so far.
    ///
    /// # Errors
    /// When the loop has ended, so that the figures mean nothing any more.
    pub fn counters(&self, direction: Direction) -> Result<Counters> {
        if let Some(failure) = lock(&self.shared.failure).as_ref() {
            return Err(anyhow!("the link's device loop has failed: {failure}"));
        }
        Ok(self.shared.queue(direction).counters(self.shared.clock.elapsed()))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Gives the calling thread real-time priority and exact timers, as far as the machine permits: what measures
/// or keeps time must not wait behind the load that it watches. In turns with those of the same priority: a write to
/// `ip_forward` is begun anew, without a pause, as long as another task has the kernel's lock of links (`rtnl_trylock`,
/// net/ipv4/devinet.c), which that task would else never get the processor to release.
pub fn keep_time() {
    prefer(OBSERVER);
}

fn prefer(priority: &str) {
    // Only the timer slack of 50 µs matters where real-time priority is refused.
    let _ = nix::sys::prctl::set_timerslack(1);
    let tid = nix::unistd::gettid().to_string();
    let status = Command::new("chrt")
        .args(["--rr", "--pid", priority, &tid])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("lab: no real-time priority (chrt): delays may be late under load");
    }
}

impl Shared {
    fn queue(&self, direction: Direction) -> MutexGuard<'_, Queue<Vec<u8>>> {
        lock(match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        })
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the loop is awake.
        let _ = self.wake.write(1);
    }

    fn work(&self, ends: &[SyncDevice; 2]) {
        prefer(EMULATOR);
        if let Err(error) = self.carry(ends) {
            *lock(&self.failure) = Some(error.to_string());
        }
    }

    fn carry(&self, [first, second]: &[SyncDevice; 2]) -> io::Result<()> {
        let mut buffer = vec![0; LARGEST];
        while !self.stop.load(Ordering::Acquire) {
            let more = self.pull(first, &self.up, &mut buffer)?;
            let more = self.pull(second, &self.down, &mut buffer)? || more;
            let deadlines = [self.push(second, &self.up), self.push(first, &self.down)];
            if !more {
                self.wait([first, second], deadlines.into_iter().flatten().min())?;
            }
        }
        Ok(())
    }

    /// Reads a batch into the queue; true when there may be more.
    fn pull(&self, from: &SyncDevice, queue: &Mutex<Queue<Vec<u8>>>, buffer: &mut [u8]) -> io::Result<bool> {
        for _ in 0..BATCH {
            let size = match from.recv(buffer) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let packet = &buffer[..size];
            if !is_neighbourly(packet) {
                lock(queue).offer(self.clock.elapsed(), size, packet.to_vec());
            }
        }
        Ok(true)
    }

    /// Writes what has arrived; returns when there will be more.
    fn push(&self, to: &SyncDevice, queue: &Mutex<Queue<Vec<u8>>>) -> Option<Duration> {
        let mut queue = lock(queue);
        while let Some((size, packet)) = queue.pop(self.clock.elapsed()) {
            if to.send(&packet).is_err() {
                queue.refused(size);
            }
        }
        queue.deadline()
    }

    fn wait(&self, ends: [&SyncDevice; 2], deadline: Option<Duration>) -> io::Result<()> {
        let left = deadline.map(|at| TimeSpec::from(at.saturating_sub(self.clock.elapsed())));
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [ends[0].as_fd(), ends[1].as_fd(), self.wake.as_fd()].map(readable);
        match ppoll(&mut fds, left, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Reading clears the event; there being none is as good.
        let _ = self.wake.read();
        Ok(())
    }
}

/// Whether a packet is for the next router's ears only (link-scope multicast: the reports of IPv6 listeners that
/// the kernel sends for the device itself). No link of a provider would carry it, and no counter shows it.
fn is_neighbourly(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(16..19) == Some(&[224, 0, 0]),
        Some(6) => packet.get(24..26) == Some(&[0xff, 0x02]),
        _ => false,
    }
}

/// A queue stays consistent whatever a reader that panicked has seen of it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
