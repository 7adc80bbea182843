//! Runs programs by hand, for tests: a row of arguments is what a raw tracepoint has, too.
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::{errno::Errno, libc};

use super::bpf;

pub(super) const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_PROG_TEST_RUN: libc::c_int = 10;

/// For `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct TestRun {
    program: u32,
    /// Written by the kernel.
    result: Cell<u32>,
    data: [u32; 2],
    data_places: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
}

/// Runs it once in this thread; what it returns.
pub fn run(program: BorrowedFd<'_>, arguments: &[u64]) -> Result<u32, Errno> {
    let attributes = TestRun {
        program: program.as_raw_fd() as u32,
        result: Cell::new(0),
        data: [0; 2],
        data_places: [0; 2],
        repeat: 0,
        duration: 0,
        context_size_in: size_of_val(arguments) as u32,
        context_size_out: 0,
        context_in: arguments.as_ptr().addr() as u64,
        context_out: 0,
        flags: 0,
        cpu: 0,
    };
    // SAFETY: the attributes are those of the command; the arguments outlive the call, and so does the cell that the
    // kernel writes the result to.
    unsafe { bpf(BPF_PROG_TEST_RUN, &attributes) }?;
    Ok(attributes.result.get())
}
