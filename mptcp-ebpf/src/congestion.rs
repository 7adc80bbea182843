//! The object `congestion`: gives the MPTCP subflows of the daemon's network namespace the congestion control that the
//! configuration names.
//!
//! `control` runs at the events of sockets, for what begins; `change` visits what lives already. A control that an
//! application has chosen stays: the connection keeps its name (`mptcp_sock.ca_name`), which is that of the namespace's
//! default where nothing was chosen. (Who chooses the default by name cannot be told from who chooses nothing.)
//!
//! Connections may be excepted, by their tokens: the daemon does that where the configuration names other controls for
//! other service types. It knows the service type a moment after the connection has begun. And a subflow that joins gets
//! the options of its connection applied when the kernel comes to it, after which it has the default again
//! (`sync_socket_options`, net/mptcp/sockopt.c). So the program looks once more at each round-trip time that is measured.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RTT_CB, BPF_SOCK_OPS_RTT_CB_FLAG,
    },
    macros::{map, sock_ops},
    maps::{Array, HashMap},
    programs::SockOpsContext,
};
use mptcp_common::fields::{ABSENT, COUNT};
use mptcp_ebpf::kernel::{
    Context, ControlName, Element, Iteration, Offsets, Socket, Structure, call_also_at, netns_cookie,
    setting, use_congestion_control,
};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: where this kernel has what the programs read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// The name of the congestion control; empty for the namespace's default.
#[map]
static WANTED: Array<ControlName> = Array::with_max_entries(1, 0);

/// The same for single connections, by their local tokens.
#[map]
static EXCEPTIONS: HashMap<u32, ControlName> = HashMap::with_max_entries(16 << 10, BPF_F_NO_PREALLOC);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Runs at a TCP socket's events; its verdict changes nothing.
#[sock_ops]
pub fn control(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB if use_wanted(&ctx) => {
            call_also_at(&ctx, BPF_SOCK_OPS_RTT_CB_FLAG);
        }
        BPF_SOCK_OPS_RTT_CB => {
            use_wanted(&ctx);
        }
        _ => {}
    }
    1
}

/// Sees to it that the socket has what is wanted; false for what is not to be touched.
#[inline(always)]
fn use_wanted(ctx: &SockOpsContext) -> bool {
    if netns_cookie(ctx) != setting(&NETNS_COOKIE) {
        return false;
    }
    let Some(tcp) = Socket::of(ctx).and_then(|socket| socket.tcp(&OFFSETS)) else { return false };
    let default = tcp.name_of_control(tcp.default_control());
    let Some(subflow) = left_to_us(&tcp, &default) else { return false };
    let wanted = wanted(subflow, &default);
    if !are_same(&tcp.congestion_control(), wanted) {
        use_congestion_control(ctx, wanted);
    }
    true
}

/// Gives living subflows the congestion control, or the default back: an iterator over the TCP sockets of the namespace
/// of who reads it. Its context is `bpf_iter__tcp` (net/ipv4/tcp_ipv4.c).
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn change(ctx: *mut c_void) -> u32 {
    if let Some(socket) = Iteration::of(ctx).socket(1)
        && let Some(tcp) = socket.tcp(&OFFSETS)
    {
        let default = tcp.name_of_control(tcp.default_control());
        if let Some(subflow) = left_to_us(&tcp, &default) {
            socket.use_congestion_control(wanted(subflow, &default));
        }
    }
    0
}

/// The subflow that it is, if no application has chosen anything for its connection.
#[inline(always)]
fn left_to_us(tcp: &Structure, default: &ControlName) -> Option<Context> {
    tcp.subflow().filter(|subflow| subflow.chosen_control().is_some_and(|chosen| are_same(&chosen, default)))
}

/// The kernel leaves what it likes behind the zero at the end of a name.
#[inline(always)]
fn are_same(one: &ControlName, other: &ControlName) -> bool {
    for (a, b) in one.iter().zip(other) {
        if a != b {
            return false;
        }
        if *a == 0 {
            return true;
        }
    }
    false
}

/// What a subflow is to have.
#[inline(always)]
fn wanted(subflow: Context, default: &ControlName) -> &ControlName {
    let excepted = subflow.token().and_then(|token| Element::of(&EXCEPTIONS, &token)).map(Element::look_at);
    excepted.or_else(|| WANTED.get(0)).filter(|name| name[0] != 0).unwrap_or(default)
}
