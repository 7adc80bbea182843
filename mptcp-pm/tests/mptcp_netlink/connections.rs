//! Events and sock_diag of real connections over loopback, under the kernel's path manager.
use std::net::{IpAddr, SocketAddr};

use mptcp_pm::{
    core::world::{EndpointFlags, Family, Limits},
    netlink::{
        diag::{Connection, Diag},
        diag_wire::{MptcpFlags, State, SubflowFlags},
        mptcp::{Events, Mptcp, NewEndpoint},
        mptcp_wire::event::{Event, Flags, Kind},
    },
};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::namespace::{self, connect, exchange, next, until};

async fn allow_subflows(mptcp: &mut Mptcp) {
    mptcp.set_limits(Limits { subflows: 4, add_addr_accepted: 4 }).await.unwrap();
}

fn endpoint(addr: &str, flags: EndpointFlags) -> NewEndpoint {
    NewEndpoint { addr: addr.parse().unwrap(), port: 0, id: None, ifindex: None, flags }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

async fn connections() -> Vec<Connection> {
    let all = Diag::open().unwrap().connections().await.unwrap();
    assert_eq!(all.strays, []);
    all.known
}

/// The connection whose local end is `local`.
async fn connection_at(local: SocketAddr) -> Connection {
    let mut known = connections().await;
    known.retain(|connection| connection.socket.local == local);
    assert_eq!(known.len(), 1);
    known.remove(0)
}

#[test]
fn a_connection_tells_its_life() {
    namespace::run(|| async {
        let mut events = Events::open().await.unwrap();
        let (client, server, listener) = connect(addr("127.0.0.2:0"), addr("127.0.0.1:5001"));
        let here = client.local_addr().unwrap().as_socket().unwrap();

        let is_client = |event: &Event| event.local() == Some(here);
        let created = until(&mut events, |event| event.kind == Kind::Created && is_client(event)).await;
        assert_eq!(created.remote(), Some(addr("127.0.0.1:5001")));
        assert_eq!(created.family(), Some(Family::V4));
        assert!(!created.flags().contains(Flags::SERVER_SIDE), "{created:?}");
        let accepted = until(&mut events, |event| event.remote() == Some(here)).await;
        assert!(accepted.flags().contains(Flags::SERVER_SIDE), "{accepted:?}");
        let established =
            until(&mut events, |event| event.kind == Kind::Established && event.token() == created.token())
                .await;
        assert_eq!(established.local(), Some(here));

        drop((client, server, listener));
        until(&mut events, |event| event.kind == Kind::Closed && event.token() == created.token()).await;
    });
}

#[test]
fn an_endpoint_makes_a_subflow_that_ends_with_it() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        allow_subflows(&mut mptcp).await;
        let mut events = Events::open().await.unwrap();
        let (client, server, _listener) = connect(addr("127.0.0.2:0"), addr("127.0.0.1:5001"));
        let here = client.local_addr().unwrap().as_socket().unwrap();

        let bound = NewEndpoint { ifindex: Some(1), ..endpoint("127.0.0.3", EndpointFlags::SUBFLOW) };
        mptcp.add_endpoint(&bound).await.unwrap();
        let token = connection_at(here).await.info.token;
        // The other end is in the same namespace and tries the endpoint too.
        let from_endpoint =
            |event: &Event| event.token() == Some(token) && event.local_addr() == Some(bound.addr);
        let made =
            until(&mut events, |event| event.kind == Kind::SubEstablished && from_endpoint(event)).await;
        assert_eq!((made.local_id(), made.remote_id()), (Some(1), Some(0)));
        assert_eq!((made.backup(), made.ifindex()), (Some(false), Some(1)));
        assert_eq!(made.remote(), Some(addr("127.0.0.1:5001")));

        exchange(&client, &server);
        let connection = connection_at(here).await;
        assert_eq!(connection.info.token, token);
        assert_eq!(connection.info.extra_subflows, 1);
        let [initial, joined] = connection.subflows.as_slice() else { panic!("{connection:#?}") };
        let (initial, joined) =
            if initial.info.id_local == 0 { (initial, joined) } else { (joined, initial) };
        assert!(initial.info.flags.contains(SubflowFlags::MCAP_REM | SubflowFlags::MCAP_LOC));
        assert!(joined.info.flags.contains(SubflowFlags::JOIN_LOC | SubflowFlags::FULLY_ESTABLISHED));
        assert_eq!(initial.info.token_remote, 0, "told for joined subflows only");
        let there = connection_at(server.local_addr().unwrap().as_socket().unwrap()).await;
        assert_eq!(joined.info.token_remote, there.info.token);
        assert_eq!(joined.socket.local, made.local().unwrap());
        assert_eq!((joined.socket.ifindex, initial.socket.ifindex), (Some(1), None));

        mptcp.delete_endpoint(1, None).await.unwrap();
        until(&mut events, |event| event.kind == Kind::SubClosed && from_endpoint(event)).await;
    });
}

#[test]
fn a_server_s_endpoint_makes_it_knock_at_the_client_in_vain() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        allow_subflows(&mut mptcp).await;
        let mut events = Events::open().await.unwrap();
        let (_client, server, _listener) = connect(addr("127.0.0.2:0"), addr("127.0.0.1:5001"));
        mptcp.add_endpoint(&endpoint("127.0.0.4", EndpointFlags::SUBFLOW)).await.unwrap();
        let client = server.peer_addr().unwrap().as_socket();
        let refused = until(&mut events, |event| {
            event.kind == Kind::SubClosed && event.remote() == client && event.local_id() == Some(1)
        })
        .await;
        assert_eq!(refused.error(), Some(Errno::ECONNREFUSED), "{refused:?}");
    });
}

#[test]
fn announced_addresses_have_no_family_attribute_but_a_family() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let mut events = Events::open().await.unwrap();
        let (_client, _server, _listener) = connect(addr("127.0.0.2:0"), addr("127.0.0.1:5001"));
        mptcp.add_endpoint(&endpoint("127.0.0.5", EndpointFlags::SIGNAL)).await.unwrap();
        let announced = until(&mut events, |event| event.kind == Kind::Announced).await;
        assert_eq!(announced.remote_addr(), Some(IpAddr::from([127, 0, 0, 5])));
        assert_eq!((announced.remote_id(), announced.family()), (Some(1), Some(Family::V4)));
        mptcp.delete_endpoint(1, None).await.unwrap();
        let removed = until(&mut events, |event| event.kind == Kind::Removed).await;
        assert_eq!(removed.remote_id(), Some(1));
    });
}

#[test]
fn an_endpoint_with_a_port_has_a_listener() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let mut events = Events::open().await.unwrap();
        let signal = NewEndpoint { port: 5005, ..endpoint("127.0.0.5", EndpointFlags::SIGNAL) };
        mptcp.add_endpoint(&signal).await.unwrap();
        if namespace::is_before(6, 12) {
            // 6.1 does not tell.
            return;
        }
        let created = next(&mut events).await;
        assert_eq!((created.kind, created.local()), (Kind::ListenerCreated, Some(addr("127.0.0.5:5005"))));
        mptcp.flush().await.unwrap();
        assert_eq!(next(&mut events).await.kind, Kind::ListenerClosed);
    });
}

#[test]
fn sock_diag_counts_and_names() {
    namespace::run(|| async {
        let (client, server, _listener) = connect(addr("[::1]:0"), addr("[::1]:5001"));
        let plain = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        plain.connect(&addr("[::1]:5001").into()).unwrap();
        let here = client.local_addr().unwrap().as_socket().unwrap();

        let connection = connection_at(here).await;
        assert_eq!((connection.socket.family, connection.socket.state), (Family::V6, State::Established));
        assert_eq!(connection.socket.remote, addr("[::1]:5001"));
        assert!(!connection.info.flags.contains(MptcpFlags::FALLBACK));
        let is_told = !namespace::is_before(6, 12);
        let bytes = is_told.then_some(12);
        assert_eq!((connection.info.bytes_sent, connection.info.bytes_received), (bytes, bytes));
        assert_eq!(connection.info.subflows_total, is_told.then_some(1));
        let [subflow] = connection.subflows.as_slice() else { panic!("{connection:#?}") };
        assert_eq!((subflow.socket.local, subflow.socket.inode), (here, connection.socket.inode));
        let tcp = subflow.tcp.unwrap();
        assert!(
            tcp.cwnd > 0 && !tcp.rtt.is_zero() && tcp.bytes_acked >= 12 && tcp.bytes_received == 12,
            "{tcp:?}"
        );
        assert!(subflow.congestion.as_deref().is_some_and(|name| !name.is_empty()));

        let there = connection_at(server.local_addr().unwrap().as_socket().unwrap()).await;
        assert_ne!(there.info.token, connection.info.token, "each end has its own");
        assert_eq!(there.subflows[0].info.token_local, there.info.token);
        assert_eq!(connections().await.len(), 2, "a plain TCP connection is none of ours");
    });
}

#[test]
fn a_connection_that_fell_back_says_so() {
    namespace::run(|| async {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&addr("127.0.0.1:5001").into()).unwrap();
        listener.listen(8).unwrap();
        let client = namespace::socket(Domain::IPV4);
        client.connect(&addr("127.0.0.1:5001").into()).unwrap();
        let [connection] = connections().await.try_into().unwrap();
        assert!(connection.info.flags.contains(MptcpFlags::FALLBACK), "{connection:#?}");
    });
}

#[test]
fn ipv4_over_an_ipv6_socket_is_ipv4() {
    namespace::run(|| async {
        let mut events = Events::open().await.unwrap();
        let (client, _server, _listener) = connect(addr("[::ffff:127.0.0.2]:0"), addr("[::]:5001"));
        let port = client.local_addr().unwrap().as_socket().unwrap().port();
        let here = SocketAddr::new([127, 0, 0, 2].into(), port);
        let created = until(&mut events, |event| event.local() == Some(here)).await;
        assert_eq!(created.family(), Some(Family::V4));
        assert_eq!(connection_at(here).await.socket.family, Family::V6);
    });
}
