//! Requests to the kernel over a netlink socket, and their whole answers; one request at a time.
use std::{io, time::Duration};

use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader};
use nix::errno::Errno;

use self::answer::{Answer, Expect, HEADER, Keep};
pub use self::{
    answer::{Fault, Refusal},
    socket::{Datagram, Datagrams, KernelSocket},
    wire::{Between, come_between, step_aside},
};

pub(super) mod answer;
mod socket;
pub(super) mod wire;

/// How long the kernel may take to answer. It answers within the system call that asks; only a lost
/// answer takes longer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump, or a request that changes nothing, is repeated when its answer was not consistent.
const ATTEMPTS: u32 = 4;

/// Sends requests over `S` and gathers their answers.
#[derive(Debug)]
pub struct Client<S = KernelSocket> {
    socket: S,
    sequence: u32,
    timeout: Duration,
}

/// What is asked of the kernel.
struct Request<'a, T> {
    /// The type of the message.
    kind: u16,
    /// Its flags beside `NLM_F_REQUEST`.
    flags: u16,
    /// What follows its header.
    body: &'a [u8],
    expect: Expect,
    /// What is kept of each message that answers; `None` passes it over.
    keep: Keep<T>,
    /// How often it may be sent, all in all.
    attempts: u32,
}

impl Client {
    /// Opens a socket of a netlink protocol (`NETLINK_GENERIC`, `NETLINK_SOCK_DIAG`).
    pub fn open(protocol: isize) -> io::Result<Self> {
        KernelSocket::open(protocol).map(|socket| Self::new(socket, TIMEOUT))
    }
}

impl<S: Datagrams> Client<S> {
    /// Speaks over a socket; `timeout` is for one whole request, repetitions included.
    pub const fn new(socket: S, timeout: Duration) -> Self {
        Self { socket, sequence: 0, timeout }
    }

    /// Changes something: the answer is an acknowledgement.
    pub async fn change(&mut self, kind: u16, body: &[u8]) -> Result<(), Fault> {
        let (flags, expect) = (NLM_F_ACK, Expect::Acknowledgement);
        self.limited(&Request { kind, flags, body, expect, keep: body_of, attempts: 1 }).await.map(drop)
    }

    /// Asks for one thing: the answer is the body of one message.
    pub async fn get(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let expect = Expect::Message;
        let request = Request { kind, flags: 0, body, expect, keep: body_of, attempts: ATTEMPTS };
        let bodies = self.limited(&request).await?;
        bodies.into_iter().next().ok_or(Fault::Malformed("an empty answer".to_owned()))
    }

    /// Asks for everything of a kind: the answer is the bodies of any number of messages.
    pub async fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        self.dump_as(kind, body, body_of, ATTEMPTS).await
    }

    /// Asks for everything of a kind, at most so many times, and keeps of each message, header included, what `keep`
    /// makes of it.
    pub(super) async fn dump_as<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        keep: Keep<T>,
        attempts: u32,
    ) -> Result<Vec<T>, Fault> {
        self.limited(&Request { kind, flags: NLM_F_DUMP, body, expect: Expect::Dump, keep, attempts }).await
    }

    async fn limited<T>(&mut self, request: &Request<'_, T>) -> Result<Vec<T>, Fault> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.repeated(request)).await.unwrap_or(Err(Fault::NoAnswer(timeout)))
    }

    async fn repeated<T>(&mut self, request: &Request<'_, T>) -> Result<Vec<T>, Fault> {
        for _ in 1..request.attempts {
            match self.once(request).await {
                Err(fault) if fault.is_transient() => {}
                answer => return answer,
            }
        }
        self.once(request).await
    }

    async fn once<T>(&mut self, request: &Request<'_, T>) -> Result<Vec<T>, Fault> {
        // A request that was given up may still be answered: a number of its own tells the answers apart.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut header = NetlinkHeader::default();
        header.message_type = request.kind;
        header.flags = NLM_F_REQUEST | request.flags;
        header.sequence_number = self.sequence;
        self.socket.send(&message(header, request.body)).await?;
        let mut answer = Answer::new(request.expect, self.sequence, self.socket.port(), request.keep);
        loop {
            let datagram = self.socket.receive().await?;
            if datagram.sender == 0 && answer.take(datagram.bytes)? {
                return Ok(answer.into_kept());
            }
        }
    }
}

/// What an operation on an object failed with.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}: {fault}")]
pub struct Error {
    /// The operation, such as `add endpoint`.
    pub operation: &'static str,
    /// What it was done to, such as an address or a connection's token.
    pub object: String,
    /// Why.
    pub fault: Fault,
}

impl Error {
    pub(super) fn new(operation: &'static str, object: impl ToString, fault: impl Into<Fault>) -> Self {
        Self { operation, object: object.to_string(), fault: fault.into() }
    }

    /// The kernel's refusal, if that is what it was.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match &self.fault {
            Fault::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The error number of the kernel's refusal.
    pub fn errno(&self) -> Option<Errno> {
        self.refusal().map(|refusal| refusal.errno)
    }

    /// What was to be added is there already: `EEXIST` for an address, `EBUSY` for an id.
    pub fn is_exists(&self) -> bool {
        matches!(self.errno(), Some(Errno::EEXIST | Errno::EBUSY))
    }

    /// What was to be changed or removed is not there: an address, an id, a subflow or a connection.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(Refusal::is_not_found)
    }

    /// There is no room for another endpoint (`ERANGE`).
    pub fn is_full(&self) -> bool {
        self.errno() == Some(Errno::ERANGE)
    }
}

/// A message without its header.
fn body_of(message: &[u8]) -> Option<Vec<u8>> {
    message.get(HEADER..).map(<[u8]>::to_vec)
}

/// A whole netlink message; the header's length is filled in.
fn message(mut header: NetlinkHeader, body: &[u8]) -> Vec<u8> {
    // Requests are far shorter than 4 GiB.
    header.length = (HEADER + body.len()) as u32;
    let mut message = vec![0; HEADER];
    header.emit(&mut message);
    message.extend_from_slice(body);
    message
}
