//! What the object `silence` tells of subflows from which nothing comes back, and how it comes to say so.
//!
//! The records are here; the decision, which is arithmetic alone, is in [`watch`]. Times are nanoseconds of
//! `CLOCK_MONOTONIC`. All integers are in the machine's byte order, except the addresses, which are as on the wire.
pub mod watch;

/// What is told of a subflow: the first eight bytes of each record of the ring buffer, before its [`Report`].
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A steady inflow has stopped, and nothing else came: the sender may simply have no more to say.
    Quiet = 1,
    /// An answer is overdue.
    Late = 2,
    /// The answer is so much overdue that the path is to be given up.
    Silent = 3,
    /// After one of these, something came again.
    Heard = 4,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Quiet, Self::Late, Self::Silent, Self::Heard];

    /// The one with this number.
    pub fn numbered(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// Which subflow it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Subflow {
    /// The socket's cookie: no other socket gets the same before the machine starts again.
    pub cookie: u64,
    /// The local address; of an IPv4 one the first four bytes.
    pub local: [u8; 16],
    /// The remote address, likewise.
    pub remote: [u8; 16],
    /// The local token of its connection.
    pub token: u32,
    /// The interface that it was bound to when it was established; 0 for none.
    pub ifindex: u32,
    /// The local port.
    pub local_port: u16,
    /// The remote port.
    pub remote_port: u16,
    /// The address family, `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// Unused; 0.
    pub padding: u16,
}

/// A subflow under watch: the value of the map that has a timer for each. (`Timer` is the kernel's `bpf_timer`.)
#[repr(C)]
pub struct Watched<Timer> {
    /// Calls for the next look.
    pub timer: Timer,
    /// Where its socket is, or was.
    pub socket: u64,
    /// When its socket last had an event.
    pub touched_ns: u64,
    /// Which one it is.
    pub subflow: Subflow,
    /// What its socket showed at the last look.
    pub seen: watch::Look,
    /// What is known of its silence.
    pub watch: watch::Watch,
}

/// What is told with each [`Kind`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Report {
    /// Whom it is about.
    pub subflow: Subflow,
    /// When it was found.
    pub at_ns: u64,
    /// For how long nothing has come, or with `Heard` nothing had come, though something was on its way.
    pub silent_ns: u64,
    /// The smoothed round-trip time, microseconds; 0 while there is none.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds.
    pub deviation_us: u32,
    /// Segments on their way.
    pub in_flight: u32,
    /// The interface by which it last received, where it is not bound to one; 0 for not known.
    pub received_by: u32,
    /// With `Heard` the number of the gravest [`Kind`] that was told before; else 0.
    pub after: u64,
}

/// What is counted, at these indices of the map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Subflows that are not watched: there was no room or no memory for them.
    NotWatched = 0,
    /// Alarms that were not told: the ring buffer was full.
    Untold = 1,
    /// How often the timers of subflows had them looked at.
    Looks = 2,
    /// How long these looks took together, nanoseconds.
    LooksNs = 3,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 4;

    /// The index in the map.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }
}

/// How many subflows can be watched at a time.
pub const MAX_WATCHED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_has_holes_that_the_kernel_would_have_to_fill() {
        assert_eq!(size_of::<Subflow>(), 8 + 2 * 16 + 2 * 4 + 4 * 2);
        assert_eq!(size_of::<Report>(), size_of::<Subflow>() + 3 * 8 + 4 * 4);
    }

    #[test]
    fn a_kind_is_found_by_its_number() {
        for kind in Kind::ALL {
            assert_eq!(Kind::numbered(kind as u64), Some(kind));
        }
        assert_eq!((Kind::numbered(0), Kind::numbered(5)), (None, None));
    }
}
