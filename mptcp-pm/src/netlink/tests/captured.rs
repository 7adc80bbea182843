//! Bytes that the kernel sent, or accepted from `ip` and from this crate, read and written again.
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::Nla;
use nix::errno::Errno;

use super::captures;
use crate::{
    core::world::{Endpoint, EndpointFlags, Family, Limits},
    netlink::{
        diag_wire::{
            self, Attribute as DiagAttribute, MptcpInfo, Protocol, State, SubflowInfo, TcpInfo, UlpAttribute,
        },
        mptcp_wire::{
            FAMILY,
            command::{self, AddrSpec, Attribute, Command},
            controller,
            event::{Event, Flags, Kind},
        },
        transport::{
            Fault,
            answer::{Answer, Expect},
        },
    },
};

/// The number of the path manager's family on the machine of the captures.
const PM: u16 = 28;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(command: &str) -> Vec<u8> {
    captures(command)[0].body().to_vec()
}

/// What this crate sends for an address, in the order of attribute numbers.
fn sorted(mut attributes: Vec<Attribute>) -> Vec<Attribute> {
    for attribute in &mut attributes {
        if let Attribute::Addr(addr) | Attribute::AddrRemote(addr) = attribute {
            addr.sort_by_key(Nla::kind);
        }
    }
    attributes
}

#[test]
fn every_message_of_the_family_is_written_as_it_was_read() {
    let all: Vec<_> = captures("").into_iter().filter(|captured| captured.kind() == PM).collect();
    assert!(all.len() > 50);
    for captured in all {
        let body = captured.body();
        if captured.bytes[6..12] == [0; 6] {
            assert_eq!(Event::decode(body).unwrap().encode(), body);
            continue;
        }
        let (number, attributes) = command::decode(body).unwrap();
        let known = [
            Command::AddAddr,
            Command::DelAddr,
            Command::GetAddr,
            Command::FlushAddrs,
            Command::SetLimits,
            Command::GetLimits,
            Command::SetFlags,
            Command::Announce,
            Command::Remove,
            Command::SubflowCreate,
            Command::SubflowDestroy,
        ];
        let command = known.into_iter().find(|command| *command as u8 == number).unwrap();
        let mut again = command::encode(command, &attributes);
        if number == 1 || body.len() > 6 && body[6..8] == [1, 0] {
            // iproute2 sets no NLA_F_NESTED where this crate does.
            again[7] = body[7];
        }
        assert_eq!(again, body);
    }
}

#[test]
fn endpoints_are_added_with_the_attributes_that_iproute2_sends() {
    let first = AddrSpec {
        addr: Some(ip("10.0.0.1")),
        id: Some(5),
        ifindex: Some(1),
        flags: Some(EndpointFlags::SUBFLOW | EndpointFlags::BACKUP | EndpointFlags::FULLMESH),
        port: None,
    };
    let second = AddrSpec {
        addr: Some(ip("2001:db8::1")),
        port: Some(8080),
        flags: Some(EndpointFlags::SIGNAL),
        ..AddrSpec::default()
    };
    for (name, spec) in [
        ("ip mptcp endpoint add 10.0.0.1 id 5 dev lo subflow backup fullmesh", first),
        ("ip mptcp endpoint add 2001:db8::1 port 8080 signal", second),
    ] {
        let (number, theirs) = command::decode(&request(name)).unwrap();
        assert_eq!(number, Command::AddAddr as u8);
        assert_eq!(sorted(theirs), sorted(vec![Attribute::Addr(spec.attributes())]));
    }
}

#[test]
fn short_commands_are_those_of_iproute2_byte_for_byte() {
    let by_id = |id| Attribute::Addr(AddrSpec { id: Some(id), ..AddrSpec::default() }.attributes());
    let initial = AddrSpec { id: Some(0), addr: Some(ip("10.0.0.1")), ..AddrSpec::default() };
    for (name, command, attributes) in [
        ("ip mptcp endpoint show", Command::GetAddr, vec![]),
        ("ip mptcp endpoint show id 5", Command::GetAddr, vec![by_id(5)]),
        ("ip mptcp endpoint delete id 5", Command::DelAddr, vec![by_id(5)]),
        ("ip mptcp endpoint flush", Command::FlushAddrs, vec![]),
        ("ip mptcp limits show", Command::GetLimits, vec![]),
        (
            "ip mptcp limits set subflows 4 add_addr_accepted 3",
            Command::SetLimits,
            vec![Attribute::RcvAddAddrs(3), Attribute::Subflows(4)],
        ),
    ] {
        assert_eq!(command::encode(command, &attributes), request(name), "{name}");
    }
    let (number, theirs) = command::decode(&request("ip mptcp endpoint delete id 0 10.0.0.1")).unwrap();
    assert_eq!(number, Command::DelAddr as u8);
    assert_eq!(sorted(theirs), sorted(vec![Attribute::Addr(initial.attributes())]));
}

#[test]
fn endpoints_and_limits_are_read() {
    let shown = captures("ip mptcp endpoint show");
    let endpoint = |at: usize| command::endpoint(&command::decode(shown[at].body()).unwrap().1).unwrap();
    let flags = EndpointFlags::SUBFLOW | EndpointFlags::BACKUP | EndpointFlags::FULLMESH;
    assert_eq!(endpoint(1), Endpoint { id: 5, addr: ip("10.0.0.1"), port: 0, ifindex: Some(1), flags });
    let flags = EndpointFlags::SIGNAL;
    assert_eq!(endpoint(2), Endpoint { id: 6, addr: ip("2001:db8::1"), port: 8080, ifindex: None, flags });
    let limits = captures("ip mptcp limits show");
    let limits = command::limits(&command::decode(limits[1].body()).unwrap().1).unwrap();
    assert_eq!(limits, Limits { subflows: 4, add_addr_accepted: 3 });
}

#[test]
fn the_family_and_its_groups_are_read() {
    let [question, answer] = captures("ip mptcp monitor: the controller").try_into().ok().unwrap();
    let mut ours = controller::encode(FAMILY);
    ours[1] = question.body()[1];
    assert_eq!(ours, question.body());
    let family = controller::decode(answer.body()).unwrap();
    let groups = [("mptcp_pm_cmds".to_owned(), 8), ("mptcp_pm_events".to_owned(), 9)];
    assert_eq!((family.id, family.groups.as_slice()), (PM, groups.as_slice()));
}

#[test]
fn events_are_read() {
    let events: Vec<_> =
        captures("ip mptcp monitor").iter().map(|captured| Event::decode(captured.body()).unwrap()).collect();
    let kinds = |kind| events.iter().filter(move |event| event.kind == kind);
    for (kind, count) in [
        (Kind::Created, 4),
        (Kind::Established, 4),
        (Kind::Closed, 4),
        (Kind::Announced, 2),
        (Kind::Removed, 3),
        (Kind::SubEstablished, 6),
        (Kind::SubClosed, 7),
        (Kind::SubPriority, 1),
        (Kind::ListenerCreated, 3),
        (Kind::ListenerClosed, 3),
    ] {
        assert_eq!(kinds(kind).count(), count, "{kind:?}");
    }
    assert_eq!(events[0].local(), Some(SocketAddr::new(ip("127.0.0.1"), 5001)));
    let created = &events[1];
    assert_eq!(created.token(), Some(0x1cba_84ce));
    assert_eq!(created.local(), Some(SocketAddr::new(ip("127.0.0.2"), 0x9b39)));
    assert_eq!(created.flags(), Flags::empty());
    assert_eq!(events[2].flags(), Flags::SERVER_SIDE);
    let joined = kinds(Kind::SubEstablished).next().unwrap();
    assert_eq!((joined.local_id(), joined.remote_id()), (Some(3), Some(0)));
    assert_eq!((joined.backup(), joined.ifindex()), (Some(false), Some(1)));
    let refused = kinds(Kind::SubClosed).next().unwrap();
    assert_eq!(refused.error(), Some(Errno::ECONNREFUSED));
    let announced = kinds(Kind::Announced).next().unwrap();
    assert_eq!(announced.remote(), Some(SocketAddr::new(ip("127.0.0.4"), 5004)));
    assert_eq!((announced.family(), announced.remote_id()), (Some(Family::V4), Some(4)));
    assert!(events.iter().any(|event| event.local_addr() == Some(ip("::1"))));
}

#[test]
fn refusals_are_read_with_and_without_the_request_they_repeat() {
    let refusal = |name: &str| {
        let last = captures(name).pop().unwrap();
        let field = |at: usize| u32::from_ne_bytes(last.bytes[at..at + 4].try_into().unwrap());
        match Answer::new(Expect::Acknowledgement, field(8), field(12), |_| None::<()>).take(&last.bytes) {
            Err(Fault::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    };
    let whole = refusal("ip mptcp endpoint add 10.0.0.1 subflow");
    assert_eq!(whole.errno, Errno::EEXIST);
    assert_eq!(whole.text.as_deref(), Some("too many addresses or duplicate one: -17"));
    let capped = refusal("test userspace::announces_and_withdraws_addresses");
    assert_eq!((capped.errno, capped.text.as_deref()), (Errno::EINVAL, Some("invalid addr id")));
    assert_eq!(capped.offset, Some(20));
    assert_eq!(refusal("test userspace::creates_and_destroys_subflows").errno, Errno::ESRCH);
    assert_eq!(refusal("test userspace::priority_changes_reach_the_peer_and_sock_diag").missing, Some(6));
}

#[test]
fn sock_diag_is_asked_as_ss_asks() {
    // `ss` asks for every state but SYN-RECV, TIME-WAIT, CLOSE and LISTEN.
    let states = 0xb37;
    for (name, protocol) in [("ss -M -i -e -n -4", Protocol::Mptcp), ("ss -t -i -e -n -4", Protocol::Tcp)] {
        let theirs = request(name);
        let mut ours = diag_wire::encode(Family::V4, protocol, states);
        if protocol == Protocol::Mptcp {
            assert_eq!(ours[1], 0, "the attribute alone names the protocol");
            ours[1] = theirs[1];
        }
        assert_eq!(ours[2] & theirs[2], ours[2], "`ss` asks for these attributes and more");
        ours[2] = theirs[2];
        assert_eq!(ours, theirs);
    }
}

#[test]
fn connections_are_read() {
    let message = diag_wire::Message::decode(captures("ss -M -i -e -n -4")[1].body()).unwrap();
    assert_eq!((message.socket.family, message.socket.state), (Family::V4, State::Established));
    assert_eq!(message.socket.local, SocketAddr::new(ip("127.0.0.2"), 0x9b39));
    let Some(DiagAttribute::Info(info)) =
        message.attributes.iter().find(|attribute| matches!(attribute, DiagAttribute::Info(_)))
    else {
        panic!("{message:?}")
    };
    let info = MptcpInfo::decode(&info.0).unwrap();
    assert_eq!((info.token, info.limit_extra_subflows, info.limit_add_addr_accepted), (0x1cba_84ce, 4, 4));
    assert_eq!((info.bytes_sent, info.bytes_received, info.checksum), (Some(12), Some(12), Some(false)));
    assert!(info.last_ack_received.is_some());
}

#[test]
fn an_older_kernel_tells_less_of_a_connection() {
    let info = MptcpInfo::decode(&[1; 40]).unwrap();
    assert_eq!((info.token, info.bytes_sent, info.subflows_total), (0x0101_0101, None, None));
    assert!(MptcpInfo::decode(&[1; 39]).is_err());
}

#[test]
fn subflows_are_read_and_written_again() {
    let captured = captures("ss -t -i -e -n -4");
    let mut joined = 0;
    for captured in
        captured.iter().filter(|captured| !captured.to_kernel && captured.kind() == diag_wire::BY_FAMILY)
    {
        let message = diag_wire::Message::decode(captured.body()).unwrap();
        for attribute in &message.attributes {
            match attribute {
                DiagAttribute::Info(bytes) => assert!(TcpInfo::decode(&bytes.0).unwrap().cwnd > 0),
                DiagAttribute::Congestion(name) => assert_eq!(name, "bbr"),
                DiagAttribute::Ulp(ulp) => {
                    assert_eq!(ulp[0], UlpAttribute::Name("mptcp".to_owned()));
                    let UlpAttribute::Mptcp(attributes) = &ulp[1] else { panic!("{ulp:?}") };
                    let info = SubflowInfo::from(attributes.as_slice());
                    assert!([0x1cba_84ce, 0x78a6_61de].contains(&info.token_local), "{info:?}");
                    joined += usize::from(info.id_local == 3);
                }
                _ => {}
            }
        }
        assert_eq!(message.encode_attributes().len(), captured.body().len() - 72);
    }
    assert_eq!(joined, 1);
}
