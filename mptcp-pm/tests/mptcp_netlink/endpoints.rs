//! Endpoints and limits of the kernel's path manager; each of its quirks that the daemon relies on, as a fact.
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU8,
};

use mptcp_pm::{
    core::world::{Endpoint, EndpointFlags, Limits},
    netlink::{
        mptcp::{Mptcp, NewEndpoint, Target},
        transport::Error,
    },
};
use nix::errno::Errno;

use crate::namespace;

fn new(addr: &str, flags: EndpointFlags) -> NewEndpoint {
    NewEndpoint { addr: addr.parse().unwrap(), port: 0, id: None, ifindex: None, flags }
}

fn extack(error: &Error) -> &str {
    error.refusal().and_then(|refusal| refusal.text.as_deref()).unwrap_or_default()
}

#[test]
fn adds_shows_changes_and_deletes() {
    namespace::run(|| async {
        // The kernel listens on an endpoint's port: the address must be there.
        namespace::ip("address add 2001:db8::1/128 dev lo nodad");
        let mut mptcp = Mptcp::open().await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap(), []);

        mptcp.add_endpoint(&new("10.0.0.1", EndpointFlags::SUBFLOW)).await.unwrap();
        let full = NewEndpoint {
            addr: "2001:db8::1".parse().unwrap(),
            port: 8080,
            id: NonZeroU8::new(200),
            ifindex: Some(1),
            flags: EndpointFlags::SIGNAL,
        };
        mptcp.add_endpoint(&full).await.unwrap();
        let first = Endpoint {
            id: 1,
            addr: "10.0.0.1".parse().unwrap(),
            port: 0,
            ifindex: None,
            flags: EndpointFlags::SUBFLOW,
        };
        let second =
            Endpoint { id: 200, addr: full.addr, port: 8080, ifindex: Some(1), flags: EndpointFlags::SIGNAL };
        assert_eq!(mptcp.endpoints().await.unwrap(), [first.clone(), second.clone()]);
        assert_eq!(mptcp.endpoint(200).await.unwrap(), second);

        let backup = EndpointFlags::SUBFLOW | EndpointFlags::BACKUP;
        mptcp.set_flags(Target::Id(1), backup).await.unwrap();
        assert_eq!(mptcp.endpoint(1).await.unwrap().flags, backup);
        let target = Target::Addr(SocketAddr::new(first.addr, 0));
        mptcp.set_flags(target, EndpointFlags::FULLMESH).await.unwrap();
        let fullmesh = EndpointFlags::SUBFLOW | EndpointFlags::FULLMESH;
        assert_eq!(mptcp.endpoint(1).await.unwrap().flags, fullmesh, "only backup and fullmesh follow");

        mptcp.delete_endpoint(1, None).await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap(), [second]);
        mptcp.flush().await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap(), []);
    });
}

#[test]
fn refusals_carry_number_text_and_object() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let endpoint = new("10.0.0.1", EndpointFlags::SUBFLOW);
        mptcp.add_endpoint(&endpoint).await.unwrap();

        let error = mptcp.add_endpoint(&endpoint).await.unwrap_err();
        assert!(error.is_exists() && error.errno() == Some(Errno::EEXIST), "{error}");
        assert!(error.to_string().starts_with("cannot add endpoint 10.0.0.1: "), "{error}");
        let taken = NewEndpoint { id: NonZeroU8::new(1), ..new("10.0.0.2", EndpointFlags::SUBFLOW) };
        let error = mptcp.add_endpoint(&taken).await.unwrap_err();
        assert!(error.is_exists() && error.errno() == Some(Errno::EBUSY), "{error}");

        let error = mptcp.endpoint(9).await.unwrap_err();
        assert!(error.is_not_found() && extack(&error) == "address not found", "{error}");
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(error.refusal().unwrap().offset.is_some() || namespace::is_before(6, 15), "{error:?}");
        assert!(mptcp.delete_endpoint(9, None).await.unwrap_err().is_not_found());
        let error = mptcp.set_flags(Target::Id(9), EndpointFlags::BACKUP).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(error.is_not_found() || namespace::is_before(6, 12), "6.1 does not say why: {error}");
    });
}

#[test]
fn contradicting_flags_are_refused_with_a_text() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let mesh = new("10.0.0.1", EndpointFlags::SIGNAL | EndpointFlags::FULLMESH);
        let implicit = new("10.0.0.1", EndpointFlags::IMPLICIT);
        let port = NewEndpoint { port: 80, ..new("10.0.0.1", EndpointFlags::SUBFLOW) };
        for refused in [mesh, implicit, port] {
            let error = mptcp.add_endpoint(&refused).await.unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EINVAL), "{refused:?}");
            assert!(!extack(&error).is_empty(), "{error}");
            assert!(!error.is_exists() && !error.is_full() && !error.is_not_found(), "{error}");
        }
        assert_eq!(mptcp.endpoints().await.unwrap(), []);
    });
}

#[test]
fn a_full_table_says_so() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        for last in 1..=255 {
            let added = mptcp.add_endpoint(&new(&format!("10.0.0.{last}"), EndpointFlags::SUBFLOW)).await;
            if let Err(error) = added {
                assert!(error.is_full(), "{error}");
                // 8 endpoints; 255 since 7.2.
                assert_eq!(mptcp.endpoints().await.unwrap().len(), last - 1);
                return;
            }
        }
        assert_eq!(mptcp.endpoints().await.unwrap().len(), 255);
    });
}

#[test]
fn the_kernel_accepts_what_makes_no_sense() {
    namespace::run(|| async {
        namespace::set_mptcp("enabled", "0");
        let mut mptcp = Mptcp::open().await.unwrap();
        let senseless = NewEndpoint { ifindex: Some(9999), ..new("192.0.2.1", EndpointFlags::empty()) };
        mptcp.add_endpoint(&senseless).await.unwrap();
        assert_eq!(mptcp.endpoint(1).await.unwrap().ifindex, Some(9999));
    });
}

#[test]
fn deleting_goes_by_the_id_alone() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        mptcp.add_endpoint(&new("10.0.0.1", EndpointFlags::SUBFLOW)).await.unwrap();
        let addr: IpAddr = "10.0.0.1".parse().unwrap();
        mptcp.delete_endpoint(0, Some(addr)).await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap().len(), 1, "id 0 ends initial subflows, not the endpoint");
        mptcp.delete_endpoint(1, Some("10.9.9.9".parse().unwrap())).await.unwrap();
        assert_eq!(mptcp.endpoints().await.unwrap(), [], "another address does not save the endpoint");
    });
}

#[test]
fn a_freed_id_is_used_again_at_once_only_when_it_was_the_highest() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let ids = async |mptcp: &mut Mptcp| -> Vec<u8> {
            mptcp.endpoints().await.unwrap().iter().map(|endpoint| endpoint.id).collect()
        };
        mptcp.add_endpoint(&new("10.0.0.1", EndpointFlags::SUBFLOW)).await.unwrap();
        mptcp.add_endpoint(&new("10.0.0.2", EndpointFlags::SUBFLOW)).await.unwrap();
        mptcp.delete_endpoint(1, None).await.unwrap();
        mptcp.add_endpoint(&new("10.0.0.1", EndpointFlags::SUBFLOW)).await.unwrap();
        assert_eq!(ids(&mut mptcp).await, [2, 3]);
        mptcp.delete_endpoint(3, None).await.unwrap();
        mptcp.add_endpoint(&new("10.0.0.1", EndpointFlags::SUBFLOW)).await.unwrap();
        assert_eq!(ids(&mut mptcp).await, [2, 3]);
    });
}

#[test]
fn a_port_needs_a_local_address() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let away = NewEndpoint { port: 8080, ..new("192.0.2.1", EndpointFlags::SIGNAL) };
        let error = mptcp.add_endpoint(&away).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EADDRNOTAVAIL), "{error}");
    });
}

#[test]
fn laminar_is_there_or_dropped_but_never_refused() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        let laminar = EndpointFlags::LAMINAR | EndpointFlags::SUBFLOW;
        mptcp.add_endpoint(&new("10.0.0.1", laminar)).await.unwrap();
        let flags = mptcp.endpoint(1).await.unwrap().flags;
        assert!(flags == laminar || flags == EndpointFlags::SUBFLOW, "{flags:?}");
    });
}

#[test]
fn limits_are_read_and_set_and_have_a_maximum() {
    namespace::run(|| async {
        let mut mptcp = Mptcp::open().await.unwrap();
        assert_eq!(mptcp.limits().await.unwrap(), Limits { subflows: 2, add_addr_accepted: 0 });
        let limits = Limits { subflows: 8, add_addr_accepted: 3 };
        mptcp.set_limits(limits).await.unwrap();
        assert_eq!(mptcp.limits().await.unwrap(), limits);
        let error = mptcp.set_limits(Limits { subflows: 999, add_addr_accepted: 0 }).await.unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(extack(&error).contains("limit"), "{error}");
        assert_eq!(mptcp.limits().await.unwrap().subflows, 8);
    });
}
