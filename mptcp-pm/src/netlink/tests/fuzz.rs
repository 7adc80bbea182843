//! Random input: what was written is read back the same, and nothing that is read causes a panic.
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::DefaultNla;
use proptest::{collection::vec, prelude::*};

use super::captures;
use crate::netlink::{
    attributes::BigEndian,
    diag_wire::{Message, MptcpInfo, TcpInfo},
    mptcp_wire::{
        command::{self, AddrAttribute, Attribute, Command},
        controller,
        event::{self, Event, Kind},
    },
    transport::answer::{Answer, Expect},
};

/// Gives bytes to every decoder.
fn decode(bytes: &[u8]) {
    if let Ok((_, attributes)) = command::decode(bytes) {
        let _ = (command::endpoint(&attributes), command::limits(&attributes));
    }
    if let Ok(event) = Event::decode(bytes) {
        let _ = (event.local(), event.remote(), event.flags(), event.error(), event.encode());
    }
    let _ = (controller::decode(bytes), MptcpInfo::decode(bytes), TcpInfo::decode(bytes));
    if let Ok(message) = Message::decode(bytes) {
        message.encode_attributes();
    }
    for expect in [Expect::Acknowledgement, Expect::Message, Expect::Dump] {
        let _ = Answer::new(expect, 1, 1, |message| Some(message.len())).take(bytes);
    }
}

fn unknown() -> impl Strategy<Value = DefaultNla> {
    (100..200_u16, vec(any::<u8>(), 0..40)).prop_map(|(kind, value)| DefaultNla::new(kind, value))
}

fn addr_attribute() -> impl Strategy<Value = AddrAttribute> {
    prop_oneof![
        any::<u16>().prop_map(AddrAttribute::Family),
        any::<u8>().prop_map(AddrAttribute::Id),
        any::<Ipv4Addr>().prop_map(AddrAttribute::Addr4),
        any::<Ipv6Addr>().prop_map(AddrAttribute::Addr6),
        any::<u16>().prop_map(AddrAttribute::Port),
        any::<u32>().prop_map(AddrAttribute::Flags),
        any::<i32>().prop_map(AddrAttribute::IfIndex),
        unknown().prop_map(AddrAttribute::Other),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        vec(addr_attribute(), 0..8).prop_map(Attribute::Addr),
        any::<u32>().prop_map(Attribute::RcvAddAddrs),
        any::<u32>().prop_map(Attribute::Subflows),
        any::<u32>().prop_map(Attribute::Token),
        any::<u8>().prop_map(Attribute::LocId),
        vec(addr_attribute(), 0..8).prop_map(Attribute::AddrRemote),
        unknown().prop_map(Attribute::Other),
    ]
}

fn event_attribute() -> impl Strategy<Value = event::Attribute> {
    use event::Attribute as A;
    prop_oneof![
        any::<u32>().prop_flat_map(|number| prop_oneof![
            Just(A::Token(number)),
            Just(A::Timeout(number)),
            Just(A::ResetReason(number)),
            Just(A::ResetFlags(number)),
            Just(A::IfIndex(number.cast_signed())),
        ]),
        any::<u16>().prop_flat_map(|number| prop_oneof![
            Just(A::Family(number)),
            Just(A::Flags(number)),
            Just(A::Sport(BigEndian(number))),
            Just(A::Dport(BigEndian(number))),
        ]),
        any::<u8>().prop_flat_map(|number| prop_oneof![
            Just(A::LocId(number)),
            Just(A::RemId(number)),
            Just(A::Backup(number)),
            Just(A::Error(number)),
            Just(A::ServerSide(number)),
        ]),
        any::<Ipv4Addr>().prop_flat_map(|addr| prop_oneof![Just(A::Saddr4(addr)), Just(A::Daddr4(addr))]),
        any::<Ipv6Addr>().prop_flat_map(|addr| prop_oneof![Just(A::Saddr6(addr)), Just(A::Daddr6(addr))]),
        unknown().prop_map(A::Other),
    ]
}

proptest! {
    #[test]
    fn commands_survive(attributes in vec(attribute(), 0..6)) {
        let (number, again) = command::decode(&command::encode(Command::SetFlags, &attributes)).unwrap();
        prop_assert_eq!((number, again), (7, attributes));
    }

    #[test]
    fn events_survive(kind in any::<u8>(), attributes in vec(event_attribute(), 0..20)) {
        let event = Event { kind: Kind::from(kind), attributes };
        prop_assert_eq!(event.kind.number(), kind);
        prop_assert_eq!(Event::decode(&event.encode()).unwrap(), event);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in vec(any::<u8>(), 0..400)) {
        decode(&bytes);
    }

    #[test]
    fn damaged_captures_cause_no_panic(
        which in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = captures("").swap_remove(which.index(captures("").len())).bytes;
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(end.index(bytes.len() + 1));
        decode(&bytes);
        decode(bytes.get(16..).unwrap_or_default());
        decode(bytes.get(88..).unwrap_or_default());
        if bytes.len() >= 16 {
            // As an answer to the request that is waited for.
            bytes[8..16].copy_from_slice(&[1_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
            decode(&bytes);
        }
    }
}
