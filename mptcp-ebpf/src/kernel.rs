//! Safe words for what programs ask of the kernel: nearly all the unsafe code of the objects is here.
use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr::{NonNull, read_volatile},
};

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_netns_cookie, bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock},
    },
    maps::Array,
    programs::SockOpsContext,
};

/// The value of a global that the loader has set. A plain read would yield the compiler's own idea of it.
#[inline(always)]
pub fn setting<T: Copy>(global: &'static T) -> T {
    // SAFETY: a reference is valid to read; volatile only keeps the compiler from doing without the read.
    unsafe { read_volatile(global) }
}

/// The cookie of the network namespace that the context's socket lives in.
#[inline(always)]
pub fn netns_cookie(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the helper takes the context that the kernel passed to the program.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// The `mptcp_subflow_context` of a socket, an address in the kernel that is only good to be probed.
#[derive(Clone, Copy)]
pub struct Subflow(NonNull<c_void>);

impl Subflow {
    /// The subflow that the context's socket is, if it is one; `ulp_data` is the offset of
    /// `inet_connection_sock.icsk_ulp_data`.
    #[inline(always)]
    pub fn of(ctx: &SockOpsContext, ulp_data: u32) -> Option<Self> {
        // SAFETY: `ops` is the kernel's context, of which programs may read `sk`.
        let socket = NonNull::new(unsafe { (*ctx.ops).__bindgen_anon_2.sk })?.as_ptr().cast();
        // SAFETY: the helper takes any socket that is not null, and refuses those that are not subflows.
        NonNull::new(unsafe { bpf_skc_to_mptcp_sock(socket) })?;
        // SAFETY: the same socket, known to be a TCP socket now.
        let tcp = NonNull::new(unsafe { bpf_skc_to_tcp_sock(socket) })?;
        // SAFETY: the offset comes from this kernel's BTF, and the verifier checks the read against it.
        let context = unsafe { tcp.as_ptr().byte_add(ulp_data as usize).cast::<*mut c_void>().read() };
        NonNull::new(context).map(Self)
    }

    /// One flag of the context, given its place in bits from the start; false when it cannot be read.
    #[inline(always)]
    pub fn flag(self, bit: u32) -> bool {
        let byte = self.0.as_ptr().cast::<u8>().wrapping_add(bit as usize / 8);
        // SAFETY: the helper checks the address itself, and fails when it is not a kernel address that is mapped.
        unsafe { bpf_probe_read_kernel(byte) }.is_ok_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

/// Adds one to a counter. Another CPU, or an interrupt on this one, may be doing the same.
#[inline(always)]
pub fn count(counters: &Array<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the map's entries live as long as the program, are aligned, and are only written atomically. The
        // intrinsic, because `AtomicU64` has no `fetch_add` on a target without compare-and-swap.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
    }
}
