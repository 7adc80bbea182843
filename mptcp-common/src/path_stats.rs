//! What the object `path_stats` reports of each subflow: its counters, its records, its events.
//!
//! A subflow's figures live in two places. What the kernel counts by itself is read where it is, when somebody looks
//! ([`Live`]); what it does not count is kept beside the socket by the program ([`Kept`]). All integers are in the
//! machine's byte order, except the addresses, which are as on the wire. Times are nanoseconds of `CLOCK_MONOTONIC`.

/// How a subflow came to be: the index of its counter in the map.
///
/// RFC 8684 section 3: a connection's initial subflow begins with MP_CAPABLE, each further one with MP_JOIN. Active is
/// the side that sent the SYN. A connection that fell back to TCP is none of these.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Established {
    /// An initial subflow that this side opened.
    CapableActive = 0,
    /// An initial subflow that the peer opened.
    CapablePassive = 1,
    /// A further subflow that this side opened.
    JoinActive = 2,
    /// A further subflow that the peer opened.
    JoinPassive = 3,
}

impl Established {
    /// The number of ways.
    pub const COUNT: u32 = 4;

    /// Reads the two flags of the kernel's subflow context; `None` for a connection that has fallen back.
    #[inline(always)]
    pub fn of(mp_capable: bool, mp_join: bool, active: bool) -> Option<Self> {
        match (mp_capable, mp_join, active) {
            (true, _, true) => Some(Self::CapableActive),
            (true, _, false) => Some(Self::CapablePassive),
            (false, true, true) => Some(Self::JoinActive),
            (false, true, false) => Some(Self::JoinPassive),
            (false, false, _) => None,
        }
    }

    /// The index in the map.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }

    /// The way with an index.
    pub fn at(index: u32) -> Option<Self> {
        [Self::CapableActive, Self::CapablePassive, Self::JoinActive, Self::JoinPassive]
            .into_iter()
            .find(|way| way.index() == index)
    }

    /// Whether the way with an index begins on this side.
    #[inline(always)]
    pub fn is_active_at(index: u32) -> bool {
        index == Self::CapableActive as u32 || index == Self::JoinActive as u32
    }

    /// Whether this is a connection's first subflow.
    pub fn is_initial(self) -> bool {
        matches!(self, Self::CapableActive | Self::CapablePassive)
    }

    /// Whether this side opened it.
    pub fn is_active(self) -> bool {
        Self::is_active_at(self.index())
    }
}

/// What went missing between the kernel and the daemon: the index of its counter, after those of [`Established`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Subflows that are not followed: there was no memory to keep their figures in.
    Subflow = 4,
    /// Subflows whose beginning was not reported: the ring buffer was full.
    Opening = 5,
    /// Subflows whose final figures were not reported: neither the ring buffer nor what stands in for it had room.
    Closing = 6,
    /// Alarms that were not reported: the ring buffer was full.
    Alarm = 7,
}

/// The index of the counter of last figures that were put aside, because the ring buffer was full.
pub const PUT_ASIDE: u32 = 8;

/// The index of the counter of subflows that were there before the program, at whose events the kernel does not call it.
pub const UNHEARD: u32 = 9;

/// The number of counters in the map.
pub const COUNTERS: u32 = 10;

impl Lost {
    /// The index in the map.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }
}

/// A histogram of round-trip times with one bucket for each power of two, in microseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct RttHistogram {
    /// How many samples each bucket has; see [`Self::bucket`].
    pub buckets: [u32; Self::BUCKETS],
}

impl RttHistogram {
    /// The number of buckets: the last one holds what took 8.4 s and longer.
    pub const BUCKETS: usize = 24;

    /// Where a round-trip time belongs: bucket `i` holds 2^i µs to just below 2^(i+1) µs; the first one also 0, the last
    /// one all that is longer.
    #[inline(always)]
    pub fn bucket(rtt_us: u32) -> usize {
        let log2 = (31 - (rtt_us | 1).leading_zeros()) as usize;
        if log2 < Self::BUCKETS { log2 } else { Self::BUCKETS - 1 }
    }
}

/// What the program keeps for a subflow, beside its socket: who it is, and what the kernel does not count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Kept {
    /// The socket's cookie: no other socket gets the same before the machine starts again.
    pub cookie: u64,
    /// When it was established, or was first seen if it is older than the program.
    pub since_ns: u64,
    /// When something was last retransmitted; 0 for never.
    pub retransmitted_ns: u64,
    /// The greatest delivery rate seen, bytes per second (`tcp_info.tcpi_delivery_rate`).
    pub delivery_rate_max: u64,
    /// The local address; of an IPv4 one the first four bytes.
    pub local: [u8; 16],
    /// The remote address, likewise.
    pub remote: [u8; 16],
    /// The local token of its connection.
    pub token: u32,
    /// The interface that the socket was bound to when it was established; 0 for none.
    pub ifindex: u32,
    /// The index of its [`Established`].
    pub way: u32,
    /// How often its retransmission timer expired (RFC 6298 section 5).
    pub timeouts: u32,
    /// The local port.
    pub local_port: u16,
    /// The remote port.
    pub remote_port: u16,
    /// The address family, `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// 1 when the subflow is older than the program: its histogram and timeouts begin late.
    pub adopted: u16,
    /// The round-trip times measured since then.
    pub rtt: RttHistogram,
}

/// What the kernel's socket says of a subflow at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Live {
    /// When it was read.
    pub at_ns: u64,
    /// Payload bytes sent, retransmitted ones included (`tcp_sock.bytes_sent`).
    pub bytes_sent: u64,
    /// Payload bytes that the peer has acknowledged (`bytes_acked`, which counts SYN and FIN too).
    pub bytes_acked: u64,
    /// Payload bytes received in order (`bytes_received`, which counts the FIN too).
    pub bytes_received: u64,
    /// Payload bytes retransmitted (`bytes_retrans`).
    pub bytes_retransmitted: u64,
    /// When the peer last acknowledged something new; 0 for never (`delivered_mstamp`).
    pub delivered_ns: u64,
    /// When data last arrived; 0 for never (`icsk_ack.lrcvtime`, which counts timer ticks).
    pub received_ns: u64,
    /// The latest delivery rate, bytes per second; 0 while there is none.
    pub delivery_rate: u64,
    /// Segments sent, those without data included (`segs_out`).
    pub segments_out: u32,
    /// Segments received, likewise (`segs_in`).
    pub segments_in: u32,
    /// Segments with data sent, retransmitted ones included (`data_segs_out`).
    pub data_segments_out: u32,
    /// Segments with data received (`data_segs_in`).
    pub data_segments_in: u32,
    /// Segments retransmitted (`total_retrans`).
    pub segments_retransmitted: u32,
    /// The smoothed round-trip time, microseconds; 0 while there is none (`srtt_us`).
    pub rtt_us: u32,
    /// Its mean deviation, microseconds (`mdev_us`).
    pub rtt_deviation_us: u32,
    /// The least round-trip time of late, microseconds (`rtt_min`, over `net.ipv4.tcp_min_rtt_wlen`); all ones for none.
    pub rtt_min_us: u32,
    /// The congestion window, segments (`snd_cwnd`).
    pub cwnd: u32,
    /// The size of a full segment, bytes (`mss_cache`).
    pub mss: u32,
    /// Segments on their way (`packets_out`).
    pub in_flight: u32,
    /// The state of the socket (`TCP_ESTABLISHED` is 1; include/net/tcp_states.h).
    pub state: u8,
    /// The id of the local address.
    pub local_id: u8,
    /// The id of the remote address.
    pub remote_id: u8,
    /// 1 when this side asked for backup (`request_bkup`).
    pub backup_by_us: u8,
    /// 1 when the peer asked for backup (`backup`).
    pub backup_by_peer: u8,
    /// Unused; 0.
    pub padding: [u8; 7],
    /// The name of its congestion control, filled up with zeros.
    pub congestion_control: [u8; 16],
}

/// A subflow with all its figures.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Sample {
    /// What the kernel counts.
    pub live: Live,
    /// What the program adds.
    pub kept: Kept,
}

/// What last figures that were put aside are found by: the cookie of the socket, and when the subflow was established.
pub type AsideKey = [u64; 2];

/// What the ring buffer carries: the first eight bytes of each record.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// A subflow was established; a [`Sample`] follows.
    Opened = 1,
    /// A subflow has ended; its last [`Sample`] follows.
    Closed = 2,
    /// The retransmission timer of a subflow expired; a [`Timeout`] follows.
    Timeout = 3,
    /// A subflow moves data while the daemon sleeps; nothing follows. Told once.
    Awake = 4,
    /// A subflow is there; a [`Sample`] follows. Told to who reads all subflows.
    Read = 5,
}

/// A subflow's retransmission timer expired: nothing came back for that long.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout))]
pub struct Timeout {
    /// The socket's cookie.
    pub cookie: u64,
    /// When.
    pub at_ns: u64,
    /// The local token of its connection.
    pub token: u32,
    /// How often in a row.
    pub in_a_row: u32,
    /// How long the timer was, microseconds.
    pub rto_us: u32,
    /// Unused; 0.
    pub padding: u32,
}

/// A record of the ring buffer: a tag and what follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record<T> {
    /// A [`Tag`].
    pub tag: u64,
    /// What follows.
    pub body: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_counter_of_its_own_inside_the_map() {
        let ways = [(true, false, true), (true, false, false), (false, true, true), (false, true, false)];
        let indices =
            ways.map(|(capable, join, active)| Established::of(capable, join, active).unwrap().index());
        assert_eq!(indices, [0, 1, 2, 3]);
        assert_eq!(indices.len(), Established::COUNT as usize);
        let lost = [Lost::Subflow, Lost::Opening, Lost::Closing, Lost::Alarm].map(Lost::index);
        assert_eq!(lost, [4, 5, 6, 7]);
        assert!(lost.iter().all(|index| *index < PUT_ASIDE) && PUT_ASIDE < UNHEARD && UNHEARD < COUNTERS);
    }

    #[test]
    fn a_way_is_found_by_its_index() {
        for index in 0..Established::COUNT {
            let way = Established::at(index).unwrap();
            assert_eq!(way.index(), index);
            assert_eq!(Established::of(way.is_initial(), !way.is_initial(), way.is_active()), Some(way));
        }
        assert_eq!(Established::at(Established::COUNT), None);
    }

    #[test]
    fn a_fallen_back_connection_has_none() {
        assert_eq!(Established::of(false, false, true), None);
        assert_eq!(Established::of(false, false, false), None);
    }

    #[test]
    fn a_bucket_holds_the_times_from_its_power_of_two_on() {
        assert_eq!([0, 1, 2, 3, 4].map(RttHistogram::bucket), [0, 0, 1, 1, 2]);
        for bucket in 1..RttHistogram::BUCKETS {
            assert_eq!(RttHistogram::bucket(1 << bucket), bucket);
            assert_eq!(RttHistogram::bucket((1 << bucket) - 1), bucket - 1);
        }
        assert_eq!(RttHistogram::bucket(u32::MAX), RttHistogram::BUCKETS - 1);
    }

    #[test]
    fn no_record_has_holes_that_the_kernel_would_have_to_fill() {
        assert_eq!(size_of::<Sample>(), size_of::<Live>() + size_of::<Kept>());
        assert_eq!(size_of::<Kept>(), 4 * 8 + 2 * 16 + 4 * 4 + 4 * 2 + 4 * RttHistogram::BUCKETS);
        assert_eq!(size_of::<Live>(), 8 * 8 + 11 * 4 + 12 + 16);
        assert_eq!(size_of::<Timeout>(), 2 * 8 + 4 * 4);
    }
}
