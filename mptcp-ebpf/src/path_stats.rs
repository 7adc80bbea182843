//! The object `path_stats`: what each MPTCP subflow of the daemon's network namespace delivers.
//!
//! `path_stats` runs at the events of sockets and keeps beside each subflow what the kernel does not count; `read`
//! tells of all subflows when somebody looks; `adopt` finds those that are older than the program.
#![no_std]
#![no_main]

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP,
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RETRANS_CB,
        BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_RTT_CB,
        BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
    },
    btf_maps::SkStorage,
    macros::{btf_map, map, sock_ops},
    maps::{Array, HashMap, RingBuf},
    programs::SockOpsContext,
};
use aya_log_ebpf::debug;
use mptcp_common::{
    fields::{ABSENT, COUNT, Field},
    path_stats::{
        AsideKey, COUNTERS as COUNTERS_END, Established, Kept, Live, Lost, PUT_ASIDE, RttHistogram, Sample,
        Tag, Timeout, UNHEARD,
    },
};
use mptcp_ebpf::kernel::{
    self, Context, Iteration, Offsets, Socket, Structure, call_also_at, copy, count, delivery_rate,
    netns_cookie, now_ns, put, setting, take_flag, tell, ticks, zeroed,
};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: the length of a timer tick (`1 / CONFIG_HZ`), nanoseconds.
#[unsafe(no_mangle)]
static TICK_NS: u64 = 0;

/// Set by the loader: where this kernel has what the programs read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// What is kept beside each subflow's socket; it goes with the socket.
#[btf_map]
static SUBFLOWS: SkStorage<Kept> = SkStorage::new();

/// What the daemon is told at once: records with a [`Tag`].
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

const EVENTS_BYTES: u32 = 128 << 10;

/// Last figures that did not fit into the ring buffer, until the daemon takes them. Elements have memory only while they are
/// there.
#[map]
static ASIDE: HashMap<AsideKey, Sample> = HashMap::with_max_entries(64 << 10, BPF_F_NO_PREALLOC);

/// Where such figures are put together, and what they are found by: the stack has no room for them.
#[btf_map]
static LAST: SkStorage<(AsideKey, Sample)> = SkStorage::new();

/// The counters that the daemon reads, at the indices that [`Established`], [`Lost`] and [`PUT_ASIDE`] name.
#[map]
static COUNTERS: Array<u64> = Array::with_max_entries(COUNTERS_END, 0);

/// The daemon sleeps, and wants to know when something moves.
#[map]
static ASLEEP: Array<u32> = Array::with_max_entries(1, 0);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// The events of a subflow at which the program wants to run.
const CALLS: u32 = BPF_SOCK_OPS_RTT_CB_FLAG
    | BPF_SOCK_OPS_RETRANS_CB_FLAG
    | BPF_SOCK_OPS_RTO_CB_FLAG
    | BPF_SOCK_OPS_STATE_CB_FLAG;

/// Runs at a TCP socket's events; its verdict changes nothing.
#[sock_ops]
pub fn path_stats(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(&ctx, true),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(&ctx, false),
        BPF_SOCK_OPS_RTT_CB => measured(&ctx),
        BPF_SOCK_OPS_RETRANS_CB => retransmitted(&ctx),
        BPF_SOCK_OPS_RTO_CB => timed_out(&ctx),
        BPF_SOCK_OPS_STATE_CB => changed(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn established(ctx: &SockOpsContext, active: bool) {
    if netns_cookie(ctx) != setting(&NETNS_COOKIE) {
        return;
    }
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(tcp) = socket.tcp(&OFFSETS) else { return };
    let Some(subflow) = tcp.subflow() else { return };
    let Some(way) = way(subflow, active) else { return };
    count(&COUNTERS, way.index());
    let cookie = kernel::cookie(ctx);
    debug!(ctx, "subflow {} established, way {}", cookie, way.index());
    if follow(socket, &tcp, way, cookie, false) {
        call_also_at(ctx, CALLS);
    }
}

#[inline(always)]
fn way(subflow: Context, active: bool) -> Option<Established> {
    Established::of(subflow.flag(Field::MpCapable), subflow.flag(Field::MpJoin), active)
}

/// Begins to keep figures beside a socket, and tells so; false without memory.
#[inline(always)]
fn follow(socket: Socket, tcp: &Structure, way: Established, cookie: u64, adopted: bool) -> bool {
    let Some(token) = tcp.subflow().and_then(Context::token) else { return false };
    let Some(kept) = socket.keep(&SUBFLOWS) else {
        count(&COUNTERS, Lost::Subflow.index());
        return false;
    };
    kept.cookie = cookie;
    kept.since_ns = now_ns();
    kept.token = token;
    kept.way = way.index();
    kept.adopted = u16::from(adopted);
    kept.family = tcp.read(Field::Family);
    kept.ifindex = tcp.read(Field::BoundTo);
    kept.local_port = tcp.read(Field::LocalPort);
    kept.remote_port = u16::from_be(tcp.read(Field::RemotePort));
    tcp.addresses(kept.family, &mut kept.local, &mut kept.remote);
    // The last figures say all of the first ones: when the daemon lags, the room that is left is theirs.
    if !(has_room(EVENTS_BYTES / 8 * 7) && report(Tag::Opened, tcp, kept)) {
        count(&COUNTERS, Lost::Opening.index());
    }
    true
}

/// Whether less than so many bytes of the ring buffer are taken.
#[inline(always)]
fn has_room(bytes: u32) -> bool {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) < u64::from(bytes)
}

/// Tells the daemon all figures of a subflow whose lock the program holds.
#[inline(always)]
fn report(tag: Tag, tcp: &Structure, kept: &Kept) -> bool {
    tell::<Sample>(&EVENTS, tag as u64, |sample| write(sample, tcp, kept, true))
}

/// Writes all figures in place: the stack has no room for them.
#[inline(always)]
fn write(sample: &mut MaybeUninit<Sample>, tcp: &Structure, kept: &Kept, holds_lock: bool) {
    // SAFETY: there are only numbers in it.
    let sample = unsafe { zeroed(sample) };
    copy(kept, &mut sample.kept);
    look(&mut sample.live, tcp, kept.way, holds_lock);
}

/// Reads what the kernel counts by itself. Whoever does not hold the socket's lock reads while packets go on arriving. Then
/// what bounds or lessens a figure is read in such an order that this is too small at the most, by a byte, which the next
/// reading mends: once too large it would stay so, since counters do not go back.
#[inline(always)]
fn look(live: &mut Live, tcp: &Structure, way: u32, holds_lock: bool) {
    live.at_ns = now_ns();
    live.bytes_sent = tcp.read(Field::BytesSent);
    live.bytes_retransmitted = tcp.read(Field::BytesRetransmitted);
    live.bytes_acked = payload_acked(tcp.read(Field::BytesAcked), live, Established::is_active_at(way));
    live.bytes_received = tcp.read(Field::BytesReceived);
    live.delivered_ns = tcp.read::<u64>(Field::Delivered) * 1000;
    live.delivery_rate = tcp.delivery_rate();
    live.segments_out = tcp.read(Field::SegmentsOut);
    live.segments_in = tcp.read(Field::SegmentsIn);
    live.data_segments_out = tcp.read(Field::DataSegmentsOut);
    live.data_segments_in = tcp.read(Field::DataSegmentsIn);
    live.segments_retransmitted = tcp.read(Field::SegmentsRetransmitted);
    // Kept eight and four times as large as it is (tcp_rtt_estimator, net/ipv4/tcp_input.c).
    live.rtt_us = tcp.read::<u32>(Field::Rtt) >> 3;
    live.rtt_deviation_us = tcp.read::<u32>(Field::RttDeviation) >> 2;
    // The value follows the time of the first of the three samples (include/linux/win_minmax.h).
    live.rtt_min_us = tcp.read_behind(Field::RttMin, 4);
    live.cwnd = tcp.read(Field::Window);
    live.mss = tcp.read(Field::SegmentSize);
    live.in_flight = tcp.read(Field::InFlight);
    live.state = tcp.read(Field::State);
    live.congestion_control = tcp.congestion_control();
    // At the connection's beginning the kernel sets the time too, without data.
    if live.data_segments_in > 0 {
        let age = ticks().wrapping_sub(tcp.read(Field::LastReceived));
        live.received_ns = live.at_ns - u64::from(age) * setting(&TICK_NS);
    }
    if let Some(subflow) = tcp.subflow() {
        live.local_id = subflow.member(Field::LocalId);
        live.remote_id = subflow.member(Field::RemoteId);
        let flags = subflow.flags(Field::BackupByUs);
        live.backup_by_us = u8::from(flags.get(Field::BackupByUs));
        live.backup_by_peer = u8::from(flags.get(Field::BackupByPeer));
    }
    // A FIN counts first and is known later (tcp_data_queue, net/ipv4/tcp_input.c). Who finds the socket at rest after it has
    // counted finds the flag set.
    let is_busy = !holds_lock && (tcp.read::<u32>(Field::Locked) | tcp.read::<u32>(Field::Owned)) != 0;
    let fin_received = tcp.read::<u64>(Field::Flags) & SOCK_DONE != 0;
    live.bytes_received = live.bytes_received.saturating_sub(u64::from(is_busy || fin_received));
}

/// Fetches what [`look`] will read: one member of each part of the socket (`tcp_struct_check`, net/ipv4/tcp.c).
/// One call for each: of a loop the verifier would not know the offsets.
#[inline(always)]
fn fetch(tcp: &Structure) {
    tcp.fetch(Field::LastReceived);
    tcp.fetch(Field::BytesSent);
    tcp.fetch(Field::BytesAcked);
    tcp.fetch(Field::BytesReceived);
    tcp.fetch(Field::BytesRetransmitted);
    tcp.fetch(Field::SegmentsRetransmitted);
    tcp.fetch(Field::Delivered);
    tcp.fetch(Field::RateDelivered);
    tcp.fetch(Field::Rtt);
    tcp.fetch(Field::RttMin);
    tcp.fetch(Field::Window);
    tcp.fetch(Field::SegmentSize);
    tcp.fetch(Field::InFlight);
}

/// The bit of `sk_flags` that the peer's FIN sets (`tcp_fin`; `enum sock_flags` in include/net/sock.h).
const SOCK_DONE: u64 = 1 << 1;

/// Who opened the connection counts its SYN as an acknowledged byte, and either end its FIN: when that is acknowledged,
/// so is everything that was ever sent.
#[inline(always)]
fn payload_acked(acked: u64, live: &Live, active: bool) -> u64 {
    let acked = acked.saturating_sub(u64::from(active));
    let sent_once = live.bytes_sent - live.bytes_retransmitted;
    if acked < sent_once { acked } else { sent_once }
}

/// A round-trip time was measured: something that was sent has arrived.
#[inline(always)]
fn measured(ctx: &SockOpsContext) {
    let Some(kept) = Socket::of(ctx).and_then(|socket| socket.kept(&SUBFLOWS)) else { return };
    // Kernels before 6.11 do not say what they measured; the mean has to do.
    let rtt_us = match ctx.arg(0) {
        0 => kernel::smoothed_rtt(ctx),
        measured => measured,
    };
    if let Some(samples) = kept.rtt.buckets.get_mut(RttHistogram::bucket(rtt_us)) {
        *samples = samples.wrapping_add(1);
    }
    let rate = delivery_rate(ctx);
    if rate > kept.delivery_rate_max {
        kept.delivery_rate_max = rate;
    }
    if take_flag(&ASLEEP, 0) && !tell::<()>(&EVENTS, Tag::Awake as u64, |_| {}) {
        count(&COUNTERS, Lost::Alarm.index());
    }
}

#[inline(always)]
fn retransmitted(ctx: &SockOpsContext) {
    if let Some(kept) = Socket::of(ctx).and_then(|socket| socket.kept(&SUBFLOWS)) {
        kept.retransmitted_ns = now_ns();
    }
}

/// The retransmission timer expired. The arguments are `icsk_retransmits`, `icsk_rto` in ticks, and whether the kernel
/// gives up.
#[inline(always)]
fn timed_out(ctx: &SockOpsContext) {
    let Some(kept) = Socket::of(ctx).and_then(|socket| socket.kept(&SUBFLOWS)) else { return };
    kept.timeouts = kept.timeouts.wrapping_add(1);
    say_timed_out(ctx, kept.cookie);
    let timeout = Timeout {
        cookie: kept.cookie,
        at_ns: now_ns(),
        token: kept.token,
        in_a_row: ctx.arg(0) + 1,
        rto_us: (u64::from(ctx.arg(1)) * setting(&TICK_NS) / 1000) as u32,
        padding: 0,
    };
    let told = tell::<Timeout>(&EVENTS, Tag::Timeout as u64, |body| {
        body.write(timeout);
    });
    if !told {
        count(&COUNTERS, Lost::Alarm.index());
    }
}

/// A function of its own, as is the next one: the room that a line takes is not the program's for the rest of its run. The
/// program, this, and what this calls have 512 bytes together, of which Linux 6.1 counts 32 for the smallest function.
#[inline(never)]
fn say_timed_out(ctx: &SockOpsContext, cookie: u64) {
    debug!(ctx, "subflow {}: retransmission timer expired", cookie);
}

#[inline(never)]
fn say_ended(ctx: &SockOpsContext, cookie: u64) {
    debug!(ctx, "subflow {} ended", cookie);
}

/// The state of the socket changes; the second argument is the new one.
#[inline(always)]
fn changed(ctx: &SockOpsContext) {
    const TCP_CLOSE: u32 = 7;
    if ctx.arg(1) != TCP_CLOSE {
        return;
    }
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(kept) = socket.kept(&SUBFLOWS) else { return };
    let Some(tcp) = socket.tcp(&OFFSETS) else { return };
    say_ended(ctx, kept.cookie);
    if !report(Tag::Closed, &tcp, kept) && !put_aside(socket, &tcp, kept) {
        count(&COUNTERS, Lost::Closing.index());
    }
    // So that it is told only once, and is not read as living.
    socket.forget(&SUBFLOWS);
}

/// Keeps the last figures of a subflow for when the daemon has time; false without room.
#[inline(always)]
fn put_aside(socket: Socket, tcp: &Structure, kept: &Kept) -> bool {
    let Some((key, last)) = socket.keep(&LAST) else { return false };
    *key = [kept.cookie, kept.since_ns];
    copy(kept, &mut last.kept);
    look(&mut last.live, tcp, kept.way, true);
    let done = ASIDE.insert(key, last, u64::from(BPF_NOEXIST)).is_ok();
    socket.forget(&LAST);
    if done {
        count(&COUNTERS, PUT_ASIDE);
    }
    done
}

/// Tells the daemon, which asks for that, the figures of each subflow: an iterator over the sockets that have something in
/// `SUBFLOWS`. Its context is `bpf_iter__bpf_sk_storage_map` (net/core/bpf_sk_storage.c). Where three quarters of the
/// ring buffer are taken the iteration stops (1 is EAGAIN), and goes on when the daemon has emptied it. Its own output
/// would be copied twice more, and stops after 32 KiB (`bpf_seq_read`); to go on takes longer the more has been visited.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub extern "C" fn read(ctx: *mut c_void) -> u32 {
    let iteration = Iteration::of(ctx);
    if let (Some(socket), Some(kept)) = (iteration.socket(2), iteration.value::<Kept>(3))
        && let Some(tcp) = socket.tcp(&OFFSETS)
    {
        fetch(&tcp);
        // Who reads does not wait.
        let flags = u64::from(BPF_RB_NO_WAKEUP);
        let told = has_room(EVENTS_BYTES / 4 * 3)
            && put::<Sample>(&EVENTS, Tag::Read as u64, flags, |sample| {
                write(sample, &tcp, kept, false);
                // Nothing holds the socket: it may have ended meanwhile, and what was read may be another's.
                socket.keeps(&SUBFLOWS, kept)
            });
        return u32::from(!told);
    }
    0
}

/// Begins to follow the subflows that are there already: an iterator over the TCP sockets of the namespace of who reads
/// it. Its context is `bpf_iter__tcp` (net/ipv4/tcp_ipv4.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn adopt(ctx: *mut c_void) -> u32 {
    if let Some(socket) = Iteration::of(ctx).socket(1)
        && let Some(tcp) = socket.tcp(&OFFSETS)
        && let Some(subflow) = tcp.subflow()
        && socket.kept(&SUBFLOWS).is_none()
    {
        let active = subflow.flag(Field::RequestMptcp) || subflow.flag(Field::RequestJoin);
        if let Some(way) = way(subflow, active)
            && follow(socket, &tcp, way, socket.cookie(), true)
            && !socket.call_also_at(&tcp, CALLS)
        {
            count(&COUNTERS, UNHEARD);
        }
    }
    0
}
