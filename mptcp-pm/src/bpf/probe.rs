//! What of eBPF the running kernel takes: each program of each object is loaded, none is attached.
use std::os::fd::{AsFd, BorrowedFd};

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_insn;
use mptcp_common::fields::{self, Field};
use nix::errno::Errno;

use super::btf::Kind;
use super::offsets::Types;
use super::struct_ops::Object;
use super::sys::program::{self, Use};
use super::{
    Error, Kernel, attach, congestion, coupled, mptcpify, netns, objects, owner, silence, struct_ops, unsent,
};
use crate::probe::Feature;

/// What a program is loaded as.
#[derive(Clone, Copy, Debug)]
enum As {
    /// At the events of sockets.
    SockOps,
    /// Going over something, by the kernel's name for it.
    Iterator(&'static str),
    /// At a tracepoint, by its name.
    Tracepoint(&'static str),
    /// A member of `tcp_congestion_ops`.
    Congestion(&'static str),
    /// Before a function of the kernel.
    Before(&'static str),
}

/// The programs of an object, and what does not work without them.
struct Programs {
    object: &'static str,
    without: &'static str,
    /// Without one of these the object is not loaded.
    needs: &'static [Field],
    programs: &'static [(&'static str, As)],
}

/// Those of all objects.
const OBJECTS: &[Programs] = &[
    Programs {
        object: "path_stats",
        without: "the figures of paths stay empty, and nothing tells of their alarms",
        needs: &[],
        programs: &[
            ("path_stats", As::SockOps),
            ("read", As::Iterator("bpf_sk_storage_map")),
            ("adopt", As::Iterator("tcp")),
        ],
    },
    Programs {
        object: "silence",
        without: "a path that goes silent is left when the kernel's own retransmission notices",
        needs: &silence::NEEDED,
        programs: &[("silence", As::SockOps), ("adopt", As::Iterator("tcp"))],
    },
    Programs {
        object: "unsent",
        without: "what a failed path has lost waits behind what the others hold already",
        needs: &unsent::NEEDED,
        programs: &[("bound", As::SockOps), ("adopt", As::Iterator("tcp")), ("release", As::Iterator("tcp"))],
    },
    Programs {
        object: "owner",
        without: "rules for applications do not apply, and `status` does not say whose a connection is",
        needs: &owner::NEEDED,
        programs: &[("owner", As::Tracepoint("inet_sock_set_state"))],
    },
    Programs {
        object: "congestion",
        without: "no connection gets a congestion control from the daemon",
        needs: &congestion::NEEDED,
        programs: &[("control", As::SockOps), ("change", As::Iterator("tcp"))],
    },
    Programs {
        object: "coupled",
        without: "there is no coupled congestion control",
        needs: &coupled::NEEDED,
        programs: &[
            ("begin", As::Congestion("init")),
            ("end", As::Congestion("release")),
            ("undo", As::Congestion("undo_cwnd")),
            ("state", As::Congestion("set_state")),
            ("halve", As::Congestion("ssthresh")),
            ("balia_reduce", As::Congestion("ssthresh")),
            ("lia_avoid", As::Congestion("cong_avoid")),
            ("olia_avoid", As::Congestion("cong_avoid")),
            ("balia_avoid", As::Congestion("cong_avoid")),
        ],
    },
    Programs {
        object: "mptcpify",
        without: "applications get MPTCP only where `mptcp-pm exec -- COMMAND` starts them",
        needs: &mptcpify::NEEDED,
        programs: &[
            ("mptcpify", As::Before(mptcpify::FUNCTION)),
            ("begun", As::Tracepoint(mptcpify::TRACEPOINT)),
        ],
    },
];

/// What a program came to: how many instructions the verifier went through.
type Verified = Result<u32, Error>;

/// All of it; one line that says why where the kernel shows no types.
pub fn features() -> Vec<Feature> {
    let kernel = Kernel::default();
    match kernel.types() {
        Ok(types) => of(&kernel, types),
        Err(error) => {
            let types = Feature::tried("types", Err::<&str, _>(error));
            vec![types.serves("no eBPF program can be loaded: paths have no figures")]
        }
    }
}

/// All of it on a kernel, which has these types.
fn of(kernel: &Kernel, types: &Types) -> Vec<Feature> {
    let mut features = vec![
        Feature::yes("types", ""),
        present(types),
        scheduler(types),
        Feature::tried("congestion-control", registrable(types).map(|()| ""))
            .serves("there is no coupled congestion control"),
        modify_return(types),
    ];
    features.extend(OBJECTS.iter().flat_map(|programs| try_object(programs, kernel, types)));
    features
}

/// The members of structures that are read somewhere.
fn present(types: &Types) -> Feature {
    let (_, absent) = types.table();
    let feature = match absent.as_slice() {
        [] => Feature::yes("fields", format!("{} of {0}", fields::COUNT)),
        absent => Feature::no("fields", format!("there is no {}", absent.join(", "))),
    };
    feature.serves("figures that depend on these fields stay 0")
}

/// Packet schedulers in eBPF, which no stock kernel has up to 7.3.
fn scheduler(types: &Types) -> Feature {
    let name = "bpf_struct_ops_mptcp_sched_ops";
    match types.btf().id(Kind::Structure, name) {
        Some(_) => Feature::yes("packet-scheduler", ""),
        None => Feature::no("packet-scheduler", format!("the kernel's types have no {name}")),
    }
}

/// Whether a congestion control can be registered until a link ends. The map is made and nothing put into it.
fn registrable(types: &Types) -> Result<(), Error> {
    let structure = "bpf_struct_ops_tcp_congestion_ops";
    let absent = || Error::NoType { what: structure.to_owned() };
    let id = types.btf().id(Kind::Structure, structure).ok_or_else(absent)?;
    let size = types.btf().size(id).ok_or_else(absent)?;
    let made = program::create_struct_ops("probe", id, size as u32);
    made.map(drop).map_err(|source| Error::Register {
        object: "coupled",
        structure: "tcp_congestion_ops",
        source,
    })
}

/// Whether a program can run before `update_socket_protocol`, which makes MPTCP out of an application's TCP.
fn modify_return(types: &Types) -> Feature {
    /// `r0 = 0; exit`.
    fn keeps() -> [bpf_insn; 2] {
        [0xb7, 0x95].map(|code| bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
            off: 0,
            imm: 0,
        })
    }
    let function = "update_socket_protocol";
    let tried = types.btf().id(Kind::Function, function).ok_or(Errno::ENOENT).and_then(|function| {
        program::load_program(Use::ModifyReturn { function }, "probe", &keeps(), c"GPL", &mut [])
    });
    match tried {
        Ok(_) => Feature::yes("modify-return", function),
        Err(errno) => Feature::no("modify-return", format!("{function}: {errno}")),
    }
}

/// The object as a whole, then each of its programs.
fn try_object(programs: &Programs, kernel: &Kernel, types: &Types) -> Vec<Feature> {
    let Programs { object, without, .. } = programs;
    let whole = |result: Result<&str, Error>| Feature::tried(*object, result).serves(without);
    let tried = match load(programs, kernel, types) {
        Ok(tried) => tried,
        Err(error) => return vec![whole(Err(error))],
    };
    let failed: Vec<&str> =
        tried.iter().filter(|(_, result)| result.is_err()).map(|(name, _)| *name).collect();
    let summary = match failed.as_slice() {
        [] => whole(Ok("")),
        failed => {
            let why = format!("the kernel does not take {}", failed.join(", "));
            Feature::no(*object, why).serves(without)
        }
    };
    let each = tried.into_iter().map(|(name, result)| {
        let verified_instructions = result.as_ref().ok().copied();
        let feature = Feature::tried(format!("{object}/{name}"), result.map(|_| ""));
        Feature { verified_instructions, ..feature }
    });
    std::iter::once(summary).chain(each).collect()
}

/// Makes an object's maps and loads its programs, each for itself.
fn load(programs: &Programs, kernel: &Kernel, types: &Types) -> Result<Vec<(&'static str, Verified)>, Error> {
    let is_beyond_aya = |(_, what): &(_, As)| matches!(what, As::Congestion(_) | As::Before(_));
    if programs.programs.iter().any(is_beyond_aya) {
        return load_beyond_aya(programs, types);
    }
    let object = programs.object;
    let mut ebpf = prepare(programs, types)?;
    let types = kernel.for_aya()?;
    let each = |(name, what): &(&'static str, As)| (*name, load_one(&mut ebpf, object, name, *what, types));
    Ok(programs.programs.iter().map(each).collect())
}

/// As the loaders do, but for globals that an object need not have.
fn prepare(programs: &Programs, types: &Types) -> Result<Ebpf, Error> {
    let object = programs.object;
    let offsets = types.table_with(programs.needs)?;
    let (cookie, tick) = (netns::cookie()?, attach::tick_ns()?);
    EbpfLoader::new()
        .btf(None)
        .override_global("NETNS_COOKIE", &cookie, false)
        .override_global("TICK_NS", &tick, false)
        .override_global("OFFSETS", &offsets[..], false)
        .load(objects::get(object)?)
        .map_err(|source| Error::Object { object, source: Box::new(source) })
}

fn load_one(
    ebpf: &mut Ebpf,
    object: &'static str,
    name: &'static str,
    what: As,
    types: &aya::Btf,
) -> Verified {
    let refused = |source| Error::Load { object, program: name, source: Box::new(source) };
    let fd = match (ebpf.program_mut(name), what) {
        (Some(Program::SockOps(program)), As::SockOps) => program.load().and_then(|()| program.fd()),
        (Some(Program::Iter(program)), As::Iterator(over)) => {
            program.load(over, types).and_then(|()| program.fd())
        }
        (Some(Program::BtfTracePoint(program)), As::Tracepoint(tracepoint)) => {
            program.load(tracepoint, types).and_then(|()| program.fd())
        }
        _ => return Err(Error::Mismatch { object, part: name }),
    };
    verified(object, name, fd.map_err(refused)?.as_fd())
}

fn load_beyond_aya(programs: &Programs, types: &Types) -> Result<Vec<(&'static str, Verified)>, Error> {
    let name = programs.object;
    let offsets = types.table_with(programs.needs)?;
    let needs_structure = |(_, what): &(_, As)| matches!(what, As::Congestion(_));
    if programs.programs.iter().any(needs_structure) {
        registrable(types)?;
    }
    let offsets = offsets.map(u32::to_ne_bytes);
    let object = Object::new(name, objects::get(name)?, &[("OFFSETS", offsets.as_flattened())])?;
    let each =
        |(program, what): &(&'static str, As)| (*program, load_by_hand(&object, program, *what, types));
    Ok(programs.programs.iter().map(each).collect())
}

fn load_by_hand(object: &Object, program: &'static str, what: As, types: &Types) -> Verified {
    let what = match what {
        As::Congestion(member) => member_use(member, types)?,
        As::Before(function) => struct_ops::modify_return_use(types.btf(), function)?,
        As::Tracepoint(tracepoint) => struct_ops::tracepoint_use(types.btf(), tracepoint)?,
        As::SockOps | As::Iterator(_) => {
            return Err(Error::Mismatch { object: object.name(), part: program });
        }
    };
    let loaded = object.load(program, what)?;
    verified(object.name(), program, loaded.as_fd())
}

fn member_use(member: &'static str, types: &Types) -> Result<Use, Error> {
    let of = "tcp_congestion_ops";
    let absent = || Error::NoType { what: format!("{of}.{member}") };
    let structure = types.btf().id(Kind::Structure, of).ok_or_else(absent)?;
    let member = types.btf().member(structure, member).ok_or_else(absent)?.index;
    Ok(Use::StructOps { structure, member })
}

fn verified(object: &'static str, program: &'static str, fd: BorrowedFd<'_>) -> Verified {
    let log = String::new();
    program::verified_instructions(fd).map_err(|source| Error::Refused { object, program, source, log })
}

#[cfg(test)]
mod tests;
