//! Asks the other ends of ways whether they are there: ICMP echo requests, each over one uplink.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};
use tokio::sync::mpsc;

use crate::core::alarm::Probe;
use crate::core::event::Event;
use crate::core::health::OPEN_FOR;
use crate::core::world::IfIndex;

/// Asks, and hears the answers. The questions that are open over a way have a socket together, which goes with the last of
/// them: between questions nothing that comes from the network wakes the daemon.
pub struct Prober {
    sender: mpsc::UnboundedSender<(Probe, Duration)>,
    answers: mpsc::UnboundedReceiver<(Probe, Duration)>,
    asked: u16,
    sockets: BTreeMap<(IpAddr, IfIndex), Weak<Client>>,
    /// The uplinks over which nobody can be asked at present, and why.
    mute: BTreeMap<IfIndex, String>,
}

impl Default for Prober {
    fn default() -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { sender, answers, asked: 0, sockets: BTreeMap::new(), mute: BTreeMap::new() }
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
        let client = self.socket(probe.local, probe.ifindex)?;
        self.asked = self.asked.wrapping_add(1);
        let sequence = PingSequence(self.asked);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut pinger = client.pinger(probe.remote, PingIdentifier(sequence.0)).await;
            match pinger.timeout(OPEN_FOR).ping(sequence, &[]).await {
                // At the end there is nobody who wants to know.
                Ok((packet, rtt)) if is_from(&packet, &probe) => drop(sender.send((probe, rtt))),
                Ok(_) | Err(SurgeError::Timeout { .. }) => {}
                Err(error) => tracing::debug!(?probe, %error, "not asked"),
            }
        });
        Ok(())
    }

    fn socket(&mut self, local: IpAddr, ifindex: IfIndex) -> std::io::Result<Arc<Client>> {
        self.sockets.retain(|_, socket| socket.strong_count() > 0);
        if let Some(socket) = self.sockets.get(&(local, ifindex)).and_then(Weak::upgrade) {
            return Ok(socket);
        }
        let kind = if local.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
        let mut config = Config::builder().kind(kind).bind(SocketAddr::new(local, 0));
        if let Some(ifindex) = NonZeroU32::new(ifindex) {
            config = config.interface_index(ifindex);
        }
        let socket = Arc::new(Client::new(&config.build())?);
        self.sockets.insert((local, ifindex), Arc::downgrade(&socket));
        Ok(socket)
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

#[cfg(test)]
mod tests {
    use std::{fs, net::Ipv4Addr, thread};

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Those of this thread's network namespace, whichever of the two kinds there may be.
    fn sockets() -> usize {
        let lines = |file: &str| fs::read_to_string(file).expect("is there").lines().count() - 1;
        lines("/proc/thread-self/net/icmp") + lines("/proc/thread-self/net/raw")
    }

    #[test]
    fn questions_over_a_way_share_a_socket_that_goes_with_them() {
        let ask = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("as root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut prober = Prober::default();
                for number in 0..600 {
                    let remote = Ipv4Addr::from(0x0a00_0000 + number).into();
                    prober.ask(Probe { local: Ipv4Addr::UNSPECIFIED.into(), ifindex: 0, remote });
                }
                assert_eq!(sockets(), 1);
                // There is no route: each question fails at once.
                while sockets() > 0 {
                    tokio::task::yield_now().await;
                }
            });
        };
        thread::spawn(ask).join().expect("the thread");
    }
}
