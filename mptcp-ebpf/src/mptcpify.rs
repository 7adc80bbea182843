//! The object `mptcpify`: applications that ask for TCP get MPTCP, where the configuration says so.
//!
//! The program runs before `update_socket_protocol` (net/socket.c, Linux 6.6), in the thread that makes a socket. All that
//! `[[application]]` tables say lies in maps that the loader fills: each table is a bit, the first one the lowest. Name,
//! user and cgroup each lead to the tables that they fit; of those that all three fit the first decides.
#![no_std]
#![no_main]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LpmTrie, RingBuf, lpm_trie::Key},
};
use mptcp_common::{
    applications::{CGROUPS_KNOWN, DEEPEST, NAME_BITS, NAME_LENGTH, NAMES_KNOWN, Tables, USERS_KNOWN},
    fields::{ABSENT, COUNT, Field},
};
use mptcp_ebpf::kernel::{
    Offsets, Structure, argument,
    process::{cgroup_at, found},
    setting,
};

/// Set by the loader: the one namespace whose sockets count; the program sees those of all.
#[unsafe(no_mangle)]
static NETNS_COOKIE: u64 = 0;

/// Set by the loader: where this kernel has what the programs read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = [ABSENT; COUNT];

/// Set by the loader: the tables that say yes; without any the program does nothing.
#[unsafe(no_mangle)]
static SAY_YES: Tables = 0;

/// Set by the loader: the tables that any name fits; any user; any cgroup.
#[unsafe(no_mangle)]
static ANY_NAME: Tables = 0;
#[unsafe(no_mangle)]
static ANY_USER: Tables = 0;
#[unsafe(no_mangle)]
static ANY_CGROUP: Tables = 0;

/// Set by the loader: how many users tables ask for, who they are, and the tables that each fits. They are few: to go
/// through them is quicker than to look into a map.
#[unsafe(no_mangle)]
static USER_COUNT: u32 = 0;
#[unsafe(no_mangle)]
static USERS: [u32; USERS_KNOWN] = [0; USERS_KNOWN];
#[unsafe(no_mangle)]
static TABLES_OF_USERS: [Tables; USERS_KNOWN] = [0; USERS_KNOWN];

/// The tables that a name fits: the longest beginning of it that is there stands for the shorter ones too.
#[map]
static NAMES: LpmTrie<[u64; NAME_LENGTH / 8], Tables> =
    LpmTrie::with_max_entries(NAMES_KNOWN, BPF_F_NO_PREALLOC);

/// The tables that a cgroup fits by its path or by that of one that it is inside of, by its id.
#[map]
static CGROUPS: HashMap<u64, Tables> = HashMap::with_max_entries(CGROUPS_KNOWN, BPF_F_NO_PREALLOC);

/// The ids of cgroups that begin.
#[map]
static BEGUN: RingBuf = RingBuf::with_byte_size(64 << 10, 0);

/// The license that some of the helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

// include/linux/socket.h, include/linux/net.h, include/uapi/linux/in.h
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;
/// What is not a type is a flag, as SOCK_CLOEXEC.
const SOCK_TYPE_MASK: u32 = 0xf;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

/// Runs before `int update_socket_protocol(int family, int type, int protocol)`; 0 leaves the protocol as it is. (The
/// reader of objects knows `fentry`, which has the same arguments.)
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/update_socket_protocol")]
pub extern "C" fn mptcpify(ctx: *mut c_void) -> u32 {
    let family = argument(ctx, 0) as u32;
    let kind = argument(ctx, 1) as u32 & SOCK_TYPE_MASK;
    let protocol = argument(ctx, 2) as u32;
    let is_tcp = kind == SOCK_STREAM
        && (protocol == 0 || protocol == IPPROTO_TCP)
        && (family == AF_INET || family == AF_INET6);
    if is_tcp && is_meant() { IPPROTO_MPTCP } else { 0 }
}

/// Whether the sockets of the process that runs become MPTCP. A thread may have a name of its own; that of the first one
/// is the process's.
#[inline(always)]
fn is_meant() -> bool {
    match Structure::of_this_thread(&OFFSETS) {
        Some(thread) => is_here(&thread) && is_yes(by_cgroup(&thread, by_user(&thread, by_name(&thread)))),
        None => false,
    }
}

/// Whether it is in the daemon's network namespace, as its socket will be.
#[inline(always)]
fn is_here(thread: &Structure) -> bool {
    let namespace = thread.inner(Field::Namespaces).and_then(|all| all.inner(Field::NetworkNamespace));
    namespace.is_some_and(|namespace| namespace.read::<u64>(Field::NamespaceCookie) == setting(&NETNS_COOKIE))
}

#[inline(always)]
fn by_name(thread: &Structure) -> Tables {
    let any = setting(&ANY_NAME);
    let Some(process) = thread.inner(Field::ThreadLeader) else { return any };
    let halves = [0, 8].map(|further| process.read_behind::<u64>(Field::ProcessName, further));
    any | NAMES.get(Key::new(NAME_BITS, halves)).copied().unwrap_or(0)
}

/// The user that owns the socket is the one that owns the files that the thread makes (`sock_alloc`, net/socket.c).
#[inline(always)]
fn by_user(thread: &Structure, tables: Tables) -> Tables {
    let any = setting(&ANY_USER);
    // Where the first one is sure to fit, or all fit any user, there is nothing to be asked.
    if first(tables) & !(any & setting(&ANY_CGROUP)) == 0 || tables & !any == 0 {
        return tables;
    }
    match thread.inner(Field::Credentials) {
        Some(credentials) => tables & (any | of_user(credentials.read(Field::FileUser))),
        None => tables & any,
    }
}

/// The tables that a user fits.
#[inline(always)]
fn of_user(user: u32) -> Tables {
    let known = USERS.iter().zip(&TABLES_OF_USERS).take(setting(&USER_COUNT) as usize);
    for (known, tables) in known {
        if setting(known) == user {
            return setting(tables);
        }
    }
    0
}

/// Of tables that fit otherwise. The loader knows all cgroups but those that begin at this moment, which count as what they are inside of.
#[inline(always)]
fn by_cgroup(thread: &Structure, tables: Tables) -> Tables {
    let any = setting(&ANY_CGROUP);
    if first(tables) & !any == 0 {
        return tables;
    }
    if let Some(fitting) = own_cgroup(thread).and_then(|id| found(&CGROUPS, &id)) {
        return tables & (any | fitting);
    }
    let mut fitting = any;
    for level in 0..DEEPEST {
        let id = cgroup_at(level);
        if id == 0 {
            break;
        }
        fitting |= found(&CGROUPS, &id).unwrap_or(0);
    }
    tables & fitting
}

/// The id of the thread's cgroup in the hierarchy of version 2, without the call that the helper takes.
#[inline(always)]
fn own_cgroup(thread: &Structure) -> Option<u64> {
    let cgroup = thread.inner(Field::CgroupsOfThread)?.inner(Field::DefaultCgroup)?;
    cgroup.inner(Field::CgroupNode).map(|node| node.read(Field::NodeId))
}

/// The first of the tables alone: where it fits for certain, the others do not matter.
#[inline(always)]
fn first(tables: Tables) -> Tables {
    tables & tables.wrapping_neg()
}

/// Whether the first of the tables says yes.
#[inline(always)]
fn is_yes(tables: Tables) -> bool {
    first(tables) & setting(&SAY_YES) != 0
}

/// Runs when a cgroup begins: the tracepoint `cgroup_mkdir`, with the cgroup (include/trace/events/cgroup.h). Those of all
/// hierarchies; the daemon looks up what has the id in its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/cgroup_mkdir")]
pub extern "C" fn begun(ctx: *mut c_void) -> u32 {
    if let Some(cgroup) = Structure::argument(ctx, 0, &OFFSETS)
        && let Some(node) = cgroup.follow(Field::CgroupNode)
    {
        // Without room it is not told.
        let _ = BEGUN.output::<u64>(node.member::<u64>(Field::NodeId), 0);
    }
    0
}
