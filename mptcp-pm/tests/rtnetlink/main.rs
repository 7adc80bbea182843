//! The rtnetlink watch and writer against the running kernel, each test in a network namespace of its own.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]
#[path = "../common/namespace.rs"]
mod common;
mod harness;
mod links;
mod routes;
mod rules;
mod silent;
mod stream;
mod writes;
