//! The object `path_stats`: counts the MPTCP subflows that are established in the daemon's network namespace.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB},
    macros::{map, sock_ops},
    maps::Array,
    programs::SockOpsContext,
};
use mptcp_common::path_stats::Established;
use mptcp_ebpf::kernel::{Subflow, count, netns_cookie, setting};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: `inet_connection_sock.icsk_ulp_data`, in bytes from the start of `tcp_sock`.
#[unsafe(no_mangle)]
static ULP_DATA: u32 = 0;

/// Set by the loader: `mptcp_subflow_context.mp_capable`, in bits from the start.
#[unsafe(no_mangle)]
static MP_CAPABLE: u32 = 0;

/// Set by the loader: `mptcp_subflow_context.mp_join`, in bits from the start.
#[unsafe(no_mangle)]
static MP_JOIN: u32 = 0;

/// The counters that the daemon reads, at the indices that `Established` names.
#[map]
static ESTABLISHED: Array<u64> = Array::with_max_entries(Established::COUNT, 0);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Runs at each of a TCP socket's events; its verdict changes nothing.
#[sock_ops]
pub fn path_stats(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => established(&ctx, true),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(&ctx, false),
        _ => {}
    }
    1
}

#[inline(always)]
fn established(ctx: &SockOpsContext, active: bool) {
    if netns_cookie(ctx) != setting(&NETNS_COOKIE) {
        return;
    }
    let Some(subflow) = Subflow::of(ctx, setting(&ULP_DATA)) else { return };
    let (mp_capable, mp_join) = (subflow.flag(setting(&MP_CAPABLE)), subflow.flag(setting(&MP_JOIN)));
    if let Some(way) = Established::of(mp_capable, mp_join, active) {
        count(&ESTABLISHED, way.index());
    }
}
