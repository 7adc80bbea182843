//! The object `unsent`: bounds what a subflow of the daemon's network namespace holds beyond what is under way.
//!
//! The packet scheduler gives each subflow as much as its send buffer takes: with BBR three windows, which at the rate of
//! a slow path is a second. What it holds goes before whatever another path has lost. `net.ipv4.tcp_notsent_lowat` is no
//! bound for subflows: the kernel sets theirs to the greatest number (`mptcp_sockopt_sync_locked`, net/mptcp/sockopt.c;
//! Linux 6.10 and later), because a small one fouls its scheduler, which asks only the subflow whose queue takes the
//! shortest time (`mptcp_subflow_get_send`, net/mptcp/protocol.c): as long as that one takes nothing, nobody gets anything.
//! So the bound is a time: that by which the slowest path that carries is longer, and a little more ([`Unsent`]).
//!
//! What joins with a greater first window than usual, as the daemon's route of an uplink that stands by says, begins with
//! the send buffer of a usual one all the same. The connection's is the sum of its subflows' (`__mptcp_sync_sndbuf`,
//! net/mptcp/protocol.h), and only an application that waits for room there makes the kernel enlarge that of the subflow in use
//! (`mptcp_set_nospace`, net/mptcp/protocol.c): 100 KB would fit, and then wait for a round trip behind it.
//!
//! `bound` sets the bound when a subflow begins, which may be at rest until another one is lost, and at the round-trip times that
//! are measured; `adopt` finds the subflows that are older than the program, and `release` gives all of them back what they
//! had.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG,
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTT_CB,
        BPF_SOCK_OPS_RTT_CB_FLAG,
    },
    btf_maps::SkStorage,
    macros::{btf_map, sock_ops},
    programs::SockOpsContext,
};
use mptcp_common::{
    MAX_SUBFLOWS,
    fields::{ABSENT, COUNT, Field},
    unsent,
};
use mptcp_ebpf::kernel::{
    Context, ControlName, Iteration, Offsets, Socket, Structure, call_also_at, call_no_longer_at,
    netns_cookie, now_ns, set_first_window, set_unsent, setting, use_congestion_control,
};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: where this kernel has what the programs read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// Kept beside each subflow's socket.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Bound {
    /// When it was looked at last.
    at_ns: u64,
    /// What was there before; 0 stands for the sysctl.
    before: u32,
    /// Whether another one was set: 1 if so.
    is_set: u32,
    /// The first window that it gets when its send buffer is there, segments; 0 if it has it.
    window: u32,
    /// Nothing: the size is a whole number of words.
    pad: u32,
}

#[btf_map]
static BOUNDS: SkStorage<Bound> = SkStorage::new();

/// Every kernel has this one (net/ipv4/tcp_cong.c).
const OTHER: ControlName = *b"reno\0\0\0\0\0\0\0\0\0\0\0\0";

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Runs at a TCP socket's events; its verdict changes nothing.
#[sock_ops]
pub fn bound(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            if netns_cookie(&ctx) == setting(&NETNS_COOKIE)
                && let Some(socket) = Socket::of(&ctx)
                && let Some(tcp) = socket.tcp(&OFFSETS)
                && let Some(subflow) = tcp.subflow()
                && let Some(bound) = socket.keep(&BOUNDS)
            {
                call_also_at(&ctx, BPF_SOCK_OPS_RTT_CB_FLAG);
                bound.at_ns = now_ns();
                set(&ctx, &tcp, bound, unsent::FIRST);
                begin_small(&ctx, &tcp, subflow, bound);
            }
        }
        // The first packet after the handshake: nothing was sent before.
        BPF_SOCK_OPS_PARSE_HDR_OPT_CB => grow(&ctx),
        BPF_SOCK_OPS_RTT_CB => fit(&ctx),
        _ => {}
    }
    1
}

/// The send buffer is set next, by the window (`tcp_init_transfer`, net/ipv4/tcp_input.c). Only where nothing is sent before the
/// other end has answered once more.
#[inline(always)]
fn begin_small(ctx: &SockOpsContext, tcp: &Structure, subflow: Context, bound: &mut Bound) {
    let window: u32 = tcp.read(Field::Window);
    let joins = subflow.flag(Field::MpJoin);
    if window <= unsent::USUAL_WINDOW || !joins {
        return;
    }
    if tcp.follow(Field::CongestionOps).is_some_and(|ops| ops.member::<u64>(Field::OwnPace) != 0) {
        begin_control(ctx, tcp);
    }
    if set_first_window(ctx, unsent::USUAL_WINDOW) {
        bound.window = window;
        call_also_at(ctx, BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
    }
}

/// BBR takes its first pace from the window that it finds when it begins (`bbr_init_pacing_rate_from_rtt`,
/// net/ipv4/tcp_bbr.c), so it begins before that is made small. The kernel begins a control that is set where there was
/// another, and does not begin it again (`icsk_ca_initialized`).
#[inline(always)]
fn begin_control(ctx: &SockOpsContext, tcp: &Structure) {
    let own = tcp.congestion_control();
    if use_congestion_control(ctx, &OTHER) {
        use_congestion_control(ctx, &own);
    }
}

#[inline(always)]
fn grow(ctx: &SockOpsContext) {
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(bound) = socket.kept(&BOUNDS) else { return };
    if bound.window != 0 {
        // It fails only where something has been sent meanwhile.
        set_first_window(ctx, bound.window);
        bound.window = 0;
        call_no_longer_at(ctx, BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
    }
}

/// Fits the bound to what the paths are like now.
#[inline(always)]
fn fit(ctx: &SockOpsContext) {
    let Some(socket) = Socket::of(ctx) else { return };
    let Some(bound) = socket.kept(&BOUNDS) else { return };
    let now = now_ns();
    let since = now - bound.at_ns;
    if since < unsent::EVERY_NS {
        return;
    }
    bound.at_ns = now;
    let Some(tcp) = socket.tcp(&OFFSETS) else { return };
    let Some(subflow) = tcp.subflow() else { return };
    let own = tcp.read::<u32>(Field::Rtt) >> 3;
    let fitting = if unsent::has_rested(since, own) {
        unsent::AFTER_REST
    } else {
        unsent::bound(tcp.read(Field::PacingRate), own, slowest(subflow))
    };
    set(ctx, &tcp, bound, fitting);
}

#[inline(always)]
fn set(ctx: &SockOpsContext, tcp: &Structure, bound: &mut Bound, fitting: u32) {
    // The kernel sets it too, when it comes to a subflow that has joined.
    let found: u32 = tcp.read(Field::Unsent);
    if !unsent::differs(found, fitting) {
        return;
    }
    if bound.is_set == 0 {
        // Nobody but the kernel and a daemon that was killed can have set another one.
        bound.before = if found == 0 { 0 } else { u32::MAX };
    }
    bound.is_set |= u32::from(set_unsent(ctx, fitting));
}

/// The round-trip time of the slowest subflow of its connection that carries, microseconds.
#[inline(always)]
fn slowest(subflow: Context) -> u32 {
    let Some(head) = subflow.connection_member(Field::Subflows) else { return 0 };
    let mut slowest = 0;
    let mut node = head;
    for _ in 0..MAX_SUBFLOWS {
        // The first member of `list_head` is `next`.
        node = Context::at(node, &OFFSETS).map_or(0, Context::first);
        if node == head {
            break;
        }
        let Some(other) = Context::around(node, Field::SubflowNode, &OFFSETS) else { break };
        let stands_by = other.flag(Field::BackupByUs) || other.flag(Field::BackupByPeer);
        if let Some(socket) = other.follow(Field::SubflowSocket)
            && !stands_by
        {
            let rtt = socket.member::<u32>(Field::Rtt) >> 3;
            if rtt > slowest {
                slowest = rtt;
            }
        }
    }
    slowest
}

/// Begins with the subflows that are there already: an iterator over the TCP sockets of the namespace of who reads
/// it. Its context is `bpf_iter__tcp` (net/ipv4/tcp_ipv4.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn adopt(ctx: *mut c_void) -> u32 {
    if let Some(socket) = Iteration::of(ctx).socket(1)
        && let Some(tcp) = socket.tcp(&OFFSETS)
        && tcp.subflow().is_some()
        && socket.keep(&BOUNDS).is_some()
    {
        socket.call_also_at(&tcp, BPF_SOCK_OPS_RTT_CB_FLAG);
    }
    0
}

/// Gives all subflows back what they had; another such iterator.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn release(ctx: *mut c_void) -> u32 {
    if let Some(socket) = Iteration::of(ctx).socket(1)
        && let Some(bound) = socket.kept(&BOUNDS)
        && bound.is_set != 0
    {
        socket.set_unsent(bound.before);
        bound.is_set = 0;
    }
    0
}
