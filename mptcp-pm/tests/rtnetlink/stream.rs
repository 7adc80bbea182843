//! Losses, dumps and dropped futures.
use std::{
    io,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use mptcp_pm::{
    core::world::Change,
    netlink::{
        transport::{Between, come_between, step_aside},
        uevent::Uevents,
        watch::{Notice, Watch},
    },
};
use netlink_sys::TokioSocket;

use crate::harness::*;

#[test]
fn a_storm_is_lost_and_then_read_again() {
    in_namespace(|| async {
        cable();
        let mut observer = Observer::start().await;
        let before = observer.watch.receive_buffer().unwrap();
        let storm = |verb: &str| {
            let line = |i: u32| format!("route {verb} 100.64.{}.{}/32 via 10.7.0.1\n", i / 256, i % 256);
            ip_batch(&(0..3000).map(line).collect::<String>());
        };
        // All are removed while nobody reads: what was told of the first ones is wrong afterwards.
        storm("add");
        storm("del");
        let mut notices = 0;
        while observer.next().await != Notice::Lost {
            notices += 1;
            assert!(notices < 6000, "nothing was lost");
        }
        observer.world = observer.watch.snapshot().await.unwrap();
        assert_eq!(observer.watch.receive_buffer().unwrap(), 2 * before);
        assert!(observer.world.routes.len() < 100);
        observer.agrees().await;
        ip("route add default via 10.7.0.1");
        let changes = observer.all().await;
        assert!(changes.iter().any(|c| matches!(c, Change::Route(r) if r.is_default())), "{changes:?}");
        observer.agrees().await;
    });
}

#[test]
fn nothing_is_lost_around_a_snapshot_nor_by_dropped_futures() {
    in_namespace(|| async {
        let east = cable();
        let mut watch = Watch::open().unwrap();
        assert_eq!(watch.next().await, Notice::Lost);
        ip("route add default via 10.7.0.1");
        let world = watch.snapshot().await.unwrap();
        let default = route("0.0.0.0/0", vec![hop(east, "10.7.0.1")]);
        assert!(world.routes.contains(&default));
        let mut observer = Observer { watch, world };
        assert_eq!(observer.all().await, []);

        // A snapshot that is given up half way is owned up to.
        come_between(|| Box::new(Silence));
        assert!(observer.watch.snapshot().now_or_never().is_none());
        step_aside();
        assert_eq!(observer.watch.next().await, Notice::Lost);
        observer.watch.snapshot().await.unwrap();

        // A notice is awaited many times in vain, and then comes.
        for _ in 0..100 {
            assert_eq!(observer.watch.next().now_or_never(), None);
        }
        ip("route add 192.0.2.0/24 via 10.7.0.1");
        let mut changes = Vec::new();
        while changes.is_empty() {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                notice = observer.watch.next() => changes.push(notice),
            }
        }
        let added = route("192.0.2.0/24", vec![hop(east, "10.7.0.1")]);
        assert_eq!(changes, [Notice::Change(Change::Route(added))]);
    });
}

#[test]
fn a_loss_of_uevents_is_told_when_nothing_waits_any_more() {
    in_namespace(|| async {
        let mut uevents = Uevents::listen().unwrap();
        let line = |i: u32| format!("link add v{i} type veth peer name w{i}\n");
        ip_batch(&(0..300).map(line).collect::<String>());
        // It has no such devices: what is told is the loss.
        uevents.next("power_supply").await.unwrap();
        // While something waits the kernel tells nothing new.
        assert!(uevents.next("net").now_or_never().is_none());
        ip("link add last type veth peer name least");
        uevents.next("net").await.unwrap();
    });
}

/// A kernel that does not answer.
struct Silence;

impl Between for Silence {
    fn send(&mut self, _: &TokioSocket, _: &[u8]) -> Option<io::Result<()>> {
        None
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, _: &TokioSocket) -> Poll<io::Result<(Vec<u8>, u32)>> {
        Poll::Pending
    }
}
