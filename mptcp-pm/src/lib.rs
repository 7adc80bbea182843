//! The daemon as a library: the binary, the lab and the benchmarks drive the same code.
pub mod core;
pub mod netlink;
