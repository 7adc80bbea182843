//! The program's commands against the running kernel, each test in network namespaces of its own. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#[path = "../common/namespace.rs"]
mod common;
mod connection;
mod doctor;
mod endpoints;
mod monitor;
mod namespace;
mod status;
mod userspace;
