//! What the object `path_stats` counts, and where in its map each count is.

/// How a subflow came to be: the index of its counter in the map.
///
/// RFC 8684 section 3: a connection's initial subflow begins with MP_CAPABLE, each further one with MP_JOIN. Active is
/// the side that sent the SYN. A connection that fell back to TCP is none of these.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Established {
    /// An initial subflow that this side opened.
    CapableActive = 0,
    /// An initial subflow that the peer opened.
    CapablePassive = 1,
    /// A further subflow that this side opened.
    JoinActive = 2,
    /// A further subflow that the peer opened.
    JoinPassive = 3,
}

impl Established {
    /// The number of counters in the map.
    pub const COUNT: u32 = 4;

    /// Reads the two flags of the kernel's subflow context; `None` for a connection that has fallen back.
    #[inline(always)]
    pub fn of(mp_capable: bool, mp_join: bool, active: bool) -> Option<Self> {
        match (mp_capable, mp_join, active) {
            (true, _, true) => Some(Self::CapableActive),
            (true, _, false) => Some(Self::CapablePassive),
            (false, true, true) => Some(Self::JoinActive),
            (false, true, false) => Some(Self::JoinPassive),
            (false, false, _) => None,
        }
    }

    /// The index in the map.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_counter_of_its_own_inside_the_map() {
        let ways = [(true, false, true), (true, false, false), (false, true, true), (false, true, false)];
        let indices =
            ways.map(|(capable, join, active)| Established::of(capable, join, active).unwrap().index());
        assert_eq!(indices, [0, 1, 2, 3]);
        assert_eq!(indices.len(), Established::COUNT as usize);
    }

    #[test]
    fn a_fallen_back_connection_has_none() {
        assert_eq!(Established::of(false, false, true), None);
        assert_eq!(Established::of(false, false, false), None);
    }
}
