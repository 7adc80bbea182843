//! Fields of a C structure that may be shorter, or longer, than the one known here.
use std::time::Duration;

/// A structure's bytes; a field that lies beyond their end is `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn array<const LENGTH: usize>(self, offset: usize) -> Option<[u8; LENGTH]> {
        self.0.get(offset..)?.first_chunk().copied()
    }

    pub(super) fn u8(self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    pub(super) fn u32(self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_ne_bytes)
    }

    pub(super) fn u64(self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_ne_bytes)
    }

    /// A port, in network byte order.
    pub(super) fn port(self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }

    /// A time in milliseconds.
    pub(super) fn milliseconds(self, offset: usize) -> Option<Duration> {
        self.u32(offset).map(|time| Duration::from_millis(time.into()))
    }

    /// A time in microseconds.
    pub(super) fn microseconds(self, offset: usize) -> Option<Duration> {
        self.u32(offset).map(|time| Duration::from_micros(time.into()))
    }
}
