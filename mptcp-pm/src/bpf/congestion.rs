//! The object `congestion` at work: the MPTCP subflows of this network namespace get a congestion control.
use std::os::fd::OwnedFd;

use aya::maps::{Array, MapData};
use aya::programs::sock_ops::SockOpsLink;
use mptcp_common::fields::Field;

use super::attach::Object;
use super::{Error, Kernel};

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
    pub fn attach(kernel: &Kernel) -> Result<Self, Error> {
        let offsets = kernel.types()?.table_with(&NEEDED)?;
        let mut object = Object::load(OBJECT, &offsets, &[])?;
        let link = object.attach_to_root("control")?;
        let change = object.over_sockets(kernel.for_aya()?, "change")?;
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
