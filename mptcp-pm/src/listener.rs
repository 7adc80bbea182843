//! Tells from the path manager's events what happens to connections.
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::errno::Errno;
use tokio::time::Instant;

use crate::clock::sleep_until;

use crate::core::connections::{Ends, Loss, Notice, Token};
use crate::core::event::Event;
use crate::netlink::mptcp::{self, Events};
use crate::netlink::mptcp_wire::event::{self, Flags, Kind};
use crate::netlink::transport::Fault;

/// A listener to the events.
#[derive(Debug)]
pub struct Listener {
    /// None while there are none: all else works without.
    events: Option<Events>,
    /// When to try again to hear them; never where the kernel has none.
    again: Option<Instant>,
    /// How often in a row that has failed.
    failures: u32,
}

/// In MP_TCPRST: another attempt may go better (RFC 8684, section 3.6).
const TRANSIENT: u32 = 1;

/// The second pause after a failure, there being none after the first; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// So often the pause is doubled.
const DOUBLINGS: u32 = 6;

impl Listener {
    /// Listens from now on, in the network namespace of the calling thread.
    pub async fn listen() -> Self {
        let mut listener = Self { events: None, again: None, failures: 0 };
        listener.open().await;
        listener
    }

    /// Whether there is anything to hear.
    pub const fn hears(&self) -> bool {
        self.events.is_some()
    }

    /// What happens next. Dropping the future loses nothing. Where the kernel manages the connections, only `failures`
    /// of ways are of interest: nothing else wakes the daemon then.
    pub async fn next(&mut self, failures: bool) -> Event {
        loop {
            let Some(events) = &mut self.events else {
                sleep_until(self.again).await;
                self.open().await;
                return Event::Hearing(self.hears());
            };
            match events.next().await {
                Ok(mptcp::Notice::Event(event)) => {
                    tracing::debug!(?event, "path manager");
                    self.failures = 0;
                    if let Some((token, notice)) = notice(&event)
                        && (!failures || is_failure(&notice))
                    {
                        return Event::Connection(token, notice);
                    }
                }
                Ok(mptcp::Notice::Lost) => {
                    tracing::warn!("events of the path manager were lost");
                    return Event::ConnectionsLost;
                }
                Err(error) if matches!(error.fault, Fault::Malformed(_)) => {
                    tracing::warn!("{error}");
                    return Event::ConnectionsLost;
                }
                Err(error) => {
                    tracing::error!("what happens to connections is not heard: {error}");
                    self.events = None;
                    self.pause();
                    // One that another socket mends at once is told when that is there.
                    if self.failures > 1 {
                        return Event::Hearing(false);
                    }
                }
            }
        }
    }

    async fn open(&mut self) {
        match Events::open().await {
            Ok(events) => self.events = Some(events),
            Err(error) => {
                tracing::warn!("what happens to connections cannot be heard: {error}");
                self.again = None;
                if !matches!(error.fault, Fault::Unsupported(_)) {
                    self.failures = self.failures.max(1);
                    self.pause();
                }
            }
        }
    }

    /// A socket that fails again and again is not opened in haste.
    fn pause(&mut self) {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => PAUSE * 2_u32.pow(failures.min(DOUBLINGS) - 1),
        };
        self.failures += 1;
        self.again = Some(Instant::now() + pause);
    }

    /// What has happened already, without waiting.
    pub fn waiting(&mut self, failures: bool) -> Option<Event> {
        self.next(failures).now_or_never()
    }
}

/// What an event means for a connection; none where that is nothing.
fn notice(event: &event::Event) -> Option<(Token, Notice)> {
    let token = event.token()?;
    let notice = match event.kind {
        Kind::Created | Kind::Established => {
            let flags = event.flags();
            Notice::Begun {
                ends: ends(event)?,
                server_side: flags.contains(Flags::SERVER_SIDE),
                deny_join_id0: flags.contains(Flags::DENY_JOIN_ID0),
                established: event.kind == Kind::Established,
            }
        }
        Kind::Closed => Notice::Closed,
        Kind::SubEstablished => {
            Notice::SubflowEstablished { ends: ends(event)?, local_id: event.local_id().unwrap_or(0) }
        }
        Kind::SubClosed => Notice::SubflowClosed(ends(event)?, loss(event)),
        Kind::Announced => {
            let port = event.remote_port().unwrap_or(0);
            Notice::Announced(event.remote_id()?, SocketAddr::new(event.remote_addr()?, port))
        }
        Kind::Removed => Notice::Withdrawn(event.remote_id()?),
        // What the peer wants of a subflow is for those who measure paths.
        Kind::SubPriority | Kind::ListenerCreated | Kind::ListenerClosed | Kind::Other(_) => return None,
    };
    Some((token, notice))
}

fn ends(event: &event::Event) -> Option<Ends> {
    Some(Ends::new(event.local()?, event.remote()?))
}

fn is_failure(notice: &Notice) -> bool {
    matches!(notice, Notice::SubflowClosed(_, Some(loss)) if loss.of_the_way)
}

/// Why a subflow has ended. Where a peer says no, by refusing or by a reset with a reason, nothing is wrong with the way.
/// One without (0) is also what becomes of a subflow that was made while the peer was still to hear that its address had
/// been withdrawn before.
fn loss(event: &event::Event) -> Option<Loss> {
    let error = event.error()?;
    let asked_to_try =
        || event.reset_reason().is_none_or(|reason| reason == 0) || event.reset_flags() == Some(TRANSIENT);
    let of_the_way = match error {
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN | Errno::ETIMEDOUT => {
            true
        }
        Errno::ECONNRESET | Errno::EPIPE => asked_to_try(),
        _ => false,
    };
    Some(Loss { reason: error.desc().to_lowercase(), of_the_way })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::mptcp_wire::event::{Attribute, BigEndian};

    fn event(kind: Kind, more: &[Attribute]) -> event::Event {
        let mut attributes = vec![
            Attribute::Token(7),
            Attribute::Saddr4([10, 1, 0, 2].into()),
            Attribute::Daddr4([10, 9, 0, 2].into()),
            Attribute::Sport(BigEndian(40000)),
            Attribute::Dport(BigEndian(443)),
        ];
        attributes.extend_from_slice(more);
        event::Event { kind, attributes }
    }

    fn told(kind: Kind, more: &[Attribute]) -> bool {
        let (token, notice) = notice(&event(kind, more)).expect("means something");
        assert_eq!(token, 7);
        is_failure(&notice)
    }

    #[test]
    fn the_way_failed_or_the_peer_said_no() {
        let error = |errno: Errno| Attribute::Error(u8::try_from(errno as i32).unwrap());
        assert!(told(Kind::SubClosed, &[error(Errno::EHOSTUNREACH)]));
        assert!(told(Kind::SubClosed, &[error(Errno::ETIMEDOUT)]));
        assert!(!told(Kind::SubClosed, &[]));
        assert!(!told(Kind::SubEstablished, &[error(Errno::EHOSTUNREACH)]));
        assert!(!told(Kind::SubClosed, &[error(Errno::ECONNREFUSED)]));
        let reset = error(Errno::ECONNRESET);
        let with =
            |reason, flags| [reset.clone(), Attribute::ResetReason(reason), Attribute::ResetFlags(flags)];
        assert!(told(Kind::SubClosed, std::slice::from_ref(&reset)));
        assert!(!told(Kind::SubClosed, &with(3, 0)));
        assert!(told(Kind::SubClosed, &with(2, TRANSIENT)));
        assert!(told(Kind::SubClosed, &with(0, 0)));
    }

    #[test]
    fn a_beginning_says_who_began_and_what_the_peer_refuses() {
        let begun = |kind, more: &[Attribute]| match notice(&event(kind, more)) {
            Some((_, Notice::Begun { server_side, deny_join_id0, established, ends })) => {
                assert_eq!(ends.local().to_string(), "10.1.0.2:40000");
                (server_side, deny_join_id0, established)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(begun(Kind::Created, &[]), (false, false, false));
        assert_eq!(begun(Kind::Established, &[Attribute::Flags(1)]), (false, true, true));
        assert_eq!(begun(Kind::Established, &[Attribute::ServerSide(1)]), (true, false, true));
    }

    #[test]
    fn an_announced_address_may_have_a_port() {
        let told = event::Event {
            kind: Kind::Announced,
            attributes: vec![
                Attribute::Token(7),
                Attribute::RemId(3),
                Attribute::Daddr4([10, 9, 0, 3].into()),
            ],
        };
        let announced = Notice::Announced(3, ([10, 9, 0, 3], 0).into());
        assert_eq!(notice(&told), Some((7, announced)));
    }
}
