//! The daemon as a library: the binary, the lab and the benchmarks drive the same code.
pub mod bpf;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod netlink;
pub mod sysctl;
