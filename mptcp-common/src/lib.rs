//! Words that the daemon and its eBPF programs both speak: names and layouts, no code that touches a kernel.
#![no_std]

pub mod fields;
pub mod path_stats;
