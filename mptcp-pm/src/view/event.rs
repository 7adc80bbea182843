//! An event of the path manager as `mptcp-pm monitor` shows it: one model, from which the JSON and the text are derived.
pub mod path;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::core::world::IfIndex;
use crate::netlink::mptcp_wire::event::{self, Flags, Kind};

/// What there is to say of events that were lost.
const LOST: &str = "some events: `mptcp-pm status` shows how things are now";

/// An event. Its JSON is what serde makes of it; fields are only ever added, and absent where the kernel says nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Event {
    /// When it was read, in seconds since 1970 (UTC), to the microsecond.
    pub time: f64,
    /// What has happened; a number where it has no name here.
    pub event: String,
    /// The connection, by its local token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<u32>,
    /// The local end; port 0 where none is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
    /// The remote end, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<SocketAddr>,
    /// The id of the local address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_id: Option<u8>,
    /// The id of the remote address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<u8>,
    /// Whether the peer asked for backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<bool>,
    /// The index of the interface that the subflow is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<IfIndex>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Why a subflow has ended, as in `ECONNREFUSED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The reason in the peer's MP_TCPRST (RFC 8684, section 3.6).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_reason: Option<u32>,
    /// This end has accepted the connection; told when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_side: Option<bool>,
    /// The peer refuses subflows to the address of the initial one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deny_join_id0: bool,
}

impl Event {
    /// What the kernel has told, at a time.
    pub fn new(event: &event::Event, at: SystemTime, name: impl Fn(IfIndex) -> Option<String>) -> Self {
        let begins = matches!(event.kind, Kind::Created | Kind::Established);
        Self {
            event: word(event.kind),
            token: event.token(),
            local: event.local(),
            remote: event.remote(),
            local_id: event.local_id(),
            remote_id: event.remote_id(),
            backup: event.backup(),
            ifindex: event.ifindex(),
            interface: event.ifindex().and_then(name),
            error: event.error().map(|errno| format!("{errno:?}")),
            reset_reason: event.reset_reason(),
            server_side: begins.then(|| event.flags().contains(Flags::SERVER_SIDE)),
            deny_join_id0: event.flags().contains(Flags::DENY_JOIN_ID0),
            ..Self::nameless(at)
        }
    }

    /// Events have been lost.
    pub fn lost(at: SystemTime) -> Self {
        Self { event: "lost".into(), ..Self::nameless(at) }
    }

    fn nameless(at: SystemTime) -> Self {
        Self { time: seconds(at), ..Self::default() }
    }

    /// The event as one line for people, without its end.
    pub fn text(&self) -> String {
        let mut line = head(self.time, &self.event);
        // Writing to a String cannot fail.
        if self.event == "lost" {
            line.push_str(LOST);
        }
        let _ = self.token.map(|token| write!(line, " {token:#010x}"));
        let ends = [self.local.map(end), self.remote.map(end)];
        match ends {
            [Some(local), Some(remote)] => line.push_str(&format!(" {local} > {remote}")),
            [one, other] => one.or(other).iter().for_each(|end| line.push_str(&format!(" {end}"))),
        }
        self.details().iter().for_each(|detail| {
            let _ = write!(line, " {detail}");
        });
        line.trim_end().to_owned()
    }

    fn details(&self) -> Vec<String> {
        let interface = self.interface.clone().or_else(|| self.ifindex.map(|index| format!("#{index}")));
        let details = [
            self.local_id.filter(|id| *id != 0).map(|id| format!("local id {id}")),
            self.remote_id.filter(|id| *id != 0).map(|id| format!("remote id {id}")),
            interface.map(|name| format!("on {name}")),
            (self.backup == Some(true)).then(|| "backup".into()),
            (self.server_side == Some(true)).then(|| "accepted".into()),
            self.deny_join_id0.then(|| "no joins to id 0".into()),
            self.error.clone(),
            self.reset_reason.map(|reason| format!("reset reason {reason}")),
        ];
        details.into_iter().flatten().collect()
    }
}

fn word(kind: Kind) -> String {
    let word = match kind {
        Kind::Created => "created",
        Kind::Established => "established",
        Kind::Closed => "closed",
        Kind::Announced => "announced",
        Kind::Removed => "removed",
        Kind::SubEstablished => "sub-established",
        Kind::SubClosed => "sub-closed",
        Kind::SubPriority => "sub-priority",
        Kind::ListenerCreated => "listener-created",
        Kind::ListenerClosed => "listener-closed",
        Kind::Other(number) => return number.to_string(),
    };
    word.into()
}

/// Whole microseconds: a double holds no more of the present.
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as f64 / 1e6
}

/// How every line begins.
fn head(seconds: f64, event: &str) -> String {
    format!("{} {:<16}", time_of_day(seconds), event.replace('-', " "))
}

fn end(end: SocketAddr) -> String {
    if end.port() == 0 { end.ip().to_string() } else { end.to_string() }
}

/// UTC, to the millisecond.
fn time_of_day(seconds: f64) -> String {
    let time = Duration::from_secs_f64(seconds.max(0.0));
    let of_day = time.as_secs() % 86_400;
    let (hours, minutes) = (of_day / 3600, of_day / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", of_day % 60, time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::mptcp_wire::event::{Attribute, BigEndian};
    use serde_json::json;

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(1_763_695_016_123_456)
    }

    fn event(kind: Kind, attributes: &[Attribute]) -> Event {
        let name = |index| (index == 2).then(|| "wan0".to_owned());
        Event::new(&event::Event { kind, attributes: attributes.to_vec() }, at(), name)
    }

    #[test]
    fn an_event_is_a_line_and_an_object() {
        let event = event(
            Kind::SubClosed,
            &[
                Attribute::Token(0x1234),
                Attribute::LocId(1),
                Attribute::RemId(0),
                Attribute::Saddr4([192, 0, 2, 1].into()),
                Attribute::Sport(BigEndian(4000)),
                Attribute::Daddr4([192, 0, 2, 9].into()),
                Attribute::Dport(BigEndian(443)),
                Attribute::Backup(1),
                Attribute::Error(111),
                Attribute::IfIndex(2),
            ],
        );
        let line = "03:16:56.123Z sub closed       0x00001234 192.0.2.1:4000 > 192.0.2.9:443 \
                    local id 1 on wan0 backup ECONNREFUSED";
        assert_eq!(event.text(), line);
        let object = json!({"time": 1_763_695_016.123_456, "event": "sub-closed", "token": 0x1234,
            "local": "192.0.2.1:4000", "remote": "192.0.2.9:443", "local_id": 1, "remote_id": 0,
            "backup": true, "ifindex": 2, "interface": "wan0", "error": "ECONNREFUSED"});
        assert_eq!(serde_json::to_value(&event).expect("serializes"), object);
    }

    #[test]
    fn what_is_not_told_is_left_out() {
        let announced = event(
            Kind::Announced,
            &[Attribute::Token(5), Attribute::RemId(3), Attribute::Daddr6([0; 16].into())],
        );
        assert_eq!(announced.text(), "03:16:56.123Z announced        0x00000005 :: remote id 3");
        assert_eq!(event(Kind::Other(99), &[]).text(), "03:16:56.123Z 99");
        let created = event(Kind::Created, &[Attribute::Flags(3)]);
        assert_eq!((created.server_side, created.deny_join_id0), (Some(true), true));
        let lost = Event::lost(at());
        assert!(lost.text().starts_with("03:16:56.123Z lost            some events"), "{}", lost.text());
        assert_eq!(serde_json::to_value(&lost).expect("serializes")["event"], "lost");
    }
}
