//! Registers structures of functions written in eBPF with the kernel (`struct_ops`), and has programs run before kernel
//! functions (`fmod_ret`): the types of program that aya does not load, on top of what it does.
mod object;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya_obj::generated::bpf_insn;
use nix::errno::Errno;

use super::btf::{Btf, Kind};
use super::{Error, sys};
pub use object::Object;
use sys::program::Use;

/// A structure to be registered: what is not named here stays zero.
#[derive(Clone, Copy, Debug)]
pub struct Structure<'a> {
    /// The kernel's name for its type, `tcp_congestion_ops` for example.
    pub of: &'static str,
    /// Members that are data, and their bytes; at most as many as the member has.
    pub data: &'a [(&'static str, &'a [u8])],
    /// Members that are functions, and the names of the object's programs.
    pub functions: &'a [(&'static str, &'static str)],
}

/// Something that works as long as this is there: a registered structure, an attached program.
#[derive(Debug)]
pub struct Link(#[expect(dead_code, reason = "held, so that the kernel holds what it stands for")] OwnedFd);

/// Registers a structure, until the link is dropped. What uses it then in the kernel goes on to do so.
///
/// # Errors
/// - `Error::NoType` when this kernel has no such structure for eBPF, or not with these members.
/// - `Error::Mismatch` when the object has no such program.
/// - `Error::Refused` when the verifier refuses a program, with its log.
/// - `Error::Register` when the kernel refuses the structure.
pub fn register(object: &Object, types: &Btf, structure: &Structure) -> Result<Link, Error> {
    let of = structure.of;
    let wrapper = format!("bpf_struct_ops_{of}");
    let absent = |what: &str| Error::NoType { what: what.to_owned() };
    let id = types.id(Kind::Structure, of).ok_or_else(|| absent(of))?;
    let wrapper_id = types.id(Kind::Structure, &wrapper).ok_or_else(|| absent(&wrapper))?;
    let size = types.size(wrapper_id).ok_or_else(|| absent(&wrapper))?;
    let data = types.member(wrapper_id, "data").ok_or_else(|| absent(&wrapper))?;
    let member = |name: &str| types.member(id, name).ok_or_else(|| absent(&format!("{of}.{name}")));

    let mut value = vec![0; size];
    let mut set = |name: &str, offset: usize, room: usize, bytes: &[u8]| {
        let place = value.get_mut(data.offset + offset..).and_then(|rest| rest.get_mut(..bytes.len()));
        match place.filter(|_| bytes.len() <= room) {
            Some(place) => place.copy_from_slice(bytes),
            None => return Err(absent(&format!("{of}.{name} of {} bytes", bytes.len()))),
        }
        Ok(())
    };
    for (name, bytes) in structure.data {
        let member = member(name)?;
        set(name, member.offset, member.size.unwrap_or(0), bytes)?;
    }
    // The kernel takes its own reference to each program when it is given the map's value.
    let mut programs = Vec::new();
    for (name, program) in structure.functions {
        let member = member(name)?;
        let what = Use::StructOps { structure: id, member: member.index };
        let loaded = object.load(program, what)?;
        // A pointer to a function stands for the descriptor of its program.
        let descriptor = loaded.as_raw_fd() as u64;
        set(name, member.offset, member.size.unwrap_or(0), &descriptor.to_ne_bytes())?;
        programs.push(loaded);
    }
    let refused = |source| Error::Register { object: object.name(), structure: of, source };
    let map = sys::program::create_struct_ops(of, wrapper_id, size as u32).map_err(refused)?;
    sys::program::set_only_value(map.as_fd(), size, &value).map_err(refused)?;
    sys::program::link_struct_ops(map.as_fd()).map(Link).map_err(refused)
}

/// A program that is loaded to run before a function of the kernel, and does not run yet.
pub struct Program {
    object: &'static str,
    function: &'static str,
    loaded: OwnedFd,
}

impl Program {
    /// Loads one of the object's programs, for a function of the kernel that allows it (`fmod_ret`).
    ///
    /// # Errors
    /// As with [`register`]; `Error::Refused` also when the function may not be replaced.
    pub fn before(
        object: &Object,
        types: &Btf,
        function: &'static str,
        program: &'static str,
    ) -> Result<Self, Error> {
        let loaded = object.load(program, modify_return_use(types, function)?)?;
        Ok(Self { object: object.name(), function, loaded })
    }

    /// Has it run until the link is dropped. When it returns something else than 0, the function is not run and its caller
    /// gets that.
    ///
    /// # Errors
    /// `Error::Register` when the kernel does not call it.
    pub fn attach(self) -> Result<Link, Error> {
        let Self { object, function: structure, loaded } = self;
        let link = sys::program::link_modify_return(loaded.as_fd());
        link.map(Link).map_err(|source| Error::Register { object, structure, source })
    }
}

/// Has one of the object's programs run at a tracepoint, until the link is dropped.
///
/// # Errors
/// As with [`Program::before`] and [`Program::attach`].
pub fn at_tracepoint(
    object: &Object,
    types: &Btf,
    tracepoint: &'static str,
    program: &'static str,
) -> Result<Link, Error> {
    let loaded = object.load(program, tracepoint_use(types, tracepoint)?)?;
    let link = sys::program::link_tracepoint(loaded.as_fd());
    link.map(Link).map_err(|source| Error::Register { object: object.name(), structure: tracepoint, source })
}

/// What a program for a tracepoint is loaded as.
///
/// # Errors
/// `Error::NoType` when this kernel has no such tracepoint.
pub(super) fn tracepoint_use(types: &Btf, tracepoint: &str) -> Result<Use, Error> {
    let name = format!("btf_trace_{tracepoint}");
    let id = types.id(Kind::Definition, &name);
    id.map(|tracepoint| Use::Tracepoint { tracepoint }).ok_or(Error::NoType { what: name })
}

/// What a program that runs before a function of the kernel is loaded as.
///
/// # Errors
/// `Error::NoType` when this kernel has no such function.
pub(super) fn modify_return_use(types: &Btf, function: &str) -> Result<Use, Error> {
    let id = types.id(Kind::Function, function);
    id.map(|function| Use::ModifyReturn { function })
        .ok_or_else(|| Error::NoType { what: format!("{function}()") })
}

/// Loads a program; when the kernel refuses it, once more for the verifier's reasons.
fn load(what: Use, name: &str, code: &[bpf_insn], license: &CStr) -> Result<OwnedFd, (Errno, String)> {
    /// Enough for what is of interest, which is the end; the verifier keeps that when there is more (since Linux 6.4).
    const LOG_SIZE: usize = 1 << 20;
    sys::program::load_program(what, name, code, license, &mut []).or_else(|source| {
        let mut log = vec![0; LOG_SIZE];
        match sys::program::load_program(what, name, code, license, &mut log) {
            Ok(program) => Ok(program),
            Err(_) => Err((source, last_lines(&log))),
        }
    })
}

/// The last lines of a log that ends with a zero byte.
fn last_lines(log: &[u8]) -> String {
    const LINES: usize = 40;
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r0 = value; exit`.
    fn returns(value: i32) -> [bpf_insn; 2] {
        let instruction = |code, imm| bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
            off: 0,
            imm,
        };
        [instruction(0xb7, value), instruction(0x95, 0)]
    }

    fn kernel() -> Btf {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF");
        Btf::parse(bytes).unwrap()
    }

    /// `update_socket_protocol` (net/socket.c, Linux 6.6) lets a program replace the protocol; by 0 it does not.
    #[test]
    #[ignore = "not on every kernel: some machines refuse all tracing programs with EPERM, even before the verifier"]
    fn a_program_runs_before_a_function_that_allows_it_and_before_no_other() {
        let types = kernel();
        let license = c"GPL";
        let what = |name| Use::ModifyReturn { function: types.id(Kind::Function, name).unwrap() };
        let program = load(what("update_socket_protocol"), "keep", &returns(0), license).expect("as root");
        let link = sys::program::link_modify_return(program.as_fd()).unwrap();
        drop(Link(link));
        let (errno, log) = load(what("tcp_v4_connect"), "keep", &returns(0), license).unwrap_err();
        assert_eq!(errno, Errno::EINVAL);
        assert!(log.contains("tcp_v4_connect"), "{log}");
    }

    #[test]
    fn what_the_verifier_says_is_kept() {
        let types = kernel();
        let structure = types.id(Kind::Structure, "tcp_congestion_ops").unwrap();
        let member = types.member(structure, "ssthresh").unwrap().index;
        let exit_only = &returns(0)[1..];
        let refused = load(Use::StructOps { structure, member }, "ssthresh", exit_only, c"GPL");
        let (errno, log) = refused.unwrap_err();
        assert_eq!(errno, Errno::EACCES);
        assert!(log.contains("R0 !read_ok"), "{log}");
    }

    #[test]
    fn the_end_of_a_log_is_kept() {
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let kept = last_lines(&[log.as_bytes(), b"\0\0garbage"].concat());
        assert!(kept.starts_with("line 60\n") && kept.ends_with("line 99"), "{kept}");
        assert_eq!(last_lines(b"\0"), "");
    }
}
