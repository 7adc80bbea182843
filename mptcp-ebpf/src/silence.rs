//! The object `silence`: notices at once when nothing comes back on a subflow of the daemon's network namespace.
//!
//! Each subflow that is active has a timer, which looks at its socket about once in a round trip and decides by
//! `Watch`; it rests when nothing has moved for a while. At a socket's events `silence` only sees to it that the timer
//! runs, at most once a second, because what it would note there the socket keeps anyway. A timer has no socket to
//! hold, only its address: it probes, and the cookie tells whether the socket is still the same. `adopt` finds the subflows
//! that are older than the program.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RETRANS_CB, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        bpf_timer,
    },
    btf_maps::{HashMap, SkStorage},
    macros::{btf_map, map, sock_ops},
    maps::{self, Array, RingBuf},
    programs::SockOpsContext,
};
use mptcp_common::{
    fields::{ABSENT, COUNT, Field},
    path_stats::Established,
    silence::{
        self, Counter, MAX_WATCHED, Report,
        watch::{Look, Outcome},
    },
};
use mptcp_ebpf::kernel::{
    self, Context, Iteration, Offsets, Socket, Structure, Timer, call_also_at, count, count_by, netns_cookie,
    now_ns, setting, tell, ticks,
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

type Watched = silence::Watched<bpf_timer>;

/// The subflows under watch, by the cookies of their sockets, from their establishment to their end.
#[btf_map]
static WATCHED: HashMap<u64, Watched, MAX_WATCHED> = HashMap::new();

/// Kept beside each subflow's socket, so that most of its events cost no more than a glance.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Glance {
    cookie: u64,
    /// When the timer was last seen to.
    touched_ns: u64,
}

#[btf_map]
static GLANCES: SkStorage<Glance> = SkStorage::new();

/// Silence that is usual, microseconds, by interface.
#[map]
static PATIENCE: maps::HashMap<u32, u32> = maps::HashMap::with_max_entries(256, BPF_F_NO_PREALLOC);

/// What the daemon is told: records with a [`silence::Kind`] and a [`Report`].
#[map]
static ALARMS: RingBuf = RingBuf::with_byte_size(64 << 10, 0);

/// The counters that the daemon reads, at the indices that [`Counter`] names.
#[map]
static COUNTERS: Array<u64> = Array::with_max_entries(Counter::COUNT, 0);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// The events of a subflow at which the program wants to run.
const CALLS: u32 = BPF_SOCK_OPS_RTT_CB_FLAG
    | BPF_SOCK_OPS_RETRANS_CB_FLAG
    | BPF_SOCK_OPS_RTO_CB_FLAG
    | BPF_SOCK_OPS_STATE_CB_FLAG;

/// Timers run for at least twice as long after the last event (`REST` of `Watch`).
const TOUCH_EVERY_NS: u64 = 1_000_000_000;

/// How soon after an event there is a look.
const SOON_NS: u64 = 1_000_000;

/// Runs at a TCP socket's events; its verdict changes nothing.
#[sock_ops]
pub fn silence(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(&ctx, true),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(&ctx, false),
        BPF_SOCK_OPS_RTT_CB | BPF_SOCK_OPS_RETRANS_CB | BPF_SOCK_OPS_RTO_CB => moved(&ctx),
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
    if begin(socket, &tcp, kernel::cookie(ctx), active) {
        call_also_at(ctx, CALLS);
    }
}

/// Begins to watch a socket, if it is a subflow; false when its events are of no use.
#[inline(always)]
fn begin(socket: Socket, tcp: &Structure, cookie: u64, active: bool) -> bool {
    let Some(context) = tcp.subflow() else { return false };
    if Established::of(context.flag(Field::MpCapable), context.flag(Field::MpJoin), active).is_none() {
        return false;
    }
    let Some(glance) = socket.keep(&GLANCES) else {
        count(&COUNTERS, Counter::NotWatched.index());
        return false;
    };
    glance.cookie = cookie;
    if kernel::element(&WATCHED, cookie).is_none() && !watch(socket, tcp, context, cookie) {
        count(&COUNTERS, Counter::NotWatched.index());
    }
    see_to_timer(glance, now_ns());
    true
}

/// Finds room for a subflow; false when there is none.
#[inline(always)]
fn watch(socket: Socket, tcp: &Structure, context: Context, cookie: u64) -> bool {
    let Some(watched) = kernel::insert_zeros(&WATCHED, cookie) else { return false };
    watched.socket = socket.address();
    let subflow = &mut watched.subflow;
    subflow.cookie = cookie;
    subflow.token = context.token().unwrap_or(0);
    subflow.family = tcp.read(Field::Family);
    subflow.ifindex = tcp.read(Field::BoundTo);
    subflow.local_port = tcp.read(Field::LocalPort);
    subflow.remote_port = u16::from_be(tcp.read(Field::RemotePort));
    tcp.addresses(subflow.family, &mut subflow.local, &mut subflow.remote);
    true
}

/// Something of the subflow's was acknowledged or retransmitted: its timer has to run.
#[inline(always)]
fn moved(ctx: &SockOpsContext) {
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(glance) = socket.kept(&GLANCES) else { return };
    let now = now_ns();
    if now - glance.touched_ns < TOUCH_EVERY_NS || see_to_timer(glance, now) {
        return;
    }
    // There was no room for it when it began.
    if let Some(tcp) = socket.tcp(&OFFSETS)
        && let Some(context) = tcp.subflow()
        && watch(socket, &tcp, context, glance.cookie)
    {
        see_to_timer(glance, now);
    }
}

/// Has a subflow looked at soon; false when it is not watched. Where the kernel has no memory for a timer at the moment,
/// which happens because it does not wait for any (`kmalloc_nolock`), the next event is another chance.
#[inline(always)]
fn see_to_timer(glance: &mut Glance, now: u64) -> bool {
    glance.touched_ns = now;
    let Some(watched) = kernel::element(&WATCHED, glance.cookie) else { return false };
    watched.touched_ns = now;
    let timer = Timer::at(&raw mut watched.timer);
    let runs = timer.start(SOON_NS) || (timer.init(&WATCHED, look) && timer.start(SOON_NS));
    if !runs {
        glance.touched_ns = 0;
    }
    true
}

/// The state of the socket changes; the second argument is the new one.
#[inline(always)]
fn changed(ctx: &SockOpsContext) {
    const TCP_CLOSE: u32 = 7;
    if ctx.arg(1) != TCP_CLOSE {
        return;
    }
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(glance) = socket.kept(&GLANCES) else { return };
    // It ends with its timer. There was none where there was no room.
    let _ = WATCHED.remove(glance.cookie);
    socket.forget(&GLANCES);
}

/// A subflow's timer: one look at its socket.
extern "C" fn look(_map: *mut c_void, _key: *mut u64, watched: *mut Watched) -> u64 {
    let Some(watched) = kernel::value(watched) else { return 0 };
    let begun = now_ns();
    if let Some(socket) = Context::at(watched.socket, &OFFSETS)
        && socket.member::<u64>(Field::Cookie) == watched.subflow.cookie
        && let Some(seen) = see(socket, watched, begun)
    {
        watched.seen = seen;
        let watched = kernel::forget(watched);
        let outcome = watched.watch.look(&watched.seen);
        report(watched, &outcome, received_by(socket));
        if outcome.again_ns != 0 {
            Timer::at(&raw mut watched.timer).start(outcome.again_ns);
        }
    }
    count(&COUNTERS, Counter::Looks.index());
    count_by(&COUNTERS, Counter::LooksNs.index(), now_ns() - begun);
    0
}

/// Reads what the socket shows; `None` when it is being closed, of which nobody need be told.
#[inline(always)]
fn see(socket: Context, watched: &Watched, now_ns: u64) -> Option<Look> {
    const TCP_ESTABLISHED: u8 = 1;
    const TCP_CLOSE_WAIT: u8 = 8;
    let state: u8 = socket.member(Field::State);
    if state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT {
        return None;
    }
    let in_flight: u32 = socket.member(Field::InFlight);
    let heard_ns = heard(socket, now_ns);
    let out = socket.member::<u32>(Field::NextToSend).wrapping_sub(socket.member(Field::Unacknowledged));
    Some(Look {
        now_ns,
        touched_ns: watched.touched_ns,
        heard_ns,
        oldest_ns: if in_flight == 0 { 0 } else { oldest(socket, now_ns) },
        began_ns: began(socket, heard_ns),
        segments_in: socket.member(Field::SegmentsIn),
        data_segments_in: socket.member(Field::DataSegmentsIn),
        in_flight,
        awaited: awaited(socket, in_flight),
        rtt_us: round_trip(socket),
        deviation_us: socket.member::<u32>(Field::RttDeviation) >> 2,
        patience_us: patience(watched.subflow.ifindex, socket),
        is_small: out <= socket.member(Field::SegmentSize),
        is_recovering: socket.bits(Field::CongestionState, 0x1f) != 0,
        is_lossy: is_lossy(socket),
        may_receive: state == TCP_ESTABLISHED,
    })
}

/// How many segments may still be on their way, as `tcp_packets_in_flight` (include/net/tcp.h) has it.
#[inline(always)]
fn awaited(socket: Context, in_flight: u32) -> u32 {
    let is_known = socket.member::<u32>(Field::Sacked) + socket.member::<u32>(Field::Lost);
    in_flight.saturating_sub(is_known) + socket.member::<u32>(Field::Repeated)
}

/// The smoothed round-trip time, which is kept eight times as large; of who only receives, the receiver's own.
#[inline(always)]
fn round_trip(socket: Context) -> u32 {
    match socket.member::<u32>(Field::Rtt) {
        0 => socket.member::<u32>(Field::ReceiverRtt) >> 3,
        rtt => rtt >> 3,
    }
}

/// When something last came. Of every acknowledgement and of data in order the kernel keeps the tick, of new
/// acknowledgements also the microsecond, but that is overwritten when something is sent after a pause.
#[inline(always)]
fn heard(socket: Context, now_ns: u64) -> u64 {
    let tick_ns = setting(&TICK_NS);
    let now = ticks();
    let since = |field| {
        let age = now.wrapping_sub(socket.member(field));
        // One that has come meanwhile.
        if age > u32::MAX / 2 { 0 } else { age }
    };
    let (answer, data) = (since(Field::AnswerReceived), since(Field::LastReceived));
    let age = if answer < data { answer } else { data };
    let heard_ns = now_ns.saturating_sub(u64::from(age) * tick_ns);
    let delivered_ns = socket.member::<u64>(Field::Delivered) * 1000;
    let is_the_same = delivered_ns + tick_ns > heard_ns && heard_ns + tick_ns > delivered_ns;
    if is_the_same { delivered_ns } else { heard_ns }
}

/// When the segments on their way began to be sent, if that was after a pause; else 0.
#[inline(always)]
fn began(socket: Context, heard_ns: u64) -> u64 {
    let delivered_ns = socket.member::<u64>(Field::Delivered) * 1000;
    if delivered_ns > heard_ns { delivered_ns } else { 0 }
}

/// When the oldest segment on its way was sent, the leftmost of a tree.
#[inline(always)]
fn oldest(socket: Context, now_ns: u64) -> u64 {
    /// A tree of 2^32 segments is not deeper than that.
    const DEEPEST: u32 = 64;
    let mut node = socket.member::<u64>(Field::OnItsWay);
    for _ in 0..DEEPEST {
        let left = Context::at(node, &OFFSETS).map_or(0, |node| node.member::<u64>(Field::TreeLeft));
        if left == 0 {
            break;
        }
        node = left;
    }
    let packet = Context::around(node, Field::PacketNode, &OFFSETS);
    match packet.map_or(0, |packet| packet.member::<u64>(Field::PacketSent)) {
        // The tree has changed meanwhile.
        0 => now_ns,
        sent_ns => sent_ns,
    }
}

/// Whether more than one segment of 128 had to be sent again.
#[inline(always)]
fn is_lossy(socket: Context) -> bool {
    let again = socket.member::<u32>(Field::SegmentsRetransmitted) as u64;
    again * 128 > u64::from(socket.member::<u32>(Field::DataSegmentsOut))
}

/// The silence that is usual on the interface of a socket: the one that it is bound to, or else receives by.
#[inline(always)]
fn patience(bound: u32, socket: Context) -> u32 {
    let ifindex = if bound == 0 { received_by(socket) } else { bound };
    kernel::number(&PATIENCE, ifindex)
}

#[inline(always)]
fn received_by(socket: Context) -> u32 {
    socket.member(Field::ReceivedBy)
}

#[inline(always)]
fn report(watched: &Watched, outcome: &Outcome, received_by: u32) {
    let Some((kind, silent_ns)) = outcome.told else { return };
    let told = tell::<Report>(&ALARMS, kind as u64, |report| {
        report.write(Report {
            subflow: watched.subflow,
            at_ns: watched.seen.now_ns,
            silent_ns,
            rtt_us: watched.seen.rtt_us,
            deviation_us: watched.seen.deviation_us,
            in_flight: watched.seen.in_flight,
            received_by,
            after: outcome.after,
        });
    });
    if !told {
        count(&COUNTERS, Counter::Untold.index());
    }
}

/// Begins to watch the subflows that are there already: an iterator over the TCP sockets of the namespace of who reads
/// it. Its context is `bpf_iter__tcp` (net/ipv4/tcp_ipv4.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn adopt(ctx: *mut c_void) -> u32 {
    if let Some(socket) = Iteration::of(ctx).socket(1)
        && let Some(tcp) = socket.tcp(&OFFSETS)
        && socket.kept(&GLANCES).is_none()
        && begin(socket, &tcp, socket.cookie(), true)
    {
        socket.call_also_at(&tcp, CALLS);
    }
    0
}
