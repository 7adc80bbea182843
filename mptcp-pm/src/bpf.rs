//! The only code that speaks bpf(2): loads the embedded objects, attaches their programs, reads their maps.

pub mod congestion;
pub mod coupled;
pub mod mptcpify;
pub mod owner;
pub mod path_stats;
pub mod probe;
pub mod silence;
pub mod struct_ops;
pub mod unsent;

mod attach;
mod btf;
mod cgroup;
mod kernel;
mod netns;
mod objects;
mod offsets;
mod sys;

pub use cgroup::root as cgroup_root;
pub use kernel::Kernel;

use std::{io, path::PathBuf};

use aya::{BtfError, EbpfError, maps::MapError, programs::ProgramError};
use nix::errno::Errno;
use thiserror::Error;

/// Why an eBPF object is not at work; the daemon does without it.
#[derive(Debug, Error)]
pub enum Error {
    /// `cargo build` alone does not build the objects.
    #[error("loading the eBPF object {object}: built without eBPF objects, use `cargo xtask build`")]
    NotBuilt {
        /// The object that is missing.
        object: &'static str,
    },
    /// The object is damaged, or its maps cannot be created.
    #[error("preparing the eBPF object {object} (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)")]
    Object {
        /// The object.
        object: &'static str,
        /// What aya found.
        source: Box<EbpfError>,
    },
    /// The object does not have what its loader expects: it is of another version.
    #[error("the eBPF object {object} has no {part}: it is not of this version, use `cargo xtask build`")]
    Mismatch {
        /// The object.
        object: &'static str,
        /// The program or map that it lacks.
        part: &'static str,
    },
    /// The kernel refuses the program; the cause has the verifier's log.
    #[error(
        "loading the program {program} of the eBPF object {object} (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)"
    )]
    Load {
        /// The object.
        object: &'static str,
        /// The program.
        program: &'static str,
        /// With the verifier's log.
        source: Box<ProgramError>,
    },
    /// The program is loaded but cannot be attached.
    #[error("attaching the program {program} of the eBPF object {object} to the cgroup {}", cgroup.display())]
    Attach {
        /// The object.
        object: &'static str,
        /// The program.
        program: &'static str,
        /// The root of the cgroup hierarchy.
        cgroup: PathBuf,
        /// What the kernel says.
        source: Box<ProgramError>,
    },
    /// The program is loaded but the kernel does not call it.
    #[error("attaching the program {program} of the eBPF object {object} to its tracepoint")]
    Trace {
        /// The object.
        object: &'static str,
        /// The program.
        program: &'static str,
        /// What the kernel says.
        source: Box<ProgramError>,
    },
    /// A map cannot be read.
    #[error("reading the map {map} of the eBPF object {object}")]
    Map {
        /// The object.
        object: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel says.
        source: Box<MapError>,
    },
    /// No cgroup2 hierarchy is mounted whole.
    #[error(
        "finding the root cgroup in /proc/self/mountinfo: no cgroup2 is mounted, use `mount -t cgroup2 none DIRECTORY`"
    )]
    NoCgroup,
    /// A file of the kernel's cannot be read.
    #[error("reading {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's own type information cannot be read.
    #[error("reading {file}: it is not BTF that this program understands")]
    Btf {
        /// The file.
        file: &'static str,
    },
    /// The kernel's own type information is not what aya understands.
    #[error("reading the kernel's BTF for its iterators")]
    KernelTypes(#[source] Box<BtfError>),
    /// The program is loaded but its iteration cannot be set up.
    #[error("attaching the iterator {program} of the eBPF object {object} (Linux 5.9 and later)")]
    AttachIterator {
        /// The object.
        object: &'static str,
        /// The program.
        program: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// An iteration ends early.
    #[error("reading an iterator of the eBPF object {object}")]
    Iterate {
        /// The object.
        object: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel refuses a program that aya does not load.
    #[error(
        "loading the program {program} of the eBPF object {object} (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN){}",
        says(log)
    )]
    Refused {
        /// The object.
        object: &'static str,
        /// The program.
        program: &'static str,
        /// The last lines of the verifier's log.
        log: String,
        /// What the kernel says.
        source: Errno,
    },
    /// The kernel lacks what a program is to be a part of.
    #[error("finding {what} in the kernel's BTF: this kernel does not have it, use a newer one")]
    NoType {
        /// A structure, a member of one, or a function.
        what: String,
    },
    /// The object's globals cannot be set.
    #[error("setting the globals of the eBPF object {object}")]
    Globals {
        /// The object.
        object: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// The programs are loaded, but the kernel does not take them into use.
    #[error("registering {structure} of the eBPF object {object}{}", remedy(*source))]
    Register {
        /// The object.
        object: &'static str,
        /// The type of the structure, or the function that the program was to run before.
        structure: &'static str,
        /// What the kernel says.
        source: Errno,
    },
    /// The ring buffer cannot be waited for.
    #[error("waiting for the eBPF ring buffer")]
    Ring(#[source] io::Error),
    /// The lines that the programs log cannot be read.
    #[error("reading the log of the eBPF object {object}")]
    Log {
        /// The object.
        object: &'static str,
        /// What aya found.
        source: Box<aya_log::Error>,
    },
    /// The length of a timer tick is not known.
    #[error("asking for the resolution of the coarse clock (clock_getres)")]
    Tick(#[source] Errno),
    /// The network namespace cannot be told apart from others.
    #[error("asking for the cookie of the network namespace (SO_NETNS_COOKIE, Linux 5.14 and later)")]
    NetnsCookie(#[source] Errno),
}

/// What the verifier says, if it was asked at all.
fn says(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the verifier says:\n{log}") }
}

/// What can be done when the kernel refuses to register something.
fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EEXIST => ": there is one of this name, end who registered it",
        Errno::EINVAL => ": Linux 6.4 or later is needed",
        Errno::EPERM => " (needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN)",
        _ => "",
    }
}
