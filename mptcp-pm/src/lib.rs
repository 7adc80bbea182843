//! The daemon as a library: the binary, the lab and the benchmarks drive the same code.
pub mod bpf;
pub mod cli;
mod clock;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
mod executor;
mod instance;
mod interfaces;
pub mod metrics;
pub mod netlink;
mod rivals;
pub mod socket_file;
mod state;
pub mod sysctl;
pub mod view;
