//! What the eBPF objects share. Empty on the host, where none of it means anything.
#![no_std]
#![cfg(target_arch = "bpf")]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the one atomic addition that the BPF target has")]

pub mod kernel;

/// The kernel's verifier rejects programs that could get here; the compiler wants it all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
