//! Ways that rest: no new subflow there while a connection lives elsewhere, and what is held back is closed then.
use super::*;
use crate::core::connections::Ends;
use crate::core::health::Health;
use crate::core::steering::Lessons;

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);

fn address(way: u8) -> IpAddr {
    [10, way, 0, 2].into()
}

fn ends(way: u8) -> Ends {
    Ends::new(SocketAddr::new(address(way), 40000 + u16::from(way)), SERVER)
}

/// Two ways, the second of which rests, or is even held back.
fn aims(held: bool) -> Aims {
    let way = |(way, flags)| NewEndpoint { addr: address(way), ifindex: u32::from(way) + 2, flags };
    let flags = [EndpointFlags::SUBFLOW, EndpointFlags::SUBFLOW | EndpointFlags::BACKUP];
    Aims {
        ways: (0..2).zip(flags).map(way).collect(),
        resting: BTreeMap::from([(address(1), held)]),
        ..Aims::default()
    }
}

/// A connection with established subflows on these ways; it began on the first of them.
fn connection(ways: &[u8]) -> Connection {
    let mut connection = Connection::new(ends(ways[0]), false);
    connection.service = Service::Handover;
    connection.established = true;
    connection.subflows[0].established = true;
    connection.subflows.extend(ways[1..].iter().map(|way| Subflow::new(ends(*way), way + 1, true, true)));
    connection
}

fn next_of(connection: &mut Connection, aims: &Aims) -> Next {
    let health = Health::default();
    next(
        1,
        connection,
        &Surroundings { aims, health: &health, lessons: &Lessons::default(), now: Duration::ZERO },
    )
}

#[test]
fn no_subflow_is_made_on_a_way_that_rests() {
    for held in [false, true] {
        assert_eq!(next_of(&mut connection(&[0]), &aims(held)), Next::Nothing);
    }
    let awake = Aims { resting: BTreeMap::new(), ..aims(false) };
    let step = next_of(&mut connection(&[0]), &awake);
    assert!(matches!(&step, Next::Now(Step::Create(new)) if new.local == address(1) && new.backup));
}

#[test]
fn what_is_held_back_is_closed_and_what_rests_stays() {
    let mut both = connection(&[0, 1]);
    assert_eq!(next_of(&mut both, &aims(false)), Next::Nothing);
    let step = next_of(&mut both, &aims(true));
    assert!(matches!(&step, Next::Now(Step::Destroy(closed, _)) if *closed == ends(1)), "{step:?}");
}

#[test]
fn a_connection_that_has_nothing_else_keeps_what_is_held_back() {
    let mut alone = connection(&[1]);
    let step = next_of(&mut alone, &aims(true));
    assert!(matches!(&step, Next::Now(Step::Create(new)) if new.local == address(0)), "{step:?}");
    // The best way is not there, or refuses.
    let only = Aims { ways: aims(true).ways.split_off(1), ..aims(true) };
    assert_eq!(next_of(&mut connection(&[1]), &only), Next::Nothing);
}

#[test]
fn a_silent_way_wakes_what_is_held_back() {
    let mut connection = connection(&[0]);
    connection.steering.silent(ends(0), true);
    let step = next_of(&mut connection, &aims(true));
    assert!(matches!(&step, Next::Now(Step::Create(new)) if new.local == address(1)), "{step:?}");
}
