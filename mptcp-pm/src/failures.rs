//! Tells from the path manager's events which subflows have failed.
use nix::errno::Errno;

use crate::core::event::Event;
use crate::netlink::mptcp::{Events, Notice};
use crate::netlink::mptcp_wire::event::{self, Kind};

/// A listener to the events.
#[derive(Debug)]
pub struct Failures {
    /// None where there are none: all else works without.
    events: Option<Events>,
}

/// In MP_TCPRST: another attempt may go better (RFC 8684, section 3.6).
const TRANSIENT: u32 = 1;

impl Failures {
    /// Listens from now on, in the network namespace of the calling thread.
    pub async fn listen() -> Self {
        let without = |error| tracing::warn!("subflows that fail will not be tried again: {error}");
        Self { events: Events::open().await.map_err(without).ok() }
    }

    /// The next failure. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        while let Some(events) = &mut self.events {
            match events.next().await {
                Ok(Notice::Event(event)) => {
                    if let Some(failure) = failure(&event) {
                        return failure;
                    }
                }
                // Whoever fails again will be heard.
                Ok(Notice::Lost) => tracing::warn!("events of the path manager were lost"),
                Err(error) => {
                    tracing::error!("subflows that fail are no longer tried again: {error}");
                    self.events = None;
                }
            }
        }
        std::future::pending().await
    }
}

/// The failure that an event tells of. Where a peer says no, by refusing or by a reset with a reason, nothing is wrong
/// with the way.
fn failure(event: &event::Event) -> Option<Event> {
    let error = event.error().filter(|_| event.kind == Kind::SubClosed)?;
    let asked_to_try = || event.reset_reason().is_none() || event.reset_flags() == Some(TRANSIENT);
    let of_the_way = match error {
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN | Errno::ETIMEDOUT => {
            true
        }
        Errno::ECONNRESET => asked_to_try(),
        _ => false,
    };
    let local = event.local_addr().filter(|_| of_the_way)?;
    Some(Event::SubflowFailed(local, error.desc().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::mptcp_wire::event::Attribute;

    fn told(kind: Kind, more: &[Attribute]) -> bool {
        let mut attributes = vec![Attribute::Token(7), Attribute::Saddr4([10, 1, 0, 2].into())];
        attributes.extend_from_slice(more);
        match failure(&event::Event { kind, attributes }) {
            Some(Event::SubflowFailed(addr, _)) => {
                assert_eq!(addr.to_string(), "10.1.0.2");
                true
            }
            other => {
                assert!(other.is_none(), "{other:?}");
                false
            }
        }
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
    }
}
