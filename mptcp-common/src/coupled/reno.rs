//! What the kernel's Reno does (net/ipv4/tcp_cong.c): all of it for a subflow that is alone, and slow start and undo for
//! those that are coupled. Programs that are written in Rust cannot call the kernel's own functions yet.

/// The members of `tcp_sock` that decide about the window, packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The window (`snd_cwnd`).
    pub size: u32,
    /// What has been acknowledged since it last grew (`snd_cwnd_cnt`).
    pub counted: u32,
    /// The slow start threshold (`snd_ssthresh`).
    pub threshold: u32,
    /// The greatest window allowed (`snd_cwnd_clamp`).
    pub clamp: u32,
}

impl Window {
    /// Whether it grows by slow start: `tcp_in_slow_start` (include/net/tcp.h).
    #[inline(always)]
    pub fn is_in_slow_start(&self) -> bool {
        self.size < self.threshold
    }

    /// Slow start: `tcp_slow_start`. Returns what it leaves of the acknowledged packets to congestion avoidance.
    #[inline(always)]
    pub fn slow_start(&mut self, acked: u32) -> u32 {
        let reached = least(self.size.wrapping_add(acked), self.threshold);
        let rest = acked.wrapping_sub(reached.wrapping_sub(self.size));
        self.size = least(reached, self.clamp);
        rest
    }

    /// Additive increase by one packet for each `per` acknowledged ones: `tcp_cong_avoid_ai`.
    #[inline(always)]
    pub fn additive_increase(&mut self, per: u32, acked: u32) {
        // A credit from when the window was larger is used gently.
        if self.counted >= per {
            self.counted = 0;
            self.size = self.size.wrapping_add(1);
        }
        self.counted = self.counted.wrapping_add(acked);
        if self.counted >= per && per != 0 {
            let packets = self.counted / per;
            self.counted -= packets * per;
            self.size = self.size.wrapping_add(packets);
        }
        self.size = least(self.size, self.clamp);
    }

    /// What Reno does for acknowledged packets, when the window is what limits the sender: `tcp_reno_cong_avoid`.
    #[inline(always)]
    pub fn grow(&mut self, acked: u32) {
        let rest = if self.is_in_slow_start() { self.slow_start(acked) } else { acked };
        if rest != 0 {
            self.additive_increase(self.size, rest);
        }
    }
}

/// Whether the window is what limits the sender: `tcp_is_cwnd_limited` (include/net/tcp.h). `flagged` is
/// `tcp_sock.is_cwnd_limited`, `most` is `max_packets_out`.
#[inline(always)]
pub fn is_limited(flagged: bool, window: &Window, most: u32) -> bool {
    flagged || (window.is_in_slow_start() && window.size < most.wrapping_mul(2))
}

/// What to believe of an acknowledgement of so many packets: more than were on their way at most, whether the window or
/// `most` (`max_packets_out`) says so, cannot have arrived. A window that grows by what is not so grows without bound.
#[inline(always)]
pub fn believed(acked: u32, window: &Window, most: u32) -> u32 {
    least(acked, if window.size > most { window.size } else { most })
}

/// The slow start threshold after a loss: `tcp_reno_ssthresh`.
#[inline(always)]
pub fn after_loss(window: u32) -> u32 {
    let half = window >> 1;
    if half > super::MIN_WINDOW { half } else { super::MIN_WINDOW }
}

/// The window when a loss turns out to have been none: `tcp_reno_undo_cwnd`. `before` is `tcp_sock.prior_cwnd`.
#[inline(always)]
pub fn undone(window: u32, before: u32) -> u32 {
    if window > before { window } else { before }
}

#[inline(always)]
fn least(one: u32, other: u32) -> u32 {
    if one < other { one } else { other }
}
