//! The object `owner` at work: loaded for this network namespace, it tells whose each connection is.
use aya::maps::{MapData, RingBuf};
use aya::programs::tp_btf::BtfTracePointLink;
use mptcp_common::fields::Field;
use mptcp_common::owner::Owned;
use tokio::io::unix::AsyncFd;
use zerocopy::FromBytes;

use super::attach::Object;
use super::{Error, Kernel, cgroup, sys};
use crate::core::connections::Token;
use crate::core::service::Owner;

const OBJECT: &str = "owner";
const PROGRAM: &str = "owner";
const TRACEPOINT: &str = "inet_sock_set_state";
const RING: &str = "OWNERS";

/// What the program cannot do without.
pub(super) const NEEDED: [Field; 6] = [
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
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        let offsets = kernel.types()?.table_with(&NEEDED)?;
        let mut object = Object::load(OBJECT, &offsets, &[])?;
        let link = object.attach_to_tracepoint(kernel.for_aya()?, PROGRAM, TRACEPOINT)?;
        let ring = RingBuf::try_from(object.take_map(RING)?);
        let ring =
            ring.map_err(|source| Error::Map { object: OBJECT, map: RING, source: Box::new(source) })?;
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
        let pid = (told.pid != 0).then_some(told.pid);
        Owner {
            process: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
            pid,
            uid: Some(told.uid),
            cgroup: cgroups.filter(|_| told.cgroup != 0).and_then(|names| names.path(told.cgroup, pid)),
        }
    }
}
