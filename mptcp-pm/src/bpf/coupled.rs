//! The object `coupled` at work: its congestion controls registered with the kernel, what its subflows tell each other.
//!
//! Congestion controls are there for the whole machine, not for one network namespace: whoever may choose any can choose
//! these by TCP_CONGESTION. Sockets that have chosen one keep it when it is no longer registered.
use aya::maps::{Array, HashMap, Map, MapData, MapError};
pub use mptcp_common::coupled::Algorithm;
use mptcp_common::coupled::{Connection, Figures, Paths, Place};
use mptcp_common::fields::Field;
use zerocopy::FromBytes;

use super::struct_ops::{self, Link, Object, Structure};
use super::{Error, Kernel, objects, offsets::Types};

const OBJECT: &str = "coupled";
const PLACES: &str = "PLACES";
const CONNECTIONS: &str = "CONNECTIONS";
const MENDED: &str = "MENDED";

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
    mended: Array<MapData, u64>,
    _links: Vec<Link>,
}

impl Coupled {
    /// Loads the object and registers all its congestion controls.
    ///
    /// # Errors
    /// When the daemon was built without the object, the kernel lacks what it needs, or another has registered one of
    /// these names; see [`Error`].
    pub fn register(kernel: &Kernel) -> Result<Self, Error> {
        let named = Algorithm::ALL.map(|algorithm| (algorithm, algorithm.name()));
        Self::register_as(kernel, objects::get(OBJECT)?, &named)
    }

    /// The same with an object of one's own, and names of one's own.
    fn register_as(kernel: &Kernel, file: &[u8], named: &[(Algorithm, &str)]) -> Result<Self, Error> {
        let types = kernel.types()?;
        let offsets = types.table_with(&NEEDED)?.map(u32::to_ne_bytes);
        let mut object = Object::new(OBJECT, file, &[("OFFSETS", offsets.as_flattened())])?;
        let register = |(algorithm, name): &(_, &str)| register(&object, types, *algorithm, name);
        let links = named.iter().map(register).collect::<Result<_, _>>()?;
        let mended = Map::Array(object.take_map(MENDED)?);
        let places = Map::HashMap(object.take_map(PLACES)?);
        let connections = Map::HashMap(object.take_map(CONNECTIONS)?);
        Ok(Self {
            places: places.try_into().map_err(|source| map_error(PLACES, source))?,
            connections: connections.try_into().map_err(|source| map_error(CONNECTIONS, source))?,
            mended: mended.try_into().map_err(|source| map_error(MENDED, source))?,
            _links: links,
        })
    }

    /// How many windows have been put right that cannot have been: the kernel took something for the answer to a loss that
    /// no program had given, see [`mptcp_common::coupled::bound`].
    ///
    /// # Errors
    /// `Error::Map`, when the kernel refuses to read the map.
    pub fn mended(&self) -> Result<u64, Error> {
        self.mended.get(&0, 0).map_err(|source| map_error(MENDED, source))
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

fn register(object: &Object, types: &Types, algorithm: Algorithm, name: &str) -> Result<Link, Error> {
    let (avoid, reduce) = programs(algorithm);
    struct_ops::register(
        object,
        types.btf(),
        &Structure {
            of: "tcp_congestion_ops",
            data: &[("name", name.as_bytes()), ("flags", &NON_RESTRICTED.to_ne_bytes())],
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
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::process::{self, Command};
    use std::thread;

    use nix::sched::{CloneFlags, unshare};
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};

    use super::*;

    #[test]
    fn names_fit_into_the_kernels_structure() {
        for algorithm in Algorithm::ALL {
            // TCP_CA_NAME_MAX, with the zero at the end.
            assert!(algorithm.name().len() < 16);
        }
    }

    /// What `ssthresh` answers, as the verifier sees it: half the window; and 2^20 packets in place of it.
    const HALF: [u8; 16] = [0x77, 0, 0, 0, 1, 0, 0, 0, 0x25, 0, 1, 0, 2, 0, 0, 0];
    const WILD: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 16, 0, 0x25, 0, 1, 0, 2, 0, 0, 0];

    /// Each loss gets an answer that is none, as from a kernel that does not run the program for it. Such a kernel may not
    /// run the one that looks at the answer either, if its first process is at work just then: hence the attempts.
    #[test]
    fn no_window_jumps_whatever_the_kernel_takes_for_the_answer_to_a_loss() {
        let name = format!("wild{}", process::id());
        let mut file = objects::get(OBJECT).expect("`cargo xtask build`").to_vec();
        let places: Vec<_> =
            (0..file.len() - HALF.len()).filter(|at| file[*at..].starts_with(&HALF)).collect();
        assert_eq!(places.len(), 1, "the program `halve` is compiled to something else now");
        file[places[0]..][..WILD.len()].copy_from_slice(&WILD);
        let coupled =
            Coupled::register_as(&Kernel::default(), &file, &[(Algorithm::Lia, &name)]).expect("as root");
        let greatest = || {
            let name = name.clone();
            thread::spawn(move || greatest_window(&name)).join().unwrap()
        };
        // The queue holds 40 packets.
        let windows: Vec<_> = (0..5).map(|_| greatest()).take_while(|greatest| *greatest >= 1000).collect();
        assert!(windows.len() < 5, "{windows:?} packets");
        assert!(coupled.mended().unwrap() > 0, "nothing was lost");
    }

    /// Sends over a loopback with a short queue in a network namespace of its own.
    fn greatest_window(control: &str) -> u32 {
        unshare(CloneFlags::CLONE_NEWNET).expect("as root");
        run("ip link set lo up mtu 1500");
        run("tc qdisc add dev lo root tbf rate 50mbit burst 10kb limit 60kb");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SockAddr::from(listener.local_addr().unwrap());
        let sender = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        sender.set_tcp_congestion(control.as_bytes()).unwrap();
        sender.connect(&address).unwrap();
        let mut receiver = listener.accept().unwrap().0;
        let receiving = thread::spawn(move || while receiver.read(&mut [0; 1 << 16]).unwrap() > 0 {});
        let mut sender = TcpStream::from(sender);
        let mut greatest = 0;
        for _ in 0..200 {
            sender.write_all(&[7; 60_000]).unwrap();
            greatest = greatest.max(window());
        }
        drop(sender);
        receiving.join().unwrap();
        greatest
    }

    /// The greatest of this namespace's sockets, as `ss` tells it: `… cwnd:10 ssthresh:7 …`
    fn window() -> u32 {
        let text = run("ss -tniHO");
        let windows = text.split_whitespace().filter_map(|word| word.strip_prefix("cwnd:")?.parse().ok());
        windows.max().expect("a connection")
    }

    fn run(command: &str) -> String {
        let mut words = command.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
