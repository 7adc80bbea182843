//! Traffic that any test can use: bulk transfers and exchanges of messages over MPTCP or plain TCP, with a
//! content hash at both ends, the longest stall that the application sees, and progress over time.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use tests::traffic::{self, Options, Protocol, Server};
//! use tests::{Family, Lab, Scenario};
//!
//! let lab = Lab::start(&Scenario::load("two-providers")?, Family::V4)?;
//! let server = Server::start(lab.host("server"), Protocol::Mptcp)?;
//! let report = traffic::bulk_up(lab.host("client"), &server, Options::bytes(1 << 20))?;
//! assert!(report.intact() && report.spoken == traffic::Spoken::Mptcp);
//! # Ok(())
//! # }
//! ```

mod client;
mod meter;
mod server;
pub mod udp;
mod wire;

pub use client::{Transfer, bulk_down, bulk_up, request_response, start};
pub use meter::{Progress, Sample, Stall};
pub use server::Server;
pub use wire::{Amount, Job};

use std::net::IpAddr;
use std::time::Duration;

/// What a socket is asked to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Plain TCP.
    Tcp,
    /// Multipath TCP (`IPPROTO_MPTCP`), which falls back to TCP when the peer does not speak it.
    Mptcp,
}

/// What a connection really spoke at its end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// Plain TCP, as asked.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// An MPTCP socket that fell back to TCP.
    Fallback,
}

/// How a transfer is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much.
    pub amount: Amount,
    /// What the client's socket speaks; that of the server by default.
    pub protocol: Option<Protocol>,
    /// The server's address; by default its first global one, of the family of `bind` if that is set.
    pub to: Option<IpAddr>,
    /// The client's local address; by default the kernel chooses.
    pub bind: Option<IpAddr>,
    /// The client's interface (`SO_BINDTODEVICE`); by default the kernel chooses.
    pub interface: Option<String>,
    /// Congestion control at both ends, `None` for the kernel's default. It is CUBIC unless told otherwise:
    /// nearly every machine uses it, whatever the kernel under the tests was built with.
    pub congestion: Option<String>,
    /// Whether the content waits, once the connection is there, for [`Transfer::go`].
    pub hold: bool,
    /// When the transfer fails if it has not ended, whatever happened.
    pub deadline: Duration,
    /// Bytes of each request, for [`Job::RequestResponse`].
    pub request: usize,
    /// Bytes of each response, for [`Job::RequestResponse`].
    pub response: usize,
    /// From the start of one request to that of the next; zero sends the next after each response.
    pub interval: Duration,
}

impl Options {
    /// A transfer of this many bytes (for messages: of all requests together).
    pub fn bytes(bytes: u64) -> Self {
        Self::new(Amount::Bytes(bytes))
    }

    /// A transfer that goes on for this long.
    pub fn duration(duration: Duration) -> Self {
        Self::new(Amount::Duration(duration))
    }

    /// This many requests of `request` bytes with responses of `response` bytes.
    pub fn messages(count: u64, request: usize, response: usize) -> Self {
        Self { request, response, ..Self::bytes(count * request as u64) }
    }

    fn new(amount: Amount) -> Self {
        Self {
            amount,
            protocol: None,
            to: None,
            bind: None,
            interface: None,
            congestion: Some("cubic".to_owned()),
            hold: false,
            deadline: Duration::from_secs(60),
            request: 200,
            response: 200,
            interval: Duration::ZERO,
        }
    }
}

/// How a transfer went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Bytes of content: of a bulk transfer as the receiver got them, of messages both ways.
    pub bytes: u64,
    /// From before the connection was opened until the client knew that all had arrived.
    pub duration: Duration,
    /// When the client asked for the content to begin, since the transfer was started; zero unless it was held.
    pub begun: Duration,
    /// SHA-256 of the content as the client saw it.
    pub client_sha256: String,
    /// SHA-256 of the content as the server saw it, told through the connection.
    pub server_sha256: String,
    /// The longest time without progress at the receiver of a bulk transfer, or the slowest response.
    pub stall: Stall,
    /// Progress at the receiver of a bulk transfer, or of the responses.
    pub progress: Progress,
    /// Of messages: when each request was sent, since the transfer was started.
    pub asked: Vec<Duration>,
    /// Of messages: from sending each request to having its whole response.
    pub latencies: Vec<Duration>,
    /// All bytes of the stream that the client sent and received: content, and what client and server tell each other.
    pub carried: [u64; 2],
    /// What the connection really spoke.
    pub spoken: Spoken,
}

impl Report {
    /// Whether both ends saw the same content.
    pub fn intact(&self) -> bool {
        self.client_sha256 == self.server_sha256
    }

    /// Mean content rate over the whole duration, in bit/s.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.duration.as_secs_f64()
    }
}
