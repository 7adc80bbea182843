//! Asks the other ends of ways whether they are there: ICMP echo requests, each over one uplink.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use tokio::sync::mpsc;

use crate::core::alarm::Probe;
use crate::core::event::Event;
use crate::core::world::IfIndex;

/// Later answers are of no use to anybody.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks, and hears the answers. A question has a socket of its own, which goes with it: between questions nothing
/// that comes from the network wakes the daemon.
#[derive(Debug)]
pub struct Prober {
    sender: mpsc::UnboundedSender<(Probe, Duration)>,
    answers: mpsc::UnboundedReceiver<(Probe, Duration)>,
    asked: u16,
    /// The uplinks over which nobody can be asked at present, and why.
    mute: BTreeMap<IfIndex, String>,
}

impl Default for Prober {
    fn default() -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { sender, answers, asked: 0, mute: BTreeMap::new() }
    }
}

impl Prober {
    /// Asks, and does not wait for the answer. Where there is no socket for it (the address has gone, or the daemon may not)
    /// none will come; questions are many, and why is said once.
    pub fn ask(&mut self, probe: Probe) {
        let ifindex = probe.ifindex;
        match self.send(probe) {
            Ok(()) => drop(self.mute.remove(&ifindex)),
            Err(error) => {
                let error = error.to_string();
                if self.mute.get(&ifindex) != Some(&error) {
                    tracing::warn!(?probe, %error, "other ends cannot be asked over this uplink");
                    self.mute.insert(ifindex, error);
                }
            }
        }
    }

    fn send(&mut self, probe: Probe) -> std::io::Result<()> {
        let kind = if probe.local.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
        let mut config = Config::builder().kind(kind).bind(SocketAddr::new(probe.local, 0));
        if let Some(ifindex) = NonZeroU32::new(probe.ifindex) {
            config = config.interface_index(ifindex);
        }
        let client = Client::new(&config.build())?;
        self.asked = self.asked.wrapping_add(1);
        let sequence = PingSequence(self.asked);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut pinger = client.pinger(probe.remote, PingIdentifier(sequence.0)).await;
            match pinger.timeout(PATIENCE).ping(sequence, &[]).await {
                // At the end there is nobody who wants to know.
                Ok((packet, rtt)) if is_from(&packet, &probe) => drop(sender.send((probe, rtt))),
                Ok(_) | Err(SurgeError::Timeout { .. }) => {}
                Err(error) => tracing::debug!(?probe, %error, "not asked"),
            }
        });
        Ok(())
    }

    /// The next answer. Cancelling it loses nothing.
    pub async fn answer(&mut self) -> Event {
        match self.answers.recv().await {
            Some((probe, rtt)) => Event::Answered(probe, rtt),
            // Never: the sender is ours.
            None => std::future::pending().await,
        }
    }
}

/// A router that says that there is no way is no answer.
fn is_from(packet: &IcmpPacket, probe: &Probe) -> bool {
    match packet {
        IcmpPacket::V4(packet) => packet.get_source() == probe.remote,
        IcmpPacket::V6(packet) => packet.get_source() == probe.remote,
    }
}
