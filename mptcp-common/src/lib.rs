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
