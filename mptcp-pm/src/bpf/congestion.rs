//! The object `congestion` at work: the MPTCP subflows of this network namespace get a congestion control.
use std::os::fd::OwnedFd;

use aya::EbpfLoader;
use aya::maps::{Array, MapData};
use aya::programs::sock_ops::SockOpsLink;
use mptcp_common::fields::Field;

use super::attach::{self, Object};
use super::{Error, netns, objects, offsets::Types};

const OBJECT: &str = "congestion";
const WANTED: &str = "WANTED";

/// Without these nobody could tell whose choice a congestion control is.
pub(super) const NEEDED: [Field; 8] = [
    Field::CongestionOps,
    Field::CongestionName,
    Field::Namespace,
    Field::DefaultControl,
    Field::ChosenControl,
    Field::IsMptcp,
    Field::UlpData,
    Field::Connection,
];

/// The name of a congestion control, filled up with zeros (`TCP_CA_NAME_MAX`); empty for the system's default.
type Name = [u8; 16];

/// The attached programs. Dropping it detaches them; sockets keep what they have, and new ones have the system's default.
pub struct Congestion {
    object: Object,
    wanted: Array<MapData, Name>,
    change: OwnedFd,
    _link: SockOpsLink,
}

impl Congestion {
    /// Loads the object for the network namespace of this thread, attaches it, and changes nothing yet.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it needs; see [`Error`].
    pub fn attach() -> Result<Self, Error> {
        let bytes = objects::get(OBJECT)?;
        let cookie = netns::cookie()?;
        let offsets = Types::of_this_kernel()?.table_with(&NEEDED)?;
        let ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("NETNS_COOKIE", &cookie, true)
            .override_global("OFFSETS", &offsets[..], true)
            .load(bytes)
            .map_err(|source| Error::Object { object: OBJECT, source: Box::new(source) })?;
        let mut object = Object { name: OBJECT, ebpf };
        let link = object.attach_to_root("control")?;
        let change = object.over_sockets(&attach::kernel_types()?, "change")?;
        let wanted = Array::try_from(object.take_map(WANTED)?).map_err(map_error)?;
        Ok(Self { object, wanted, change, _link: link })
    }

    /// Gives all subflows, living and to come, a congestion control that the kernel knows by this name; none for the
    /// system's default. One that the kernel does not know changes nothing.
    ///
    /// # Errors
    /// `Error::Map` or `Error::Iterate`, when the kernel refuses.
    pub fn give(&mut self, name: Option<&str>) -> Result<(), Error> {
        let mut wanted = Name::default();
        let bytes = name.unwrap_or_default().as_bytes();
        wanted.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.wanted.set(0, wanted, 0).map_err(map_error)?;
        self.object.run(&self.change)
    }
}

fn map_error(source: aya::maps::MapError) -> Error {
    Error::Map { object: OBJECT, map: WANTED, source: Box::new(source) }
}
