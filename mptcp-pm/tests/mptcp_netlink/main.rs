//! The MPTCP netlink clients against the running kernel, each test in a network namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#[path = "../common/namespace.rs"]
mod common;
mod connections;
mod endpoints;
mod namespace;
mod quirks;
mod userspace;
