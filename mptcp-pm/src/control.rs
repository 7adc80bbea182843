//! The control socket: how commands talk to the daemon.
//!
//! A stream socket (`unix(7)`), by default `/run/mptcp-pm/control`, mode 0660, owned by the daemon's user and the group
//! `mptcp-pm`. Who may connect may ask; who the kernel says is uid 0 or the daemon's own user (`SO_PEERCRED`) may also
//! change.
//!
//! Each request is one JSON object on one line, and so is each reply, in the same order:
//!
//! | request | who | reply |
//! |---|---|---|
//! | `{"request":"ping"}` | all | `{"ok":…}`: the daemon's loop runs |
//! | `{"request":"status"}` | all | `{"ok":{…}}`: as `mptcp-pm status --json` prints it |
//! | `{"request":"metrics"}` | all | `{"ok":"…"}`: as `mptcp-pm metrics` prints them |
//! | `{"request":"reload"}` | root | `{"ok":…}`: the configuration is read again and holds |
//! | `{"request":"service","token":1,"service":"single"}` | root | `{"ok":…}`: it has that type; with `null` what the rules say |
//! | `{"request":"hook","vpn":{"interface":"ppp0","up":true}}` | root | `{"ok":…}`: it looks again; `vpn` may be left out |
//! | `{"request":"monitor"}` | all | `{"ok":{"ebpf":[…]}}` as in the status, then one line for each event |
//!
//! What fails is answered by `{"error":{"message":"…","remedy":"…"}}`. A line that is no request is answered so
//! too, and the connection is closed: after 64 KiB without an end of line, after 10 s without a whole request,
//! for the 17th client at once, and after anything else that is not understood.
//!
//! A client that monitors says nothing more: its end, or another byte from it, ends the connection. What it is told is
//! what `mptcp-pm monitor --json` prints as `path-…`. When it does not read fast enough, it is told `lost` in place of
//! the oldest events; when it does not read for 10 s, the connection ends. The ninth that monitors is refused, so that
//! the others are served all the same.
pub mod client;
pub mod feed;
pub mod protocol;
pub mod server;

pub use client::Client;
pub use feed::Feed;
pub use protocol::{Failure, Peer, Reply, Request, Vpn};
pub use server::{Call, Server};
