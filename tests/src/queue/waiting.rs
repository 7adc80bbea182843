//! The packets that wait for the wire, in order, and how many bytes they are.
use super::Packet;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Waiting<P> {
    packets: VecDeque<Packet<P>>,
    bytes: usize,
}

impl<P> Default for Waiting<P> {
    fn default() -> Self {
        Self { packets: VecDeque::new(), bytes: 0 }
    }
}

impl<P> Waiting<P> {
    pub(super) fn push(&mut self, packet: Packet<P>) {
        self.bytes += packet.size;
        self.packets.push_back(packet);
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Packet<P>> {
        let packet = self.packets.pop_front();
        self.bytes -= packet.as_ref().map_or(0, |packet| packet.size);
        packet
    }

    /// The one that came last.
    pub(super) fn pop_last(&mut self) -> Option<Packet<P>> {
        let packet = self.packets.pop_back();
        self.bytes -= packet.as_ref().map_or(0, |packet| packet.size);
        packet
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.packets.iter().map(|packet| packet.size)
    }
}
