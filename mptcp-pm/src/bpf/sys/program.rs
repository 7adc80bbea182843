//! bpf(2) for the types of program that aya does not know: programs, links and the maps of `struct_ops`.
//!
//! The structures are `union bpf_attr` of include/uapi/linux/bpf.h, as far as each command uses it.
#[cfg(test)]
pub mod trial;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_insn, bpf_prog_info};
use nix::{errno::Errno, libc};

use super::{bpf, link, make};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_MAP_FREEZE: libc::c_int = 22;

const BPF_MAP_TYPE_STRUCT_OPS: u32 = 26;
/// The structure is registered by a link, and unregistered when that ends.
const BPF_F_LINK: u32 = 1 << 13;
const BPF_STRUCT_OPS: u32 = 44;
const BPF_TRACE_RAW_TP: u32 = 23;
const BPF_MODIFY_RETURN: u32 = 26;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_PROG_TYPE_STRUCT_OPS: u32 = 27;

/// What a program is for.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// A function of a kernel structure: the structure's type, the number of the member.
    StructOps {
        /// The structure's number in the kernel's BTF.
        structure: u32,
        /// The member's number in the structure, from 0.
        member: u32,
    },
    /// Runs before a kernel function, and may replace it.
    ModifyReturn {
        /// The function's number in the kernel's BTF.
        function: u32,
    },
    /// Runs at a tracepoint.
    Tracepoint {
        /// The number of the type `btf_trace_…` in the kernel's BTF.
        tracepoint: u32,
    },
    /// Runs only when it is tested, with what it is given for arguments.
    #[cfg(test)]
    Trial,
}

/// For `BPF_PROG_LOAD`.
#[repr(C)]
struct LoadProgram {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME_LENGTH],
    ifindex: u32,
    expected_attach_type: u32,
    btf: u32,
    func_info_size: u32,
    func_info: u64,
    func_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_type_id: u32,
    attach_program: u32,
    padding: u32,
}

/// Loads a program. With room for a log, the verifier writes one there, ended by a zero byte.
///
/// # Errors
/// Those of `BPF_PROG_LOAD` in bpf(2).
pub fn load_program(
    what: Use,
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    let (program_type, expected_attach_type, attach_type_id) = match what {
        Use::StructOps { structure, member } => (BPF_PROG_TYPE_STRUCT_OPS, member, structure),
        Use::ModifyReturn { function } => (BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN, function),
        Use::Tracepoint { tracepoint } => (BPF_PROG_TYPE_TRACING, BPF_TRACE_RAW_TP, tracepoint),
        #[cfg(test)]
        Use::Trial => (trial::BPF_PROG_TYPE_RAW_TRACEPOINT, 0, 0),
    };
    let attributes = LoadProgram {
        program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().expose_provenance() as u64 },
        kernel_version: 0,
        flags: 0,
        name: short_name(name),
        ifindex: 0,
        expected_attach_type,
        btf: 0,
        func_info_size: 0,
        func_info: 0,
        func_info_count: 0,
        line_info_size: 0,
        line_info: 0,
        line_info_count: 0,
        attach_type_id,
        attach_program: 0,
        padding: 0,
    };
    // SAFETY: the attributes are those of the command; instructions, license and log, to which they refer with their
    // sizes, outlive the call, and the log is ours to be written to.
    unsafe { make(BPF_PROG_LOAD, &attributes) }
}

/// For `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    object: u32,
    length: u32,
    info: u64,
}

/// How many instructions the verifier went through until it took a program in; 0 before Linux 5.16, which does not say.
///
/// # Errors
/// Those of `BPF_OBJ_GET_INFO_BY_FD` in bpf(2).
pub fn verified_instructions(program: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SAFETY: it is plain numbers, of which 0 is one.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let attributes = GetInfo {
        object: program.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the attributes are those of the command; the kernel writes at most `length` bytes to `info`, which outlives
    // the call. As all of it is zero, it asks for no lists to be written elsewhere.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) }.map(|_| info.verified_insns)
}

/// For `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct UpdateMap {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the only value of a map that is an array with one element, or registers that of a `struct_ops` map.
/// `size` is the size of the map's values.
///
/// # Errors
/// EINVAL when the value does not have that size; those of `BPF_MAP_UPDATE_ELEM` in bpf(2).
pub fn set_only_value(map: BorrowedFd<'_>, size: usize, value: &[u8]) -> Result<(), Errno> {
    if value.len() != size {
        return Err(Errno::EINVAL);
    }
    let key = 0u32;
    let attributes = UpdateMap {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const key).addr() as u64,
        value: value.as_ptr().addr() as u64,
        flags: 0,
    };
    // SAFETY: the attributes are those of the command; key and value outlive the call and have the sizes of the map.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attributes) }.map(|_| ())
}

/// Makes a map constant to this program, for ever: the verifier then knows what is in it.
///
/// # Errors
/// Those of `BPF_MAP_FREEZE` in bpf(2).
pub fn freeze_map(map: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = map.as_raw_fd() as u32;
    // SAFETY: the attributes are those of the command.
    unsafe { bpf(BPF_MAP_FREEZE, &attributes) }.map(|_| ())
}

/// For `BPF_BTF_LOAD`.
#[repr(C)]
struct LoadBtf {
    bytes: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// BTF with one type, `int`: `struct btf_header`, the type, the names.
#[rustfmt::skip]
const ONE_TYPE: [u32; 11] = [0x0001_eb9f, 24, 0, 16, 16, 8, 1, 1 << 24, 4, 32, u32::from_le_bytes(*b"\0int")];

/// Has the kernel take in BTF that says nothing: maps of `struct_ops` need some, though their type is the kernel's own.
fn load_btf() -> Result<OwnedFd, Errno> {
    // The names end with a zero byte, and are eight bytes with it.
    let mut bytes = ONE_TYPE.map(u32::to_le_bytes).concat();
    bytes.extend([0; 4]);
    let attributes = LoadBtf {
        bytes: bytes.as_ptr().addr() as u64,
        log: 0,
        size: bytes.len() as u32,
        log_size: 0,
        log_level: 0,
        padding: 0,
    };
    // SAFETY: the attributes are those of the command; the bytes outlive the call.
    unsafe { make(BPF_BTF_LOAD, &attributes) }
}

/// For `BPF_MAP_CREATE`.
#[repr(C)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; NAME_LENGTH],
    ifindex: u32,
    btf: u32,
    key_type: u32,
    value_type: u32,
    kernel_value_type: u32,
}

/// Makes the map that a structure of functions is registered through. `kernel_type` is the number of the structure
/// `bpf_struct_ops_…` in the kernel's BTF, `size` its size.
///
/// # Errors
/// Those of `BPF_MAP_CREATE` in bpf(2); EINVAL before Linux 6.4.
pub fn create_struct_ops(name: &str, kernel_type: u32, size: u32) -> Result<OwnedFd, Errno> {
    let btf = load_btf()?;
    let attributes = CreateMap {
        map_type: BPF_MAP_TYPE_STRUCT_OPS,
        key_size: size_of::<u32>() as u32,
        value_size: size,
        max_entries: 1,
        flags: BPF_F_LINK,
        inner_map: 0,
        numa_node: 0,
        name: short_name(name),
        ifindex: 0,
        btf: btf.as_raw_fd() as u32,
        key_type: 0,
        value_type: 0,
        kernel_value_type: kernel_type,
    };
    // SAFETY: the attributes are those of the command.
    unsafe { make(BPF_MAP_CREATE, &attributes) }
}

/// Registers the structure in a `struct_ops` map, until the link ends.
///
/// # Errors
/// Those of `BPF_LINK_CREATE` in bpf(2), and what the structure's own kind of kernel object says.
pub fn link_struct_ops(map: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    link(map, BPF_STRUCT_OPS, None)
}

/// Has a program run before the function that it was loaded for, until the link ends.
///
/// # Errors
/// Those of `BPF_LINK_CREATE` in bpf(2).
pub fn link_modify_return(program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    link(program, BPF_MODIFY_RETURN, None)
}

/// Has a program run at the tracepoint that it was loaded for, until the link ends.
///
/// # Errors
/// Those of `BPF_LINK_CREATE` in bpf(2); EINVAL before Linux 5.19.
pub fn link_tracepoint(program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    link(program, BPF_TRACE_RAW_TP, None)
}

/// `BPF_OBJ_NAME_LEN`.
const NAME_LENGTH: usize = 16;

/// As much of a name as the kernel keeps, with the zero at its end.
fn short_name(name: &str) -> [u8; NAME_LENGTH] {
    let mut short = [0; NAME_LENGTH];
    for (to, from) in short[..NAME_LENGTH - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    short
}
