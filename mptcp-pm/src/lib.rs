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
mod listener;
mod measure;
pub mod netlink;
mod rivals;
mod state;
pub mod stats;
pub mod sysctl;
pub mod view;
