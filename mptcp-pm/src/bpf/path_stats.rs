//! The object `path_stats` at work: loaded for this network namespace, attached to the root cgroup, its counts read.
use std::fs::File;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData},
    programs::{SockOps, links::CgroupAttachMode, sock_ops::SockOpsLink},
};
use mptcp_common::path_stats::Established;

use super::{Error, cgroup, netns, objects, offsets::Types};

const OBJECT: &str = "path_stats";
const PROGRAM: &str = "path_stats";
const MAP: &str = "ESTABLISHED";

/// The subflows of this network namespace that have been established since the program was attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubflowCounts {
    /// Initial subflows (MP_CAPABLE) that this side opened.
    pub capable_active: u64,
    /// Initial subflows that the peer opened.
    pub capable_passive: u64,
    /// Further subflows (MP_JOIN) that this side opened.
    pub join_active: u64,
    /// Further subflows that the peer opened.
    pub join_passive: u64,
}

/// The attached program; dropping it detaches.
pub struct PathStats {
    counters: Array<MapData, u64>,
    _link: SockOpsLink,
}

impl PathStats {
    /// Loads the object for the network namespace of this thread, and attaches it.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it needs; see [`Error`].
    pub fn attach() -> Result<Self, Error> {
        let mut ebpf = load()?;
        let link = attach(&mut ebpf)?;
        let map = ebpf.take_map(MAP).ok_or(Error::Mismatch { object: OBJECT, part: MAP })?;
        Ok(Self { counters: Array::try_from(map).map_err(map_error)?, _link: link })
    }

    /// What has been counted so far.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn counts(&self) -> Result<SubflowCounts, Error> {
        let read = |way: Established| self.counters.get(&way.index(), 0).map_err(map_error);
        Ok(SubflowCounts {
            capable_active: read(Established::CapableActive)?,
            capable_passive: read(Established::CapablePassive)?,
            join_active: read(Established::JoinActive)?,
            join_passive: read(Established::JoinPassive)?,
        })
    }
}

/// Sets what the program is to know of this kernel and this namespace, then has its maps made.
fn load() -> Result<Ebpf, Error> {
    let bytes = objects::get(OBJECT)?;
    let cookie = netns::cookie()?;
    let types = Types::of_this_kernel()?;
    let ulp_data = types.byte("inet_connection_sock", "icsk_ulp_data")?;
    let mp_capable = types.bit("mptcp_subflow_context", "mp_capable")?;
    let mp_join = types.bit("mptcp_subflow_context", "mp_join")?;
    EbpfLoader::new()
        // The kernel's types serve relocations, which Rust objects do not have.
        .btf(None)
        .override_global("NETNS_COOKIE", &cookie, true)
        .override_global("ULP_DATA", &ulp_data, true)
        .override_global("MP_CAPABLE", &mp_capable, true)
        .override_global("MP_JOIN", &mp_join, true)
        .load(bytes)
        .map_err(|source| Error::Object { object: OBJECT, source: Box::new(source) })
}

fn attach(ebpf: &mut Ebpf) -> Result<SockOpsLink, Error> {
    let found = ebpf.program_mut(PROGRAM).ok_or(Error::Mismatch { object: OBJECT, part: PROGRAM })?;
    let program: &mut SockOps = found.try_into().map_err(load_error)?;
    program.load().map_err(load_error)?;
    let root = cgroup::root()?;
    let cgroup = File::open(&root).map_err(|source| Error::Read { file: root.clone(), source })?;
    // A cgroup link always allows others beside it; asking for that with a flag is an error.
    let attached = program.attach(cgroup, CgroupAttachMode::Single).and_then(|id| program.take_link(id));
    attached.map_err(|source| Error::Attach {
        object: OBJECT,
        program: PROGRAM,
        cgroup: root,
        source: Box::new(source),
    })
}

fn load_error(source: aya::programs::ProgramError) -> Error {
    Error::Load { object: OBJECT, program: PROGRAM, source: Box::new(source) }
}

fn map_error(source: aya::maps::MapError) -> Error {
    Error::Map { object: OBJECT, map: MAP, source: Box::new(source) }
}
