//! The userspace path manager: addresses, subflows and priorities of one connection.
use std::net::{IpAddr, SocketAddr};

use mptcp_pm::{
    core::world::EndpointFlags,
    netlink::{
        diag::{Diag, Subflow},
        diag_wire::SubflowFlags,
        mptcp::{Events, Mptcp, NewSubflow, Target, Token},
        mptcp_wire::event::Kind,
    },
};
use nix::errno::Errno;
use socket2::Socket;

use crate::namespace::{self, connect, exchange, until};

/// A connection under the userspace path manager, seen from the connecting end.
struct Scene {
    mptcp: Mptcp,
    events: Events,
    token: Token,
    peer_token: Token,
    local: SocketAddr,
    remote: SocketAddr,
    client: Socket,
    server: Socket,
    _listener: Socket,
}

async fn scene(local: &str, remote: &str) -> Scene {
    namespace::leave_to_userspace();
    let mptcp = Mptcp::open().await.unwrap();
    let mut events = Events::open().await.unwrap();
    let (client, server, listener) = connect(local.parse().unwrap(), remote.parse().unwrap());
    let here = client.local_addr().unwrap().as_socket().unwrap();
    let here = SocketAddr::new(here.ip().to_canonical(), here.port());
    let mut established = async || until(&mut events, |event| event.kind == Kind::Established).await;
    // Either end may be first.
    let (one, other) = (established().await, established().await);
    let (own, peer) = if one.local() == Some(here) { (one, other) } else { (other, one) };
    Scene {
        mptcp,
        token: own.token().unwrap(),
        peer_token: peer.token().unwrap(),
        local: here,
        remote: own.remote().unwrap(),
        events,
        client,
        server,
        _listener: listener,
    }
}

fn subflow(local: &str, remote: SocketAddr) -> NewSubflow {
    NewSubflow { local: local.parse().unwrap(), local_id: 7, ifindex: None, backup: false, remote }
}

impl Scene {
    /// Creates a subflow and waits for it.
    async fn join(&mut self, new: &NewSubflow) -> Subflow {
        self.mptcp.subflow_create(self.token, new).await.unwrap();
        let token = self.token;
        until(&mut self.events, |event| event.kind == Kind::SubEstablished && event.token() == Some(token))
            .await;
        exchange(&self.client, &self.server);
        exchange(&self.server, &self.client);
        let subflows = self.subflows().await;
        subflows.into_iter().find(|subflow| subflow.info.id_local == new.local_id).expect("the new subflow")
    }

    async fn subflows(&self) -> Vec<Subflow> {
        let known = Diag::open().unwrap().connections().await.unwrap().known;
        known.into_iter().find(|connection| connection.info.token == self.token).unwrap().subflows
    }

    async fn closed(&mut self, local: SocketAddr) {
        let token = self.token;
        until(&mut self.events, |event| {
            event.kind == Kind::SubClosed && event.token() == Some(token) && event.local() == Some(local)
        })
        .await;
    }
}

#[test]
fn creates_and_destroys_subflows() {
    namespace::run(|| async {
        let mut scene = scene("127.0.0.2:0", "127.0.0.1:5001").await;
        let made = scene.join(&subflow("127.0.0.3", scene.remote)).await;
        assert_eq!(made.socket.remote, scene.remote);
        assert!(!made.info.flags.contains(SubflowFlags::BKUP_LOC));

        let own = scene.mptcp.endpoints_of(scene.token).await.unwrap();
        assert_eq!(own.is_none(), namespace::is_before(6, 10));
        if let Some(own) = own {
            assert!(own.iter().any(|own| own.id == 7 && own.addr == made.socket.local.ip()), "{own:?}");
            assert_eq!(scene.mptcp.endpoint_of(scene.token, 7).await.unwrap().addr, made.socket.local.ip());
        }
        assert_eq!(scene.mptcp.endpoints().await.unwrap(), [], "endpoints are the kernel's path manager's");

        scene.mptcp.subflow_destroy(scene.token, made.socket.local, scene.remote).await.unwrap();
        scene.closed(made.socket.local).await;
        let error =
            scene.mptcp.subflow_destroy(scene.token, made.socket.local, scene.remote).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        exchange(&scene.client, &scene.server);
    });
}

#[test]
fn a_subflow_can_begin_as_backup_and_be_bound() {
    namespace::run(|| async {
        let mut scene = scene("127.0.0.2:0", "127.0.0.1:5001").await;
        let made = scene
            .join(&NewSubflow { backup: true, ifindex: Some(1), ..subflow("127.0.0.3", scene.remote) })
            .await;
        // 6.1 ignores both.
        let is_heeded = !namespace::is_before(6, 12);
        assert_eq!(made.info.flags.contains(SubflowFlags::BKUP_LOC), is_heeded, "{made:?}");
        assert_eq!(made.socket.ifindex, is_heeded.then_some(1));
    });
}

#[test]
fn priority_changes_reach_the_peer_and_sock_diag() {
    namespace::run(|| async {
        let mut scene = scene("127.0.0.2:0", "127.0.0.1:5001").await;
        let made = scene.join(&subflow("127.0.0.3", scene.remote)).await;
        for (flags, backup) in [(EndpointFlags::BACKUP, true), (EndpointFlags::empty(), false)] {
            let any_port = Target::Addr(SocketAddr::new(made.socket.local.ip(), 0));
            scene.mptcp.set_flags_of(scene.token, any_port, Some(scene.remote), flags).await.unwrap();
            let peer = scene.peer_token;
            let told = until(&mut scene.events, |event| event.kind == Kind::SubPriority).await;
            assert_eq!((told.token(), told.backup()), (Some(peer), Some(backup)), "only the peer is told");
            let subflows = scene.subflows().await;
            let changed = subflows.iter().find(|subflow| subflow.info.id_local == 7).unwrap();
            assert_eq!(changed.info.flags.contains(SubflowFlags::BKUP_LOC), backup);
        }
        let initial = Target::Addr(scene.local);
        let error =
            scene.mptcp.set_flags_of(scene.token, initial, None, EndpointFlags::BACKUP).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "a remote end is needed");
        let missing = error.refusal().unwrap().missing;
        assert!(missing == Some(6) || namespace::is_before(6, 15), "MPTCP_PM_ATTR_ADDR_REMOTE: {missing:?}");
    });
}

#[test]
fn announces_and_withdraws_addresses() {
    namespace::run(|| async {
        let mut scene = scene("127.0.0.2:0", "127.0.0.1:5001").await;
        let address: SocketAddr = "127.0.0.9:5009".parse().unwrap();
        scene.mptcp.announce(scene.token, 9, address, None).await.unwrap();
        let announced = until(&mut scene.events, |event| event.kind == Kind::Announced).await;
        assert_eq!((announced.token(), announced.remote()), (Some(scene.peer_token), Some(address)));
        scene.mptcp.remove(scene.token, 9).await.unwrap();
        let removed = until(&mut scene.events, |event| event.kind == Kind::Removed).await;
        assert_eq!((removed.token(), removed.remote_id()), (Some(scene.peer_token), Some(9)));

        assert!(scene.mptcp.remove(scene.token, 9).await.unwrap_err().is_not_found());
        let error = scene.mptcp.announce(scene.token, 0, address, None).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL), "id 0 cannot be announced");
    });
}

#[test]
fn an_unknown_connection_is_not_found() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let somewhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(mptcp.remove(1, 1).await.unwrap_err().is_not_found());
        assert!(mptcp.announce(1, 1, somewhere, None).await.unwrap_err().is_not_found());
        match mptcp.endpoints_of(1).await {
            Ok(told) => assert!(told.is_none() && namespace::is_before(6, 10), "{told:?}"),
            Err(error) => assert!(error.is_not_found(), "{error}"),
        }
        assert!(mptcp.subflow_destroy(1, somewhere, somewhere).await.unwrap_err().is_not_found());
        let error = mptcp.subflow_create(1, &subflow("127.0.0.3", somewhere)).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().contains("connection 0x00000001"), "{error}");
    });
}

#[test]
fn ipv4_subflows_of_an_ipv6_socket_are_reached_by_their_ipv4_addresses() {
    namespace::run(|| async {
        let mut scene = scene("[::ffff:127.0.0.2]:0", "[::]:5001").await;
        assert_eq!(scene.local.ip(), IpAddr::from([127, 0, 0, 2]));
        let made = scene.join(&subflow("127.0.0.3", scene.remote)).await;
        let initial = Target::Addr(scene.local);
        scene
            .mptcp
            .set_flags_of(scene.token, initial, Some(scene.remote), EndpointFlags::BACKUP)
            .await
            .unwrap();
        let backup = scene.subflows().await.into_iter().find(|subflow| subflow.info.id_local == 0).unwrap();
        assert!(backup.info.flags.contains(SubflowFlags::BKUP_LOC), "{backup:?}");

        for local in [scene.local, made.socket.local] {
            scene.mptcp.subflow_destroy(scene.token, local, scene.remote).await.unwrap();
            scene.closed(local).await;
        }
    });
}
