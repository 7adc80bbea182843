//! Safe words for what programs ask of the kernel: nearly all the unsafe code of the objects is here.
mod context;
pub mod process;
mod timer;

use core::{
    ffi::c_void,
    hint::black_box,
    intrinsics::{AtomicOrdering, atomic_xadd},
    mem::{MaybeUninit, align_of, size_of, size_of_val},
    ptr::{self, NonNull, from_mut, from_ref, null, null_mut, read_volatile, write_volatile},
};

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    btf_maps::{self, SkStorage},
    helpers::generated::{
        bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_jiffies64, bpf_ktime_get_ns, bpf_map_update_elem,
        bpf_probe_read_kernel, bpf_setsockopt, bpf_sk_storage_delete, bpf_sk_storage_get,
        bpf_skc_to_tcp_sock,
    },
    maps::{Array, HashMap, RingBuf},
    programs::SockOpsContext,
};
use mptcp_common::{
    fields::{ABSENT, COUNT, Field},
    path_stats::Record,
};

pub use self::context::{Context, Flags};
pub use self::timer::{Callback, Timer};

/// Where this kernel has each [`Field`], in bits from the start of its structure.
pub type Offsets = [u32; COUNT];

/// The value of a global that the loader has set. A plain read would yield the compiler's own idea of it.
#[inline(always)]
pub fn setting<T: Copy>(global: &'static T) -> T {
    // SAFETY: a reference is valid to read; volatile only keeps the compiler from doing without the read.
    unsafe { read_volatile(global) }
}

/// Now, in nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Now, in the kernel's timer ticks; TCP keeps the lower half of it.
#[inline(always)]
pub fn ticks() -> u32 {
    // SAFETY: the helper has no arguments.
    unsafe { bpf_jiffies64() as u32 }
}

/// The cookie of the network namespace that the context's socket lives in.
#[inline(always)]
pub fn netns_cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes the context that the kernel passed to the program.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// The delivery rate of the context's socket, bytes per second, as `tcp_compute_delivery_rate` (net/ipv4/tcp.c) has it.
#[inline(always)]
pub fn delivery_rate(ctx: &SockOpsContext) -> u64 {
    // SAFETY: `ops` is the kernel's context, of which programs may read these.
    let (delivered, interval, size) =
        unsafe { ((*ctx.ops).rate_delivered, (*ctx.ops).rate_interval_us, (*ctx.ops).mss_cache) };
    rate(delivered, interval, size)
}

/// The smoothed round-trip time of the context's socket, microseconds; the kernel keeps it eight times as large.
#[inline(always)]
pub fn smoothed_rtt(ctx: &SockOpsContext) -> u32 {
    // SAFETY: `ops` is the kernel's context, of which programs may read this.
    unsafe { (*ctx.ops).srtt_us >> 3 }
}

/// Gives the context's socket another congestion control; false when there is none of this name.
#[inline(always)]
pub fn use_congestion_control(ctx: &SockOpsContext, name: &ControlName) -> bool {
    set_congestion_control(ctx.as_ptr(), name)
}

/// The name of a congestion control, filled up with zeros (`TCP_CA_NAME_MAX`).
pub type ControlName = [u8; 16];

/// `of` is the context of a sockops program, or a socket whose lock is held.
#[inline(always)]
fn set_congestion_control(of: *mut c_void, name: &ControlName) -> bool {
    let mut name = *name;
    // SAFETY: the verifier checks what `of` is; the helper reads as many bytes of the name as it is told.
    unsafe {
        bpf_setsockopt(of, SOL_TCP, TCP_CONGESTION, (&raw mut name).cast(), size_of::<ControlName>() as i32)
            == 0
    }
}

/// Bounds what the context's socket takes beyond what is under way, bytes; false when the kernel does not.
#[inline(always)]
pub fn set_unsent(ctx: &SockOpsContext, bytes: u32) -> bool {
    set_number(ctx.as_ptr(), TCP_NOTSENT_LOWAT, bytes)
}

/// Gives the context's socket another first window, segments; false when it has sent data.
#[inline(always)]
pub fn set_first_window(ctx: &SockOpsContext, segments: u32) -> bool {
    set_number(ctx.as_ptr(), TCP_BPF_IW, segments)
}

/// `of` is the context of a sockops program, or a socket whose lock is held.
#[inline(always)]
fn set_number(of: *mut c_void, option: i32, mut number: u32) -> bool {
    let length = size_of::<u32>() as i32;
    // SAFETY: the verifier checks what `of` is; the helper reads `length` bytes.
    unsafe { bpf_setsockopt(of, SOL_TCP, option, (&raw mut number).cast(), length) == 0 }
}

/// Of `include/uapi/linux/tcp.h` and `bpf.h`.
const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const TCP_NOTSENT_LOWAT: i32 = 25;
const TCP_BPF_IW: i32 = 1001;
const TCP_BPF_SOCK_OPS_CB_FLAGS: i32 = 1008;

/// Segments of a size in microseconds, as bytes per second; 0 when nothing was measured.
#[inline(always)]
fn rate(delivered: u32, interval_us: u32, size: u32) -> u64 {
    if interval_us == 0 { 0 } else { delivered as u64 * size as u64 * 1_000_000 / interval_us as u64 }
}

/// Asks the kernel to call the program at further events of the context's socket, beside those that are asked for
/// already.
#[inline(always)]
pub fn call_also_at(ctx: &SockOpsContext, flags: u32) {
    // It fails only for flags that this kernel does not know.
    let _ = ctx.set_cb_flags((called_at(ctx) | flags) as i32);
}

/// Takes that back.
#[inline(always)]
pub fn call_no_longer_at(ctx: &SockOpsContext, flags: u32) {
    let _ = ctx.set_cb_flags((called_at(ctx) & !flags) as i32);
}

#[inline(always)]
fn called_at(ctx: &SockOpsContext) -> u32 {
    // SAFETY: `ops` is the kernel's context, of which programs may read this.
    unsafe { (*ctx.ops).bpf_sock_ops_cb_flags }
}

/// A socket that the kernel has handed to the program, of whatever sort.
#[derive(Clone, Copy)]
pub struct Socket(NonNull<c_void>);

impl Socket {
    /// The context's socket.
    #[inline(always)]
    pub fn of(ctx: &SockOpsContext) -> Option<Self> {
        // SAFETY: `ops` is the kernel's context, of which programs may read `sk`.
        NonNull::new(unsafe { (*ctx.ops).__bindgen_anon_2.sk }).map(|socket| Self(socket.cast()))
    }

    /// One of the arguments of a tracing program, whose context is a row of them: a socket.
    #[inline(always)]
    pub fn argument(ctx: *mut c_void, index: usize) -> Option<Self> {
        NonNull::new(argument(ctx, index) as *mut c_void).map(Self)
    }

    /// Its TCP part, if it is a TCP socket.
    #[inline(always)]
    pub fn tcp(self, offsets: &'static Offsets) -> Option<Structure> {
        // SAFETY: the helper takes any socket that is not null, and refuses those that are not TCP.
        NonNull::new(unsafe { bpf_skc_to_tcp_sock(self.0.as_ptr()) })
            .map(|start| Structure { start: start.cast(), offsets })
    }

    /// What is kept beside it.
    #[inline(always)]
    pub fn kept<T>(self, storage: &'static impl Beside<T>) -> Option<&'static mut T> {
        self.storage(storage, 0)
    }

    /// What is kept beside it, all zeros when that is new; `None` without memory.
    #[inline(always)]
    pub fn keep<T>(self, storage: &'static impl Beside<T>) -> Option<&'static mut T> {
        self.storage(storage, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "it leads to what lies beside the socket, not into the map's definition"
    )]
    fn storage<T>(self, storage: &'static impl Beside<T>, flags: u64) -> Option<&'static mut T> {
        let map = from_ref(storage).cast_mut().cast();
        // SAFETY: the helper takes the map and a socket; the program holds the socket, and with it what it returns,
        // to its end. Programs of one socket run one after the other: its lock is held.
        unsafe { bpf_sk_storage_get(map, self.0.as_ptr(), null_mut(), flags).cast::<T>().as_mut() }
    }

    /// Whether this is what is kept beside it. The memory of a TCP socket that has ended may be that of another one at once
    /// (`SLAB_TYPESAFE_BY_RCU`, net/ipv4/tcp_ipv4.c), beside which something else is kept.
    #[inline(always)]
    pub fn keeps<T>(self, storage: &'static impl Beside<T>, value: &T) -> bool {
        let map = from_ref(storage).cast_mut().cast();
        // SAFETY: as with `storage`; what it returns is only compared.
        ptr::eq(unsafe { bpf_sk_storage_get(map, self.0.as_ptr(), null_mut(), 0) }.cast(), value)
    }

    /// Forgets what is kept beside it; false when there was nothing.
    #[inline(always)]
    pub fn forget<T>(self, storage: &'static impl Beside<T>) -> bool {
        // SAFETY: as with `storage`; nobody uses what it returned after this.
        unsafe { bpf_sk_storage_delete(from_ref(storage).cast_mut().cast(), self.0.as_ptr()) == 0 }
    }

    /// Where it is, for who can only keep a number.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// Its cookie; only for programs whose context is not the socket's own.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: in tracing programs the helper takes a socket.
        unsafe { bpf_get_socket_cookie(self.0.as_ptr()) }
    }

    /// Asks the kernel to call the sockops programs at further events of the socket, beside those that are asked for
    /// already; false when it cannot (before 6.12).
    #[inline(always)]
    pub fn call_also_at(self, tcp: &Structure, flags: u32) -> bool {
        let already = u32::from(tcp.read::<u8>(Field::CalledAt));
        set_number(self.0.as_ptr(), TCP_BPF_SOCK_OPS_CB_FLAGS, already | flags)
    }

    /// Bounds what it takes beyond what is under way, bytes. Only for iterators, which hold its lock.
    #[inline(always)]
    pub fn set_unsent(self, bytes: u32) -> bool {
        set_number(self.0.as_ptr(), TCP_NOTSENT_LOWAT, bytes)
    }

    /// Gives it another congestion control; false when there is none of this name. Only for iterators, which hold its lock.
    #[inline(always)]
    pub fn use_congestion_control(self, name: &ControlName) -> bool {
        set_congestion_control(self.0.as_ptr(), name)
    }
}

/// A map of what is kept beside sockets.
pub trait Beside<T> {}

impl<T> Beside<T> for SkStorage<T> {}

/// What is kept beside sockets, and is copied for those that a listening one accepts.
#[repr(C)]
pub struct Inherited<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: a definition for the loader; no program reads what it holds.
unsafe impl<T> Sync for Inherited<T> {}

impl<T> Beside<T> for Inherited<T> {}

impl<T> Inherited<T> {
    /// The definition; the loader makes the map.
    #[expect(clippy::new_without_default, reason = "only statics hold it")]
    pub const fn new() -> Self {
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }
}

/// The cookie of the context's socket.
#[inline(always)]
pub fn cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: in sockops programs the helper takes the context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// One of the arguments of a `struct_ops` or a tracing program. Of a shorter integer only its own bytes mean anything.
#[inline(always)]
pub fn argument(ctx: *mut c_void, index: usize) -> u64 {
    // SAFETY: the context is a row of arguments of eight bytes each, and the verifier checks the index.
    unsafe { ctx.cast::<u64>().add(index).read() }
}

/// An element of a hash map. It stays memory of its map to the program's end, whatever becomes of it.
#[derive(Clone, Copy)]
pub struct Element<V>(NonNull<V>);

impl<V: Copy> Element<V> {
    /// The one that a key leads to.
    #[inline(always)]
    pub fn of<K>(map: &HashMap<K, V>, key: &K) -> Option<Self> {
        map.get_ptr_mut(key).and_then(NonNull::new).map(Self)
    }

    /// To be read. Another CPU may be writing to it meanwhile: what is read twice may be different.
    #[inline(always)]
    pub fn look_at(self) -> &'static V {
        // SAFETY: the verifier has seen that the pointer is one to an element. Any bytes are a value of the plain integers
        // that elements consist of.
        unsafe { self.0.as_ref() }
    }
}

impl<V: Copy, const N: usize> Element<[V; N]> {
    /// Replaces a part of it; nothing when there is no such part.
    #[inline(always)]
    pub fn store(self, index: usize, value: V) {
        if index < N {
            // SAFETY: as with `look_at`, and the index is inside.
            unsafe { self.0.cast::<V>().add(index).write(value) };
        }
    }
}

/// The value that a key leads to, to be changed where it is. Programs and timers on other CPUs may be changing it too.
#[expect(clippy::mut_from_ref, reason = "the map is the kernel's memory, not what the reference leads to")]
#[inline(always)]
pub fn element<K, V, const N: usize, const F: usize>(
    map: &'static btf_maps::HashMap<K, V, N, F>,
    key: K,
) -> Option<&'static mut V> {
    // SAFETY: values stay memory of their map to the program's end; they consist of plain integers, of which each has
    // one writer, and of a timer, which has its own lock.
    map.get_ptr_mut(key).and_then(|value| unsafe { value.as_mut() })
}

/// A new value, all zeros, for a key that has none; `None` when it has one, or there is no room. The stack has none for
/// large values.
#[expect(clippy::mut_from_ref, reason = "the map is the kernel's memory, not what the reference leads to")]
#[inline(always)]
pub fn insert_zeros<K: Copy, V, const N: usize, const F: usize>(
    map: &'static btf_maps::HashMap<K, V, N, F>,
    key: K,
) -> Option<&'static mut V> {
    static ZEROS: [u64; 64] = [0; 64];
    const { assert!(size_of::<V>() <= size_of_val(&ZEROS), "it is copied from ZEROS") };
    // SAFETY: the helper copies as much as a value is large, and the values are plain integers. It leaves out a timer.
    let done = unsafe {
        bpf_map_update_elem(
            from_ref(map).cast_mut().cast(),
            (&raw const key).cast(),
            (&raw const ZEROS).cast(),
            u64::from(BPF_NOEXIST),
        )
    };
    if done == 0 { element(map, key) } else { None }
}

/// The same memory, of which the compiler has to read again what it needs. To the verifier that is any number: it
/// does not go through all that may come of one number together with another.
#[inline(always)]
pub fn forget<T>(value: &mut T) -> &mut T {
    black_box(value)
}

/// Memory that is filled with zeros by words: what the compiler calls for it (`memset` of aya-ebpf) goes by bytes, and the
/// verifier goes through each.
///
/// # Safety
///
/// Zeros must be a `T`.
#[inline(always)]
pub unsafe fn zeroed<T>(place: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: the word lies in the place. Volatile, because the compiler would make a call of a row of writes.
        unsafe { place.as_mut_ptr().cast::<u64>().add(index).write_volatile(0) };
    }
    // SAFETY: it is all written, and the caller says that this makes a `T`.
    unsafe { place.assume_init_mut() }
}

/// Copies by words, for the same reason.
#[inline(always)]
pub fn copy<T: Copy>(from: &T, to: &mut T) {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    let (from, to) = (from_ref(from).cast::<MaybeUninit<u64>>(), from_mut(to).cast::<MaybeUninit<u64>>());
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: the words lie in what is lent, and make a `T` together since they come from one. Volatile as above.
        unsafe { to.add(index).write_volatile(from.add(index).read()) };
    }
}

/// The value that a timer was called with, likewise.
#[expect(
    clippy::not_unsafe_ptr_arg_deref,
    reason = "only the kernel makes such pointers, and the verifier checks them"
)]
#[inline(always)]
pub fn value<V>(value: *mut V) -> Option<&'static mut V> {
    // SAFETY: as with `element`: the kernel keeps the value while the timer's callback runs.
    unsafe { value.as_mut() }
}

/// A number by its key; 0 for none.
#[inline(always)]
pub fn number(map: &HashMap<u32, u32>, key: u32) -> u32 {
    // SAFETY: the value stays memory of its map, and is read once.
    map.get_ptr(key).map_or(0, |value| unsafe { read_volatile(value) })
}

/// A structure of the kernel's that the verifier knows the type of.
#[derive(Clone, Copy)]
pub struct Structure {
    start: NonNull<c_void>,
    offsets: &'static Offsets,
}

impl Structure {
    /// One of the arguments of a `struct_ops` program, whose context is a row of them: a pointer that is never null, to
    /// a structure.
    #[inline(always)]
    pub fn argument(ctx: *mut c_void, index: usize, offsets: &'static Offsets) -> Option<Self> {
        NonNull::new(argument(ctx, index) as *mut c_void).map(|start| Self { start, offsets })
    }

    /// What lies some bytes behind the start of a member. One is read after the other.
    #[inline(always)]
    pub fn read_behind<T: Copy + Default>(&self, field: Field, further: usize) -> T {
        match self.place(field, further) {
            // SAFETY: the offset comes from this kernel's BTF, and the verifier checks the read against it. Volatile, since the
            // kernel may be writing on another CPU.
            Some(place) => unsafe { read_volatile(place.cast::<T>()) },
            None => T::default(),
        }
    }

    /// Writes some bytes behind the start of a member. Programs may write only to few of them, as the verifier checks.
    #[inline(always)]
    pub fn write_behind<T: Copy>(&self, field: Field, further: usize, value: T) {
        if let Some(place) = self.place(field, further) {
            // SAFETY: as with `read_behind`; volatile, because the compiler would make calls of several writes in a row.
            unsafe { write_volatile(place.cast::<T>(), value) };
        }
    }

    /// A member, whose size has to be that of `T`; 0 where this kernel has none.
    #[inline(always)]
    pub fn read<T: Copy + Default>(&self, field: Field) -> T {
        self.read_behind(field, 0)
    }

    /// Has a member brought into the processor's caches. What is read one after the other, with calls of helpers in
    /// between, is waited for one after the other; what is fetched before that, all at once.
    #[inline(always)]
    pub fn fetch(&self, field: Field) {
        if let Some(place) = self.place(field, 0) {
            // SAFETY: as with `read_behind`; volatile, because nobody uses what is read.
            unsafe { read_volatile(place.cast::<u32>()) };
        }
    }

    /// A member that is a structure or an array, read by probing.
    #[inline(always)]
    pub fn probe<T: Copy + Default>(&self, field: Field) -> T {
        self.place(field, 0).map_or_else(T::default, probe)
    }

    /// What a member points to.
    #[inline(always)]
    pub fn follow(&self, field: Field) -> Option<Context> {
        Context::at(self.read(field), self.offsets)
    }

    /// A bit field that lies in one byte; 0 where this kernel has none.
    #[inline(always)]
    fn bits(&self, field: Field, mask: u8) -> u8 {
        let first = offset(self.offsets, field).unwrap_or(0);
        self.read::<u8>(field) >> (first % 8) & mask
    }

    /// A bit field of one bit; false where this kernel has none.
    #[inline(always)]
    pub fn flag(&self, field: Field) -> bool {
        self.bits(field, 1) == 1
    }

    /// The subflow context of a TCP socket, if it is a subflow of an MPTCP connection. (The helper
    /// `bpf_skc_to_mptcp_sock` tells that too, but not to iterators.)
    #[inline(always)]
    pub fn subflow(&self) -> Option<Context> {
        if !self.flag(Field::IsMptcp) {
            return None;
        }
        Context::at(self.read(Field::UlpData), self.offsets)
    }

    /// The addresses of a TCP socket of this family, to where they are wanted: the stack has no room to spare.
    #[inline(always)]
    pub fn addresses(&self, family: u16, local: &mut [u8; 16], remote: &mut [u8; 16]) {
        if family == AF_INET {
            local[..4].copy_from_slice(&self.read::<u32>(Field::LocalV4).to_ne_bytes());
            remote[..4].copy_from_slice(&self.read::<u32>(Field::RemoteV4).to_ne_bytes());
        } else {
            *local = self.probe(Field::LocalV6);
            *remote = self.probe(Field::RemoteV6);
        }
    }

    /// The name of a TCP socket's congestion control.
    #[inline(always)]
    pub fn congestion_control(&self) -> ControlName {
        self.name_of_control(self.read(Field::CongestionOps))
    }

    /// Where the congestion control is that sockets of a TCP socket's network namespace have by default
    /// (`net.ipv4.tcp_congestion_control`); 0 where this kernel does not tell.
    #[inline(always)]
    pub fn default_control(&self) -> usize {
        let namespace = self.read::<usize>(Field::Namespace);
        offset(self.offsets, Field::DefaultControl)
            .map_or(0, |bits| probe(namespace.wrapping_add(bits as usize / 8) as *mut c_void))
    }

    /// The name of a congestion control at an address in the kernel.
    #[inline(always)]
    pub fn name_of_control(&self, address: usize) -> ControlName {
        offset(self.offsets, Field::CongestionName)
            .map_or([0; 16], |bits| probe(address.wrapping_add(bits as usize / 8) as *mut c_void))
    }

    /// The latest delivery rate of a TCP socket, bytes per second.
    #[inline(always)]
    pub fn delivery_rate(&self) -> u64 {
        rate(self.read(Field::RateDelivered), self.read(Field::RateInterval), self.read(Field::SegmentSize))
    }

    #[inline(always)]
    fn place(&self, field: Field, further: usize) -> Option<*mut c_void> {
        let bits = offset(self.offsets, field)?;
        // SAFETY: the offset is inside of the structure, as the verifier checks.
        Some(unsafe { self.start.as_ptr().byte_add(bits as usize / 8 + further) })
    }
}

/// Where a field is, in bits.
#[inline(always)]
fn offset(offsets: &'static Offsets, field: Field) -> Option<u32> {
    let bits = setting(&offsets[field as usize]);
    (bits != ABSENT).then_some(bits)
}

#[inline(always)]
fn probe<T: Copy + Default>(place: *mut c_void) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address itself, and leaves zeros when it is not a kernel address that is mapped. It
    // writes no more than there is room for.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, place) };
    value
}

/// `AF_INET` of `include/linux/socket.h`.
const AF_INET: u16 = 2;

/// Adds one to a counter. Another CPU, or an interrupt on this one, may be doing the same.
#[inline(always)]
pub fn count(counters: &Array<u64>, index: u32) {
    count_by(counters, index, 1);
}

/// Adds to a counter, likewise.
#[inline(always)]
pub fn count_by(counters: &Array<u64>, index: u32, number: u64) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the map's entries live as long as the program, are aligned, and are only written atomically. The
        // intrinsic, because `AtomicU64` has no `fetch_add` on a target without compare-and-swap.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, number) };
    }
}

/// Whether a flag of the daemon's was set; takes it back.
#[inline(always)]
pub fn take_flag(flags: &Array<u32>, index: u32) -> bool {
    match flags.get_ptr_mut(index) {
        // SAFETY: the map's entries live as long as the program and are aligned. Two CPUs may both find the flag set;
        // who takes flags can bear that.
        Some(flag) => unsafe {
            let was_set = read_volatile(flag) != 0;
            if was_set {
                flag.write_volatile(0);
            }
            was_set
        },
        None => false,
    }
}

/// Puts a record into a ring buffer; false when that is full.
#[inline(always)]
pub fn tell<T: 'static>(ring: &RingBuf, tag: u64, fill: impl FnOnce(&mut MaybeUninit<T>)) -> bool {
    put(ring, tag, 0, |body| {
        fill(body);
        true
    })
}

/// The same, with flags that say whether who waits for the ring buffer is woken (`BPF_RB_NO_WAKEUP` and its like). What
/// turns out not to be worth telling, as `fill` says with false, is dropped.
#[inline(always)]
pub fn put<T: 'static>(
    ring: &RingBuf,
    tag: u64,
    flags: u64,
    fill: impl FnOnce(&mut MaybeUninit<T>) -> bool,
) -> bool {
    let Some(mut entry) = ring.reserve::<Record<T>>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry has room for the record; `MaybeUninit` may be made of what is not written yet.
    let is_worth_it = unsafe {
        (&raw mut (*record).tag).write(tag);
        fill(&mut *(&raw mut (*record).body).cast())
    };
    match is_worth_it {
        true => entry.submit(flags),
        false => entry.discard(flags),
    }
    true
}

/// The context of an iterator program: pointers to what it visits.
#[derive(Clone, Copy)]
pub struct Iteration(*mut c_void);

impl Iteration {
    /// The context that the kernel has passed to an iterator program.
    #[inline(always)]
    pub fn of(ctx: *mut c_void) -> Self {
        Self(ctx)
    }

    #[inline(always)]
    fn pointer(self, index: usize) -> *mut c_void {
        // SAFETY: the context of every iterator is a row of pointers, and the verifier checks the index.
        unsafe { self.0.cast::<*mut c_void>().add(index).read() }
    }

    /// One of its pointers, to a socket; none at the end of the iteration.
    #[inline(always)]
    pub fn socket(self, index: usize) -> Option<Socket> {
        NonNull::new(self.pointer(index)).map(Socket)
    }

    /// One of its pointers, to a map's value; none at the end of the iteration.
    #[inline(always)]
    pub fn value<T>(self, index: usize) -> Option<&'static T> {
        // SAFETY: the kernel passes the value of the map that the iterator was attached to, and keeps it meanwhile.
        unsafe { self.pointer(index).cast::<T>().as_ref() }
    }
}
