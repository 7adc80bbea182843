//! What the object `mptcpify` and its loader both know: how `[[application]]` tables lie in its maps.

/// Tables of the configuration, a bit each: the first one is the lowest.
pub type Tables = u64;

/// The most tables that can be told apart.
pub const MOST_TABLES: usize = Tables::BITS as usize;

/// The name of a process with the zero at its end (`TASK_COMM_LEN`, include/linux/sched.h).
pub const NAME_LENGTH: usize = 16;

/// The same in bits.
pub const NAME_BITS: u32 = NAME_LENGTH as u32 * 8;

/// How deep a cgroup may lie that begins at this moment, to be known as a part of what it is in.
pub const DEEPEST: i32 = 32;

/// The most names and beginnings of names, of all tables together.
pub const NAMES_KNOWN: u32 = 1024;

/// The most users.
pub const USERS_KNOWN: usize = MOST_TABLES;

/// The most cgroups that are known.
pub const CGROUPS_KNOWN: u32 = 16384;
