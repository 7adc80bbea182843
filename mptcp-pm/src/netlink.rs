//! The only code that speaks netlink: routing netlink, the MPTCP path manager's family, sock_diag.
#[macro_use]
mod attributes;
pub mod convert;
pub mod diag;
pub mod diag_wire;
pub mod mirror;
pub mod mptcp;
pub mod mptcp_wire;
pub mod route;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod uevent;
pub mod watch;
