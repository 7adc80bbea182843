//! Words that the daemon and its eBPF programs both speak: names, layouts and arithmetic, no code that touches a kernel.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod applications;
pub mod coupled;
pub mod fields;
pub mod owner;
pub mod path_stats;
pub mod silence;
pub mod unsent;

/// How many subflows of a connection programs look at; those beyond are as if they were alone. The kernel adds at most
/// eight to the first one up to Linux 6.18 (`MPTCP_SUBFLOWS_MAX`), and 64 from 7.x on, where each look at the others would
/// take that much longer.
pub const MAX_SUBFLOWS: usize = 16;
