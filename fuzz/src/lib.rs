//! What is fuzzed: each function takes bytes of any kind and panics where something is wrong with how they are read.
use std::io;
use std::time::Duration;

use mptcp_pm::bpf::{path_stats, silence};
use mptcp_pm::config::Config;
use mptcp_pm::control::protocol::Request;
use mptcp_pm::netlink::convert;
use mptcp_pm::netlink::diag_wire::{self, MptcpInfo, TcpInfo};
use mptcp_pm::netlink::mirror::Mirror;
use mptcp_pm::netlink::mptcp_wire::{command, controller, event::Event};
use mptcp_pm::netlink::transport::{Client, Datagram, Datagrams};
use mptcp_pm::stats::Stats;
use tokio::runtime::{Builder, Runtime};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by their names.
pub const TARGETS: [(&str, Target); 6] = [
    ("path_managers", path_managers),
    ("sock_diag", sock_diag),
    ("routing", routing),
    ("configuration", configuration),
    ("control", control),
    ("records", records),
];

/// A message of `mptcp_pm` or of its controller, as an answer to a request, and without its netlink header.
pub fn path_managers(bytes: &[u8]) {
    answer(bytes);
    if let Ok((_, attributes)) = command::decode(bytes) {
        let _ = (command::endpoint(&attributes), command::limits(&attributes));
    }
    if let Ok(event) = Event::decode(bytes) {
        let _ = (event.token(), event.local(), event.remote(), event.flags(), event.error());
        assert_eq!(Event::decode(&event.encode()).ok(), Some(event), "what is written is read back");
    }
    let _ = controller::decode(bytes);
}

/// A kernel whose one answer to everything is these bytes.
struct Kernel {
    says: Vec<u8>,
    asked: bool,
}

impl Kernel {
    fn saying(bytes: &[u8]) -> Self {
        Self { says: bytes.to_vec(), asked: false }
    }
}

impl Datagrams for Kernel {
    fn port(&self) -> u32 {
        1
    }

    async fn send(&mut self, _: &[u8]) -> io::Result<()> {
        self.asked = true;
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        if !std::mem::take(&mut self.asked) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Datagram { sender: 0, bytes: &self.says })
    }
}

/// The bytes as an answer to a request of each kind.
fn answer(bytes: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime =
            Builder::new_current_thread().enable_time().build().expect("a runtime without sockets");
    }
    let mut bytes = bytes.to_vec();
    if let Some(numbers) = bytes.get_mut(8..16) {
        // The first request's sequence number, and our port.
        numbers.copy_from_slice(&[1_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
    }
    let client = || Client::new(Kernel::saying(&bytes), Duration::from_secs(1));
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let _ = client().change(28, &[]).await;
            let _ = client().get(28, &[]).await;
            let _ = client().dump(28, &[]).await;
        });
    });
}

/// A socket as `sock_diag` tells of it, and the structures that are in it.
pub fn sock_diag(bytes: &[u8]) {
    if let Ok(message) = diag_wire::Message::decode(bytes) {
        message.encode_attributes();
    }
    let _ = (MptcpInfo::decode(bytes), TcpInfo::decode(bytes));
}

/// Messages of routing netlink, one after the other: what they lead to is taken in, as the daemon does.
pub fn routing(mut bytes: &[u8]) {
    let mut mirror = Mirror::default();
    while let Some(length) = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { break };
        if let Ok(Some(message)) = convert::decode(message) {
            mirror.apply(message);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let again = mirror.snapshot().clone();
    mirror.reconcile(again.clone());
    assert!(mirror.reconcile(again).is_empty(), "the same state twice is no change");
}

/// A configuration file.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse(text, "fuzz.toml") {
        assert!(error.to_string().contains("fuzz.toml"), "the file is named: {error}");
    }
}

/// A line of the control socket.
pub fn control(bytes: &[u8]) {
    match Request::parse(bytes) {
        Ok(request) => {
            let _ = request.changes();
        }
        Err(failure) => assert!(!failure.message.is_empty() && !failure.remedy.is_empty()),
    }
}

/// Records of the ring buffers, each after its length in one byte, on their way into the figures.
pub fn records(mut bytes: &[u8]) {
    let mut stats = Stats::new(0);
    while let Some((length, rest)) = bytes.split_first() {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(*length) * 8));
        bytes = rest;
        let _ = silence::Alarm::parse(record);
        match path_stats::Event::parse(record) {
            Some(path_stats::Event::Opened(sample)) => stats.opened(&sample),
            Some(path_stats::Event::Closed(sample)) => stats.closed(&sample),
            _ => {}
        }
    }
    let _ = (stats.paths(), stats.connections().each());
}
