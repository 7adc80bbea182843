//! The object `mptcpify` at work: loaded for this network namespace, it makes MPTCP of the TCP that applications ask for.
//!
//! What the configuration says is fixed when it is loaded, but for cgroups, which come and go.
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, RingBuf};
use mptcp_common::applications::{NAME_LENGTH, Tables, USERS_KNOWN};
use mptcp_common::fields::{self, Field};
use tokio::io::unix::AsyncFd;

use super::struct_ops::{self, Link, Object};
use super::{Error, Kernel, cgroup, netns, objects, sys};
use crate::config::ApplicationRule;
use tables::Plan;

const OBJECT: &str = "mptcpify";
pub(super) const FUNCTION: &str = "update_socket_protocol";
pub(super) const TRACEPOINT: &str = "cgroup_mkdir";

/// What the programs cannot do without.
pub(super) const NEEDED: [Field; 11] = [
    Field::Namespaces,
    Field::NetworkNamespace,
    Field::NamespaceCookie,
    Field::ThreadLeader,
    Field::ProcessName,
    Field::Credentials,
    Field::FileUser,
    Field::CgroupsOfThread,
    Field::DefaultCgroup,
    Field::CgroupNode,
    Field::NodeId,
];

/// The attached programs; dropping it detaches them. Sockets stay what they are.
pub struct Mptcpify {
    cgroups: Option<Cgroups>,
    _link: Link,
}

impl Mptcpify {
    /// Loads the object for the network namespace of this thread with what these tables say, and attaches it. Needs a tokio
    /// runtime around it.
    ///
    /// # Errors
    /// When the daemon was built without the object, or the kernel lacks what it needs (Linux 6.6); see [`Error`].
    pub fn attach(kernel: &Kernel, rules: &[ApplicationRule]) -> Result<Self, Error> {
        let types = kernel.types()?;
        let plan = Plan::of(rules);
        let mut object = open(&types.table_with(&NEEDED)?, &plan)?;
        // The program is refused before anything else is done.
        let is_about_cgroups = !plan.cgroups.is_empty();
        let loaded = struct_ops::Program::before(&object, types.btf(), FUNCTION, "mptcpify")?;
        let begun = match is_about_cgroups {
            true => Some(struct_ops::at_tracepoint(&object, types.btf(), TRACEPOINT, "begun")?),
            false => None,
        };
        fill(&mut object, &plan)?;
        let cgroups = begun.map(|link| Cgroups::begin(&mut object, plan, link)).transpose()?;
        Ok(Self { cgroups, _link: loaded.attach()? })
    }

    /// Waits until cgroups have begun, and takes them in, once. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the ring buffer cannot be waited for, or the kernel has no room for more.
    pub async fn follow(&mut self) -> Result<(), Error> {
        match &mut self.cgroups {
            Some(cgroups) => cgroups.follow().await,
            None => std::future::pending().await,
        }
    }
}

/// The object with the tables in its globals, and its maps made.
fn open(offsets: &[u32; fields::COUNT], plan: &Plan) -> Result<Object, Error> {
    let offsets = offsets.map(u32::to_ne_bytes);
    let cookie = netns::cookie()?.to_ne_bytes();
    let tables = [plan.say_yes, plan.any_name, plan.any_user, plan.any_cgroup].map(Tables::to_ne_bytes);
    let names = ["SAY_YES", "ANY_NAME", "ANY_USER", "ANY_CGROUP"];
    let mut globals = vec![("OFFSETS", offsets.as_flattened()), ("NETNS_COOKIE", &cookie[..])];
    globals.extend(names.into_iter().zip(tables.iter().map(|table| &table[..])));
    let (mut users, mut of_users) =
        ([[0; size_of::<u32>()]; USERS_KNOWN], [[0; size_of::<Tables>()]; USERS_KNOWN]);
    for ((user, tables), (place, of_place)) in plan.users.iter().zip(users.iter_mut().zip(&mut of_users)) {
        (*place, *of_place) = (user.to_ne_bytes(), tables.to_ne_bytes());
    }
    let count = (plan.users.len() as u32).to_ne_bytes();
    globals.extend([
        ("USER_COUNT", &count[..]),
        ("USERS", users.as_flattened()),
        ("TABLES_OF_USERS", of_users.as_flattened()),
    ]);
    Object::new(OBJECT, objects::get(OBJECT)?, &globals)
}

/// Puts names into their map.
fn fill(object: &mut Object, plan: &Plan) -> Result<(), Error> {
    let map_error = |map| move |source| map_error(map, source);
    let names = Map::LpmTrie(object.take_map("NAMES")?);
    let mut names: LpmTrie<MapData, [u8; NAME_LENGTH], Tables> =
        names.try_into().map_err(map_error("NAMES"))?;
    for ((bits, bytes), tables) in &plan.names {
        names.insert(&Key::new(*bits, *bytes), *tables, 0).map_err(map_error("NAMES"))?;
    }
    Ok(())
}

fn map_error(map: &'static str, source: MapError) -> Error {
    Error::Map { object: OBJECT, map, source: Box::new(source) }
}

/// No more cgroups that have begun are taken in before others have their turn: any user who has cgroups of his own can have
/// them begin without end.
const MOST_AT_ONCE: usize = 1024;

/// All cgroups, as they come.
struct Cgroups {
    plan: Plan,
    names: cgroup::Names,
    map: HashMap<MapData, u64, Tables>,
    begun: AsyncFd<RingBuf<MapData>>,
    _link: Link,
}

impl Cgroups {
    const MAP: &str = "CGROUPS";
    const RING: &str = "BEGUN";

    /// Takes in those that are there. The tracepoint tells already of those that begin meanwhile.
    fn begin(object: &mut Object, plan: Plan, link: Link) -> Result<Self, Error> {
        let map = Map::HashMap(object.take_map(Self::MAP)?);
        let map = map.try_into().map_err(|source| map_error(Self::MAP, source))?;
        let ring = RingBuf::try_from(Map::RingBuf(object.take_map(Self::RING)?));
        let ring = ring.map_err(|source| map_error(Self::RING, source))?;
        let begun = sys::watch(ring).map_err(Error::Ring)?;
        let mut cgroups = Self { plan, names: cgroup::Names::open()?, map, begun, _link: link };
        for (id, path) in cgroup::all()? {
            cgroups.take_in(id, &path)?;
        }
        Ok(cgroups)
    }

    /// When there is no room even without those that are gone, it counts as what it is inside of.
    fn take_in(&mut self, id: u64, path: &str) -> Result<(), Error> {
        let tables = self.plan.fitting(path);
        if self.map.insert(id, tables, 0).is_ok() {
            return Ok(());
        }
        self.make_room()?;
        match self.map.insert(id, tables, 0) {
            Err(source) if tables != 0 => Err(map_error(Self::MAP, source)),
            _ => Ok(()),
        }
    }

    /// Of an id there is never another cgroup.
    fn make_room(&mut self) -> Result<(), Error> {
        let known = self.map.keys().collect::<Result<Vec<_>, _>>();
        let known = known.map_err(|source| map_error(Self::MAP, source))?;
        let there: HashSet<u64> = cgroup::all()?.into_iter().map(|(id, _)| id).collect();
        for gone in known.iter().filter(|id| !there.contains(id)) {
            self.map.remove(gone).map_err(|source| map_error(Self::MAP, source))?;
        }
        Ok(())
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let mut ready = self.begun.readable_mut().await.map_err(Error::Ring)?;
        let ids = std::iter::from_fn(|| next_begun(ready.get_inner_mut()));
        let ids: Vec<u64> = ids.take(MOST_AT_ONCE).collect();
        let is_all = ids.len() < MOST_AT_ONCE;
        if is_all {
            // What has come since the look is told by epoll yet.
            ready.clear_ready();
        }
        drop(ready);
        for (id, path) in self.names.paths(&ids) {
            self.take_in(id, &path)?;
        }
        if !is_all {
            // The rest is still there, also for who comes back after he was cancelled here.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn next_begun(told: &mut RingBuf<MapData>) -> Option<u64> {
    <[u8; 8]>::try_from(&told.next()?[..]).ok().map(u64::from_ne_bytes)
}
