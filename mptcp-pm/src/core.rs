//! The pure core: events in, actions out, deadlines. No socket, file, clock or thread is known here;
//! the I/O lives in `netlink`, `sysctl`, `state` and `daemon`.
pub mod world;
