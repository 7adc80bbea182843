//! Last figures for which the ring buffer had no room: the program puts them aside, and they are taken here, each once.
use aya::maps::{HashMap, MapData, MapError};
use mptcp_common::path_stats::{AsideKey, Sample};
use zerocopy::{FromBytes, IntoBytes};

/// A [`Sample`] as the map has it.
type Words = [u64; size_of::<Sample>() / 8];

/// So many keys are read at once: where many have been taken, finding the next one takes long.
const AT_ONCE: usize = 1024;

/// What was put aside.
pub(super) struct Aside {
    map: HashMap<MapData, AsideKey, Words>,
    taken: u64,
    /// What was found there, and has not been taken yet.
    found: Vec<AsideKey>,
}

impl Aside {
    pub(super) const fn new(map: HashMap<MapData, AsideKey, Words>) -> Self {
        Self { map, taken: 0, found: Vec::new() }
    }

    /// The next one, of so many that were put there so far.
    pub(super) fn next(&mut self, put: u64) -> Result<Option<Sample>, MapError> {
        if self.found.is_empty() && put != self.taken {
            self.found = self.map.keys().take(AT_ONCE).collect::<Result<_, _>>()?;
        }
        let Some(key) = self.found.pop() else {
            self.found = Vec::new();
            return Ok(None);
        };
        let words = self.map.get(&key, 0)?;
        self.map.remove(&key)?;
        self.taken += 1;
        Ok(Sample::read_from_bytes(words.as_bytes()).ok())
    }
}
