//! Requests that the client never sends, and what the kernel makes of them: the reasons for its rules.
use mptcp_pm::{
    core::world::{Endpoint, EndpointFlags},
    netlink::{
        mptcp::{Mptcp, NewEndpoint},
        mptcp_wire::{
            FAMILY,
            command::{AddrSpec, Attribute, Command, encode},
            controller,
        },
        transport::{Client, Fault},
    },
};
use netlink_packet_generic::constants::GENL_ID_CTRL;
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use crate::namespace;

/// Sends an address as it is, without the client's care.
async fn send(command: Command, spec: AddrSpec) -> Result<(), Fault> {
    let mut client = Client::open(NETLINK_GENERIC).unwrap();
    let family = client.get(GENL_ID_CTRL, &controller::encode(FAMILY)).await?;
    let family = controller::decode(&family)?.id;
    client.change(family, &encode(command, &[Attribute::Addr(spec.attributes())])).await
}

fn subflow(addr: &str) -> NewEndpoint {
    let addr = addr.parse().unwrap();
    NewEndpoint { addr, port: 0, id: None, ifindex: None, flags: EndpointFlags::SUBFLOW }
}

fn with_id_0(addr: &str) -> AddrSpec {
    AddrSpec {
        addr: Some(addr.parse().unwrap()),
        id: Some(0),
        flags: Some(EndpointFlags::SUBFLOW),
        ..AddrSpec::default()
    }
}

#[test]
fn adding_with_id_0_counts_as_no_id_or_hides_an_endpoint() {
    namespace::run(|| async {
        send(Command::AddAddr, with_id_0("10.0.0.1")).await.unwrap();
        let mut mptcp = Mptcp::open().await.unwrap();
        let endpoints = mptcp.endpoints().await.unwrap();
        let hidden = !matches!(endpoints.as_slice(), [Endpoint { id: 1.., .. }]);
        let second = mptcp.add_endpoint(&subflow("10.0.0.2")).await;
        // 6.18.15: a hidden endpoint, after which no id is assigned until all is flushed. 6.18.44: an ordinary one.
        assert_eq!(hidden, second.is_err());
        if let Err(error) = second {
            assert_eq!(error.errno(), Some(Errno::EBUSY));
            mptcp.flush().await.unwrap();
            mptcp.add_endpoint(&subflow("10.0.0.2")).await.unwrap();
        }
    });
}

#[test]
fn deleting_by_address_deletes_nothing() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        mptcp.add_endpoint(&subflow("10.0.0.1")).await.unwrap();
        let by_addr = AddrSpec { addr: Some("10.0.0.1".parse().unwrap()), ..AddrSpec::default() };
        send(Command::DelAddr, by_addr).await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap().len(), 1);
    });
}

#[test]
fn unknown_flags_are_dropped_or_kept_but_not_refused() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let unknown = EndpointFlags::from_bits_retain(1 << 7);
        let new = NewEndpoint { flags: EndpointFlags::SUBFLOW | unknown, ..subflow("10.0.0.1") };
        mptcp.add_endpoint(&new).await.unwrap();
        assert_eq!(mptcp.endpoint(1).await.unwrap().flags - unknown, EndpointFlags::SUBFLOW);
    });
}
