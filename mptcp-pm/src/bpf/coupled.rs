//! The object `coupled` at work: its congestion controls registered with the kernel, what its subflows tell each other.
//!
//! Congestion controls are there for the whole machine, not for one network namespace: whoever may choose any can choose
//! these by TCP_CONGESTION. Sockets that have chosen one keep it when it is no longer registered.
use aya::maps::{HashMap, Map, MapData, MapError};
pub use mptcp_common::coupled::Algorithm;
use mptcp_common::coupled::{Connection, Figures, Paths, Place};
use mptcp_common::fields::Field;
use zerocopy::FromBytes;

use super::struct_ops::{self, Link, Object, Structure};
use super::{Error, Kernel, objects, offsets::Types};

const OBJECT: &str = "coupled";
const PLACES: &str = "PLACES";
const CONNECTIONS: &str = "CONNECTIONS";

/// `TCP_CONG_NON_RESTRICTED` (include/net/tcp.h): everybody may choose it, also outside of the first network namespace.
const NON_RESTRICTED: u32 = 1;

/// Without these the programs would do harm, not just less.
pub(super) const NEEDED: [Field; 13] = [
    Field::CongestionPrivate,
    Field::UlpData,
    Field::Window,
    Field::WindowCounted,
    Field::WindowClamp,
    Field::WindowBefore,
    Field::Threshold,
    Field::IsWindowLimited,
    Field::MostInFlight,
    Field::BytesAcked,
    Field::Rtt,
    Field::IsMptcp,
    Field::Connection,
];

/// The programs for `cong_avoid` and `ssthresh`.
const fn programs(algorithm: Algorithm) -> (&'static str, &'static str) {
    match algorithm {
        Algorithm::Lia => ("lia_avoid", "halve"),
        Algorithm::Olia => ("olia_avoid", "halve"),
        Algorithm::Balia => ("balia_avoid", "balia_reduce"),
    }
}

/// The registered congestion controls; dropping it unregisters them.
pub struct Coupled {
    places: HashMap<MapData, [u8; size_of::<Place>()], u32>,
    connections: HashMap<MapData, [u8; size_of::<Connection>()], [u8; size_of::<Paths>()]>,
    _links: Vec<Link>,
}

impl Coupled {
    /// Loads the object and registers all its congestion controls.
    ///
    /// # Errors
    /// When the daemon was built without the object, the kernel lacks what it needs, or another has registered one of
    /// these names; see [`Error`].
    pub fn register(kernel: &Kernel) -> Result<Self, Error> {
        let types = kernel.types()?;
        let offsets = types.table_with(&NEEDED)?.map(u32::to_ne_bytes);
        let mut object = Object::new(OBJECT, objects::get(OBJECT)?, &[("OFFSETS", offsets.as_flattened())])?;
        let register = |algorithm| register(&object, types, algorithm);
        let links = Algorithm::ALL.into_iter().map(register).collect::<Result<_, _>>()?;
        let places = Map::HashMap(object.take_map(PLACES)?);
        let connections = Map::HashMap(object.take_map(CONNECTIONS)?);
        Ok(Self {
            places: places.try_into().map_err(|source| map_error(PLACES, source))?,
            connections: connections.try_into().map_err(|source| map_error(CONNECTIONS, source))?,
            _links: links,
        })
    }

    /// What the subflows that send tell each other now, by the tokens of their connections. When a subflow has ended, the
    /// others are absent until each has told again, which it does eight times in a round trip.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn connections(&self) -> Result<Vec<(u32, Vec<Figures>)>, Error> {
        let mut connections = Vec::new();
        for element in self.connections.iter() {
            let (connection, paths) = element.map_err(|source| map_error(CONNECTIONS, source))?;
            if let (Ok(connection), Ok(paths)) =
                (Connection::read_from_bytes(&connection), Paths::read_from_bytes(&paths))
            {
                connections.push((
                    connection.token,
                    paths
                        .into_iter()
                        .filter(|path| path.rate != 0 && path.token == connection.token)
                        .collect(),
                ));
            }
        }
        Ok(connections)
    }

    /// How many subflows are coupled, or would be if their connections had others: all that have sent something and have
    /// not ended.
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn subflows(&self) -> Result<usize, Error> {
        let count = self.places.keys().try_fold(0, |count, place| place.map(|_| count + 1));
        count.map_err(|source| map_error(PLACES, source))
    }
}

fn register(object: &Object, types: &Types, algorithm: Algorithm) -> Result<Link, Error> {
    let (avoid, reduce) = programs(algorithm);
    struct_ops::register(
        object,
        types.btf(),
        &Structure {
            of: "tcp_congestion_ops",
            data: &[("name", algorithm.name().as_bytes()), ("flags", &NON_RESTRICTED.to_ne_bytes())],
            functions: &[
                ("init", "begin"),
                ("release", "end"),
                ("cong_avoid", avoid),
                ("ssthresh", reduce),
                ("undo_cwnd", "undo"),
                ("set_state", "state"),
            ],
        },
    )
}

fn map_error(map: &'static str, source: MapError) -> Error {
    Error::Map { object: OBJECT, map, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_the_kernels_structure() {
        for algorithm in Algorithm::ALL {
            // TCP_CA_NAME_MAX, with the zero at the end.
            assert!(algorithm.name().len() < 16);
        }
    }
}
