//! The MPTCP netlink clients against the running kernel, each test in a network namespace of its own.
mod connections;
mod endpoints;
mod namespace;
mod userspace;
