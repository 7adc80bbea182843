//! The object `owner` at work: loaded for this network namespace, it tells whose each connection is.
use aya::maps::{MapData, RingBuf};
use aya::programs::BtfTracePoint;
use aya::programs::ProgramError;
use aya::programs::tp_btf::BtfTracePointLink;
use aya::{Btf, Ebpf, EbpfLoader};
use mptcp_common::fields::Field;
use mptcp_common::owner::Owned;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

use super::{Error, cgroup, netns, objects, offsets::Types, sys};
use crate::core::connections::Token;
use crate::core::service::Owner;

const OBJECT: &str = "owner";
const PROGRAM: &str = "owner";
const TRACEPOINT: &str = "inet_sock_set_state";
const RING: &str = "OWNERS";

/// What the program cannot do without.
const NEEDED: [Field; 6] = [
    Field::Namespace,
    Field::NamespaceCookie,
    Field::IsMptcp,
    Field::UlpData,
    Field::Connection,
    Field::Token,
];

/// The attached program; dropping it detaches.
pub struct Owners {
    told: AsyncFd<RingBuf<MapData>>,
    /// Absent where cgroups cannot be found by their ids, which is known by `absent`.
    cgroups: Option<cgroup::Names>,
    absent: Option<String>,
    _link: BtfTracePointLink,
}

impl Owners {
    /// Loads the object for the network namespace of this thread, and attaches it. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it needs; see [`Error`].
    pub fn attach() -> Result<Self, Error> {
        let mut ebpf = load()?;
        let link = attach(&mut ebpf)?;
        let map = ebpf.take_map(RING).ok_or(Error::Mismatch { object: OBJECT, part: RING })?;
        let ring = RingBuf::try_from(map).map_err(|source| Error::Map {
            object: OBJECT,
            map: RING,
            source: Box::new(source),
        })?;
        let (cgroups, absent) = match cgroup::Names::open() {
            Ok(names) => (Some(names), None),
            Err(error) => (None, Some(format!("cgroups are not known: {:#}", anyhow::Error::from(error)))),
        };
        Ok(Self { told: sys::watch(ring).map_err(Error::Ring)?, cgroups, absent, _link: link })
    }

    /// What does not work on this kernel, in a sentence: the rest does.
    pub fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    /// Waits until whose a connection is is told that somebody else has opened. Cancelling it loses nothing.
    ///
    /// # Errors
    /// `Error::Ring`, when the ring buffer cannot be waited for.
    pub async fn next(&mut self) -> Result<(Token, Owner), Error> {
        loop {
            if let Some(told) = self.waiting() {
                return Ok(told);
            }
            let mut ready = self.told.readable_mut().await.map_err(Error::Ring)?;
            // Cleared before the next look, so that what comes in between is not missed.
            ready.clear_ready();
        }
    }

    /// Whose the next connection is, if that has been told already. Of those that this machine opens it has been when
    /// they are established.
    pub fn waiting(&mut self) -> Option<(Token, Owner)> {
        let told = Owned::read_from_bytes(&self.told.get_mut().next()?).ok()?;
        Some((told.token, self.owner(&told.owner)))
    }

    fn owner(&mut self, told: &mptcp_common::owner::Owner) -> Owner {
        let name = told.process.split(|byte| *byte == 0).next().unwrap_or_default();
        let cgroups = self.cgroups.as_mut();
        Owner {
            process: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
            pid: (told.pid != 0).then_some(told.pid),
            uid: Some(told.uid),
            cgroup: cgroups.filter(|_| told.cgroup != 0).and_then(|names| names.path(told.cgroup)),
        }
    }
}

fn load() -> Result<Ebpf, Error> {
    let bytes = objects::get(OBJECT)?;
    let cookie = netns::cookie()?;
    let (offsets, absent) = Types::of_this_kernel()?.table();
    let needed = NEEDED.map(Field::name).map(|(structure, member)| format!("{structure}.{member}"));
    if let Some(what) = absent.into_iter().find(|field| needed.contains(field)) {
        return Err(Error::NoType { what });
    }
    EbpfLoader::new()
        // The kernel's types serve relocations, which Rust objects do not have.
        .btf(None)
        .override_global("NETNS_COOKIE", &cookie, true)
        .override_global("OFFSETS", &offsets[..], true)
        .load(bytes)
        .map_err(|source| Error::Object { object: OBJECT, source: Box::new(source) })
}

fn attach(ebpf: &mut Ebpf) -> Result<BtfTracePointLink, Error> {
    let load_error =
        |source: ProgramError| Error::Load { object: OBJECT, program: PROGRAM, source: Box::new(source) };
    let types = Btf::from_sys_fs().map_err(|source| Error::KernelTypes(Box::new(source)))?;
    let found = ebpf.program_mut(PROGRAM).ok_or(Error::Mismatch { object: OBJECT, part: PROGRAM })?;
    let program: &mut BtfTracePoint = found.try_into().map_err(load_error)?;
    program.load(TRACEPOINT, &types).map_err(load_error)?;
    let attached = program.attach().and_then(|id| program.take_link(id));
    attached.map_err(|source| Error::Trace { object: OBJECT, program: PROGRAM, source: Box::new(source) })
}
