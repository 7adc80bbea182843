//! Gathers the messages that answer one request, and says when the answer is whole; pure.
use std::{fmt, io, time::Duration};

use netlink_packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_MULTIPART,
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer,
};
use nix::errno::Errno;

use crate::netlink::attributes::parse_all;

/// The length of a netlink header.
pub(in crate::netlink) const HEADER: usize = 16;

/// What makes an answer whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::netlink) enum Expect {
    Acknowledgement,
    Message,
    Dump,
}

/// Why a request has failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The kernel said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel did not answer in time.
    #[error("no answer from the kernel within {0:?}")]
    NoAnswer(Duration),
    /// The answer cannot be understood.
    #[error("malformed answer from the kernel: {0}")]
    Malformed(String),
    /// What was dumped kept changing meanwhile (`NLM_F_DUMP_INTR`), or parts of an answer got lost (`ENOBUFS`).
    #[error("the kernel's answer is not consistent, at every attempt")]
    Inconsistent,
    /// The kernel lacks what the request is about.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl Fault {
    /// Whether the same request may succeed at once, provided that it changes nothing.
    pub(super) const fn is_transient(&self) -> bool {
        matches!(self, Self::Inconsistent | Self::Socket(_))
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The kernel's "no": its error number and, where it gives one, its extended acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// What it says in words (`NLMSGERR_ATTR_MSG`).
    pub text: Option<String>,
    /// Where in the request the attribute is that it complains about, in bytes (`NLMSGERR_ATTR_OFFS`).
    pub offset: Option<u32>,
    /// The number of the attribute that it misses (`NLMSGERR_ATTR_MISS_TYPE`, since 6.1).
    pub missing: Option<u32>,
}

impl Refusal {
    /// Whether the kernel's text contains `words`.
    pub fn says(&self, words: &str) -> bool {
        self.text.as_deref().is_some_and(|text| text.contains(words))
    }

    /// What was to be changed or removed is not there. The path manager answers `EINVAL` for most of that, and
    /// tells it from other mistakes only in its text.
    pub fn is_not_found(&self) -> bool {
        match self.errno {
            Errno::ENOENT | Errno::ESRCH => true,
            Errno::EINVAL => self.says("not found") || self.says("invalid token"),
            _ => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.text {
            write!(f, "{text}: ")?;
        }
        if let Some(missing) = self.missing {
            write!(f, "attribute {missing} is missing: ")?;
        }
        write!(f, "{} ({:?})", self.errno.desc().to_lowercase(), self.errno)?;
        if self.errno == Errno::EPERM {
            f.write_str("; it takes root or CAP_NET_ADMIN")?;
        }
        Ok(())
    }
}

attributes! {
    /// What an extended acknowledgement says (`NLMSGERR_ATTR_*`, `include/uapi/linux/netlink.h`).
    pub enum Extended {
        /// In words.
        Message(String) = 1,
        /// Where in the request.
        Offset(u32) = 2,
        /// Which attribute is missing.
        Missing(u32) = 5,
    }
}

/// What is kept of a message, header included; `None` passes it over.
pub(in crate::netlink) type Keep<T> = fn(&[u8]) -> Option<T>;

/// The answer to one request, as far as it has come.
#[derive(Debug)]
pub(in crate::netlink) struct Answer<T> {
    expect: Expect,
    sequence: u32,
    port: u32,
    keep: Keep<T>,
    kept: Vec<T>,
    inconsistent: bool,
}

impl<T> Answer<T> {
    pub(in crate::netlink) const fn new(expect: Expect, sequence: u32, port: u32, keep: Keep<T>) -> Self {
        Self { expect, sequence, port, keep, kept: Vec::new(), inconsistent: false }
    }

    /// Takes the messages of a datagram; whether the answer is whole now. Answers to others are passed over.
    pub(in crate::netlink) fn take(&mut self, mut datagram: &[u8]) -> Result<bool, Fault> {
        while !datagram.is_empty() {
            let message = NetlinkBuffer::new_checked(datagram)?;
            let length = message.length() as usize;
            if message.sequence_number() == self.sequence
                && message.port_number() == self.port
                && self.message(&message, &datagram[..length])?
            {
                return Ok(true);
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    pub(super) fn into_kept(self) -> Vec<T> {
        self.kept
    }

    fn message(&mut self, message: &NetlinkBuffer<&[u8]>, whole: &[u8]) -> Result<bool, Fault> {
        self.inconsistent |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_NOOP => Ok(false),
            NLMSG_OVERRUN => Err(Fault::Inconsistent),
            NLMSG_ERROR => acknowledged(message).map(|()| true),
            NLMSG_DONE => self.done(message.payload()).map(|()| true),
            _ => {
                self.kept.extend((self.keep)(whole));
                Ok(self.expect == Expect::Message && message.flags() & NLM_F_MULTIPART == 0)
            }
        }
    }

    /// The end of a dump carries an error number too.
    fn done(&self, payload: &[u8]) -> Result<(), Fault> {
        if payload.is_empty() {
            return Ok(());
        }
        let done = DoneBuffer::new_checked(payload)?;
        if done.code() != 0 {
            return Err(refused(done.code(), done.extended_ack()));
        }
        if self.inconsistent { Err(Fault::Inconsistent) } else { Ok(()) }
    }
}

/// Reads an error message: number 0 acknowledges.
fn acknowledged(message: &NetlinkBuffer<&[u8]>) -> Result<(), Fault> {
    let error = ErrorBuffer::new_checked(message.payload())?;
    let Some(code) = error.code() else { return Ok(()) };
    let extended = if message.flags() & NLM_F_ACK_TLVS == 0 {
        &[]
    } else {
        after_request(error.payload(), message.flags() & NLM_F_CAPPED != 0)?
    };
    Err(refused(code.get(), extended))
}

/// Skips the request that an error repeats: its header alone when it is capped, else all of it.
fn after_request(repeated: &[u8], capped: bool) -> Result<&[u8], Fault> {
    let cut_short = || Fault::Malformed("error message cut short".to_owned());
    let length = repeated.first_chunk().map(|length| u32::from_ne_bytes(*length)).ok_or_else(cut_short)?;
    let skip = if capped { HEADER } else { (length as usize).next_multiple_of(4) };
    repeated.get(skip..).ok_or_else(cut_short)
}

/// A refusal is told even when its explanation cannot be read.
fn refused(code: i32, extended: &[u8]) -> Fault {
    let mut refusal =
        Refusal { errno: Errno::from_raw(code.saturating_neg()), text: None, offset: None, missing: None };
    for attribute in parse_all(extended).unwrap_or_default() {
        match attribute {
            Extended::Message(text) => refusal.text = Some(text),
            Extended::Offset(offset) => refusal.offset = Some(offset),
            Extended::Missing(missing) => refusal.missing = Some(missing),
            Extended::Other(_) => {}
        }
    }
    Fault::Refused(refusal)
}
