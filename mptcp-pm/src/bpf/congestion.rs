//! The object `congestion` at work: the MPTCP subflows of this network namespace get a congestion control.
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::sock_ops::SockOpsLink;
use mptcp_common::fields::Field;

use super::attach::Object;
use super::{Error, Kernel};

const OBJECT: &str = "congestion";
const WANTED: &str = "WANTED";
const EXCEPTIONS: &str = "EXCEPTIONS";

/// Without these nobody could tell whose choice a congestion control is.
pub(super) const NEEDED: [Field; 9] = [
    Field::CongestionOps,
    Field::CongestionName,
    Field::Namespace,
    Field::DefaultControl,
    Field::ChosenControl,
    Field::IsMptcp,
    Field::UlpData,
    Field::Connection,
    Field::Token,
];

/// The name of a congestion control, filled up with zeros (`TCP_CA_NAME_MAX`); empty for the system's default.
type Name = [u8; 16];

/// The attached programs. Dropping it detaches them; sockets keep what they have, and new ones have the system's default.
pub struct Congestion {
    object: Object,
    wanted: Array<MapData, Name>,
    exceptions: HashMap<MapData, u32, Name>,
    /// Whose exceptions are in the map.
    excepted: BTreeSet<u32>,
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
        let wanted = Array::try_from(object.take_map(WANTED)?).map_err(map_error(WANTED))?;
        let exceptions = HashMap::try_from(object.take_map(EXCEPTIONS)?).map_err(map_error(EXCEPTIONS))?;
        Ok(Self { object, wanted, exceptions, excepted: BTreeSet::new(), change, _link: link })
    }

    /// Gives all subflows, living and to come, a congestion control that the kernel knows by this name; none for the
    /// system's default. Those of connections that are excepted get theirs. One that the kernel does not know changes
    /// nothing.
    ///
    /// # Errors
    /// `Error::Map` or `Error::Iterate`, when the kernel refuses.
    pub fn give(&mut self, name: Option<&str>) -> Result<(), Error> {
        self.wanted.set(0, filled_up(name), 0).map_err(map_error(WANTED))?;
        self.follow()
    }

    /// Excepts a connection, by its local token: its subflows are given that from now on, or the system's default. None
    /// ends the exception. Living ones follow at the next round-trip time that is measured, or by [`Self::follow`].
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses: when there are 16384 already, for example.
    pub fn except(&mut self, token: u32, name: Option<Option<&str>>) -> Result<(), Error> {
        match name {
            Some(name) => {
                self.exceptions.insert(token, filled_up(name), 0).map_err(map_error(EXCEPTIONS))?;
                self.excepted.insert(token);
            }
            None if self.excepted.remove(&token) => {
                self.exceptions.remove(&token).map_err(map_error(EXCEPTIONS))?;
            }
            None => {}
        }
        Ok(())
    }

    /// Gives all living subflows what they are to have.
    ///
    /// # Errors
    /// `Error::Iterate`, when the kernel refuses.
    pub fn follow(&self) -> Result<(), Error> {
        self.object.run(&self.change)
    }
}

fn filled_up(name: Option<&str>) -> Name {
    let mut filled = Name::default();
    let bytes = name.unwrap_or_default().as_bytes();
    filled.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    filled
}

fn map_error(map: &'static str) -> impl Fn(aya::maps::MapError) -> Error {
    move |source| Error::Map { object: OBJECT, map, source: Box::new(source) }
}
