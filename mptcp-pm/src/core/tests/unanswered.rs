//! Where the kernel manages the paths, an uplink over which nobody answers has no endpoints until somebody does.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::kernel::Release;
use super::machine::{Machine, Move, configs};
use super::site;
use crate::core::action::Action;
use crate::core::alarm::{Alarm, Figures, Kind, Probe};
use crate::core::connections::Ends;
use crate::core::event::Event;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const RTT: Duration = Duration::from_millis(20);

fn address(slot: u8) -> IpAddr {
    [10, slot, 0, 2].into()
}

fn ends(slot: u8) -> Ends {
    Ends::new(SocketAddr::new(address(slot), 40_000), SocketAddr::new(PEER, 443))
}

/// `eth0` and `wlan0`, both with a subflow, and a peer that answers over both.
fn laptop(opened: bool) -> Machine {
    let mut machine = Machine::new(Release::V6_18, configs()[0].clone());
    (0..2).for_each(|slot| site::bring_up(&mut machine.kernel, slot));
    machine.settle();
    let read = |slot| Figures {
        token: 1,
        ends: ends(slot),
        opened,
        rtt: Some(RTT),
        least: Some(RTT),
        acked: 1,
        received: 0,
        backlogged: true,
    };
    [0, 1].map(read).into_iter().for_each(|figures| machine.feed(Event::Read(figures)));
    machine.feed(Event::Measured);
    pass(&mut machine, 100);
    machine
}

fn pass(machine: &mut Machine, millis: u64) {
    for _ in 0..millis / 10 {
        machine.step(&Move::Wait(10));
        machine.step(&Move::Run(20));
    }
}

fn answer(machine: &mut Machine, slot: u8) {
    let probe = Probe { local: address(slot), ifindex: u32::from(slot) + 2, remote: PEER };
    machine.feed(Event::Answered(probe, RTT));
}

fn falls_silent(machine: &mut Machine, slot: u8) {
    let deviation = Duration::from_millis(2);
    let alarm =
        Alarm { kind: Kind::Silent, token: 1, ends: ends(slot), silence: RTT * 3, rtt: RTT, deviation };
    machine.feed(Event::Alarm(alarm));
    pass(machine, 200);
}

/// How many endpoints each of both interfaces has.
fn endpoints(machine: &Machine) -> [usize; 2] {
    [2, 3].map(|index| machine.kernel.endpoints.iter().filter(|there| there.ifindex == Some(index)).count())
}

#[test]
fn an_uplink_over_which_nobody_answers_has_no_endpoints_until_somebody_does() {
    let mut machine = laptop(true);
    let asked = machine.log.iter().filter(|(_, action)| matches!(action, Action::Ask(_)));
    assert_eq!((asked.count(), endpoints(&machine)), (2, [2, 2]));
    (0..2).for_each(|slot| answer(&mut machine, slot));
    falls_silent(&mut machine, 0);
    assert_eq!(endpoints(&machine), [0, 2]);
    let rests = machine.core.report().uplinks[0].rests.clone();
    assert!(rests.is_some_and(|reason| reason.contains("do not answer")));
    // The last one stays, whatever becomes of it.
    falls_silent(&mut machine, 1);
    pass(&mut machine, 1000);
    assert!(endpoints(&machine)[1] == 2, "{:?}", endpoints(&machine));
    (0..2).for_each(|slot| answer(&mut machine, slot));
    pass(&mut machine, 1000);
    assert_eq!(endpoints(&machine), [2, 2]);
}

#[test]
fn a_client_that_goes_is_no_reason() {
    let mut machine = laptop(false);
    (0..2).for_each(|slot| falls_silent(&mut machine, slot));
    assert_eq!(endpoints(&machine), [2, 2]);
    assert!(!machine.log.iter().any(|(_, action)| matches!(action, Action::Ask(_))));
}
