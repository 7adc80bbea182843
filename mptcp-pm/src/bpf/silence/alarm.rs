//! What the ring buffer of `silence` tells.
use std::net::SocketAddr;
use std::time::Duration;

use mptcp_common::silence::{Report, Subflow};
use zerocopy::FromBytes;

use crate::stats::ends;

pub use mptcp_common::silence::Kind;

/// One thing that was noticed of a subflow, told once in each of its silences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What.
    pub kind: Kind,
    /// Of [`Kind::Heard`] the gravest that was told before.
    pub after: Option<Kind>,
    /// The socket's cookie: no other socket gets the same before the machine starts again.
    pub cookie: u64,
    /// The local token of its connection.
    pub token: u32,
    /// Its local end.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// The interface that it is bound to, or else last received by; 0 for not known.
    pub ifindex: u32,
    /// For how long nothing has come though something was on its way; with [`Kind::Quiet`], since something came; with
    /// [`Kind::Heard`], how long the silence had lasted.
    pub silent: Duration,
    /// The smoothed round-trip time; zero while there is none.
    pub rtt: Duration,
    /// Its mean deviation.
    pub deviation: Duration,
    /// Segments on their way. One alone may have been lost by chance.
    pub in_flight: u32,
    /// When it was noticed, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

impl Alarm {
    /// Reads a record: a kind, and what is told with it.
    pub fn parse(record: &[u8]) -> Option<Self> {
        let (kind, body) = u64::read_from_prefix(record).ok()?;
        let kind = Kind::numbered(kind)?;
        let report = Report::read_from_bytes(body).ok()?;
        let Subflow { cookie, local, remote, token, ifindex, local_port, remote_port, family, .. } =
            report.subflow;
        Some(Self {
            kind,
            after: Kind::numbered(report.after),
            cookie,
            token,
            local: ends::address(family, local, local_port),
            remote: ends::address(family, remote, remote_port),
            ifindex: if ifindex == 0 { report.received_by } else { ifindex },
            silent: Duration::from_nanos(report.silent_ns),
            rtt: Duration::from_micros(report.rtt_us.into()),
            deviation: Duration::from_micros(report.deviation_us.into()),
            in_flight: report.in_flight,
            at_ns: report.at_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: [u8; size_of::<Report>()] = [2; size_of::<Report>()];

    fn record(kind: u64, body: &[u8]) -> Vec<u8> {
        [&kind.to_ne_bytes(), body].concat()
    }

    #[test]
    fn each_kind_has_a_report() {
        for kind in Kind::ALL {
            let alarm = Alarm::parse(&record(kind as u64, &BODY)).unwrap();
            assert_eq!((alarm.kind, alarm.token, alarm.ifindex), (kind, 0x0202_0202, 0x0202_0202));
            assert_eq!(alarm.rtt, Duration::from_micros(0x0202_0202));
        }
    }

    #[test]
    fn the_ends_are_those_of_the_family() {
        let mut report = vec![0; size_of::<Report>()];
        report[8..12].copy_from_slice(&[10, 1, 0, 2]);
        report[48..50].copy_from_slice(&40000u16.to_ne_bytes());
        report[52..54].copy_from_slice(&2u16.to_ne_bytes());
        let alarm = Alarm::parse(&record(3, &report)).unwrap();
        assert_eq!(alarm.local, "10.1.0.2:40000".parse().unwrap());
        assert_eq!(alarm.remote, "0.0.0.0:0".parse().unwrap());
        assert_eq!(alarm.after, None);
        report[52..54].copy_from_slice(&10u16.to_ne_bytes());
        let alarm = Alarm::parse(&record(3, &report)).unwrap();
        assert_eq!(alarm.local, "[a01:2::]:40000".parse().unwrap());
    }

    #[test]
    fn what_is_too_short_too_long_or_unknown_is_refused() {
        assert_eq!(Alarm::parse(&[]), None);
        assert_eq!(Alarm::parse(&record(1, &BODY[1..])), None);
        assert_eq!(Alarm::parse(&record(1, &[BODY.as_slice(), &[0]].concat())), None);
        assert_eq!(Alarm::parse(&record(0, &BODY)), None);
        assert_eq!(Alarm::parse(&record(5, &BODY)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Alarm::parse(&bytes);
        }
    }
}
