//! All that speaks netlink, and nothing that decides.
pub mod convert;
pub mod mirror;
pub mod route;
pub mod watch;
