//! The object `owner`: whose each MPTCP connection of the daemon's network namespace is.
//!
//! The program runs when a socket changes its state: as it begins to connect or to listen, in the process that wants
//! that; as it is accepted, when nobody in particular runs, and what was noted beside the listening socket counts.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    macros::{btf_map, map},
    maps::RingBuf,
};
use mptcp_common::{
    fields::{ABSENT, COUNT, Field},
    owner::{Owned, Owner},
};
use mptcp_ebpf::kernel::{Context, Inherited, Offsets, Socket, Structure, argument, setting};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: where this kernel has what the program reads.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// Whose each listening socket is, and each one that it accepts until that is told.
#[btf_map]
static LISTENERS: Inherited<Owner> = Inherited::new();

/// What the daemon is told: an [`Owned`] for each connection. When there is no room for one, its owner is not known.
#[map]
static OWNERS: RingBuf = RingBuf::with_byte_size(OWNERS_BYTES, 0);

const OWNERS_BYTES: u32 = 32 << 10;

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

// include/net/tcp_states.h
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// Runs when a socket's state changes: the tracepoint `inet_sock_set_state`, with the socket, the old and the new state
/// (include/trace/events/sock.h).
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/inet_sock_set_state")]
pub extern "C" fn owner(ctx: *mut c_void) -> u32 {
    match (argument(ctx, 1) as u32, argument(ctx, 2) as u32) {
        (TCP_CLOSE, TCP_SYN_SENT) => connecting(ctx),
        (TCP_CLOSE, TCP_LISTEN) => listening(ctx),
        (TCP_SYN_RECV, TCP_ESTABLISHED) => accepted(ctx),
        _ => {}
    }
    0
}

/// The token is known before the first packet is sent. The peer may not speak MPTCP: then nobody asks for it.
#[inline(always)]
fn connecting(ctx: *mut c_void) {
    let Some((_, tcp)) = ours(ctx) else { return };
    if let Some(subflow) = tcp.subflow()
        && subflow.flag(Field::RequestMptcp)
        && let Some(token) = subflow.token()
    {
        // The daemon looks when it hears that the connection is established.
        tell(token, here(&tcp), false);
    }
}

#[inline(always)]
fn listening(ctx: *mut c_void) {
    let Some((socket, tcp)) = ours(ctx) else { return };
    if let Some(kept) = socket.keep(&LISTENERS) {
        *kept = here(&tcp);
    }
}

/// The daemon hears of the connection a moment before: it has to be woken. Of a listener that is older than the program,
/// only what the socket tells is known.
#[inline(always)]
fn accepted(ctx: *mut c_void) {
    let Some((socket, tcp)) = ours(ctx) else { return };
    if let Some(subflow) = tcp.subflow()
        && subflow.flag(Field::MpCapable)
        && let Some(token) = subflow.token()
    {
        let owner = match socket.kept(&LISTENERS) {
            Some(kept) => *kept,
            None => told_by(&tcp),
        };
        tell(token, owner, true);
    }
    socket.forget(&LISTENERS);
}

/// The socket that the program runs for, when it is a subflow in the daemon's namespace.
#[inline(always)]
fn ours(ctx: *mut c_void) -> Option<(Socket, Structure)> {
    let socket = Socket::argument(ctx, 0)?;
    let tcp = socket.tcp(&OFFSETS)?;
    if !tcp.flag(Field::IsMptcp) {
        return None;
    }
    let cookie = tcp.follow(Field::Namespace)?.member::<u64>(Field::NamespaceCookie);
    (cookie == setting(&NETNS_COOKIE)).then_some((socket, tcp))
}

/// What the socket itself tells.
#[inline(always)]
fn told_by(tcp: &Structure) -> Owner {
    let node = tcp.follow(Field::Cgroup).and_then(|cgroup| cgroup.follow(Field::CgroupNode));
    let cgroup = node.map_or(0, |node| node.member(Field::NodeId));
    Owner { cgroup, uid: tcp.read(Field::User), pid: 0, process: [0; 16] }
}

/// The same, and the process that runs. A thread may have a name of its own; that of the first one is the process's.
#[inline(always)]
fn here(tcp: &Structure) -> Owner {
    let owner = told_by(tcp);
    let thread = Context::of_this_thread(&OFFSETS);
    match thread.and_then(|thread| thread.follow(Field::ThreadLeader)) {
        Some(leader) => {
            let (pid, process) = (leader.member(Field::ProcessId), leader.member(Field::ProcessName));
            Owner { pid, process, ..owner }
        }
        None => owner,
    }
}

/// Puts it where the daemon looks, and wakes it if it is to look at once, or has not looked for long.
#[inline(always)]
fn tell(token: u32, owner: Owner, at_once: bool) {
    let is_much = OWNERS.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(OWNERS_BYTES / 2);
    let flags = if at_once || is_much { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // Without room it is not told.
    let _ = OWNERS.output::<Owned>(Owned { owner, token, padding: 0 }, u64::from(flags));
}
