//! How client and server talk: frames on a stream, each read and write within the transfer's deadline.
//!
//! A frame is its length (32 bits, big-endian) and its content. The client begins with an [`Order`] in JSON; where the
//! content is held, an empty frame from each end follows.
//! Content ends with an empty frame; then each end that has something to say sends its [`Account`] in JSON.

use super::meter::Meter;
use crate::rng::Rng;
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Content bytes of one frame of a bulk transfer.
const CHUNK: usize = 64 * 1024;
/// No frame is longer: a corrupt length must not make the receiver wait for more than this.
const LONGEST: usize = 16 << 20;

/// What a transfer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// The client sends.
    BulkUp,
    /// The server sends.
    BulkDown,
    /// The client asks and the server answers, one after the other.
    RequestResponse,
}

/// When a transfer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// After this many bytes of content.
    Bytes(u64),
    /// After this long.
    Duration(Duration),
}

impl Amount {
    /// How many bytes of at most `most` come next; none at the end.
    pub(super) fn next(self, done: u64, elapsed: Duration, most: usize) -> usize {
        match self {
            Self::Bytes(bytes) => (bytes - done).min(most as u64) as usize,
            Self::Duration(duration) if elapsed < duration => most,
            Self::Duration(_) => 0,
        }
    }
}

/// What the client wants, sent first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Under which the client's meter is known at the server object.
    pub(super) id: u64,
    pub(super) job: Job,
    pub(super) amount: Amount,
    pub(super) congestion: Option<String>,
    pub(super) response: usize,
    /// The server says that it is ready, with an empty frame, and begins after the client's.
    pub(super) hold: bool,
    pub(super) deadline: Duration,
}

/// What one end has seen of the content.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Sums up content.
#[derive(Default)]
pub(super) struct Ledger {
    bytes: u64,
    hash: Sha256,
}

impl Ledger {
    pub(super) fn add(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        self.hash.update(content);
    }

    pub(super) fn account(self) -> Account {
        let sha256 = self.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Account { bytes: self.bytes, sha256 }
    }
}

/// A connection with a deadline.
pub(super) struct Channel {
    stream: TcpStream,
    deadline: Instant,
    /// The frame being sent or received, its length included.
    frame: Vec<u8>,
    sent: u64,
    received: u64,
}

impl Channel {
    pub(super) fn new(stream: TcpStream, deadline: Instant) -> Self {
        Self { stream, deadline, frame: Vec::with_capacity(CHUNK + 4), sent: 0, received: 0 }
    }

    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes that went into the stream and that came out of it, frames' lengths included.
    pub(super) fn carried(&self) -> [u64; 2] {
        [self.sent, self.received]
    }

    /// Sends a frame of `size` bytes that `fill` writes; the bytes it wrote are returned.
    pub(super) fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<&[u8]> {
        self.frame.resize(size + 4, 0);
        self.frame[..4].copy_from_slice(&u32::try_from(size)?.to_be_bytes());
        fill(&mut self.frame[4..]);
        let mut sent = 0;
        while sent < self.frame.len() {
            self.stream.set_write_timeout(Some(left(self.deadline)?))?;
            sent += again(self.stream.write(&self.frame[sent..])).context("send")?;
        }
        self.sent += sent as u64;
        Ok(&self.frame[4..])
    }

    /// Receives a frame; `meter` notes its content as it arrives.
    pub(super) fn receive(&mut self, meter: Option<&Meter>) -> Result<&[u8]> {
        self.frame.resize(4, 0);
        self.read(0, None)?;
        let size = self.frame.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        ensure!(size <= LONGEST, "a frame of {size} bytes: the stream is corrupt");
        self.frame.resize(4 + size, 0);
        self.read(4, meter)?;
        Ok(&self.frame[4..])
    }

    pub(super) fn send_json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value)?;
        self.send(text.len(), |frame| frame.copy_from_slice(&text)).map(drop)
    }

    pub(super) fn receive_json<T: DeserializeOwned>(&mut self) -> Result<T> {
        serde_json::from_slice(self.receive(None)?).context("understand the peer")
    }

    /// Fills the frame from `done` on.
    fn read(&mut self, mut done: usize, meter: Option<&Meter>) -> Result<()> {
        while done < self.frame.len() {
            self.stream.set_read_timeout(Some(left(self.deadline)?))?;
            let result = self.stream.read(&mut self.frame[done..]);
            if matches!(result, Ok(0)) {
                bail!("the peer has closed the connection too early");
            }
            let size = again(result).context("receive")?;
            if let Some(meter) = meter.filter(|_| size > 0) {
                meter.add(size);
            }
            done += size;
            self.received += size as u64;
        }
        Ok(())
    }
}

/// Sends generated content until `amount` is done, then the end mark.
pub(super) fn send_bulk(channel: &mut Channel, amount: Amount, seed: u64) -> Result<Account> {
    let (mut ledger, mut rng, started) = (Ledger::default(), Rng::new(seed), Instant::now());
    loop {
        let size = amount.next(ledger.bytes, started.elapsed(), CHUNK);
        let content = channel.send(size, |frame| rng.fill(frame))?;
        if content.is_empty() {
            return Ok(ledger.account());
        }
        ledger.add(content);
    }
}

/// Receives content until the end mark.
pub(super) fn receive_bulk(channel: &mut Channel, meter: &Meter) -> Result<Account> {
    let mut ledger = Ledger::default();
    loop {
        let content = channel.receive(Some(meter))?;
        if content.is_empty() {
            return Ok(ledger.account());
        }
        ledger.add(content);
    }
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "the deadline has passed");
    Ok(left)
}

/// A call that was interrupted or ran into its timeout has moved nothing; the deadline decides what follows.
fn again(result: std::io::Result<usize>) -> std::io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(0),
        other => other,
    }
}
