//! The words of the control socket, and who may say them.
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::service::Service;

/// The longest line of a request, in bytes with its end.
pub const MAX_REQUEST: usize = 64 * 1024;

/// What a client asks for. (Braces, so that unknown fields are refused.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Is the daemon's loop alive?
    Ping {},
    /// What the daemon knows: uplinks, endpoints, connections.
    Status {},
    /// What uplinks and providers deliver, as a scrape shows it.
    Metrics {},
    /// Read the configuration again.
    Reload {},
    /// Give a living connection a service type by hand; `null` leaves it to the rules again.
    Service {
        /// The connection's local token.
        token: u32,
        /// The service type.
        service: Option<Service>,
    },
    /// Which service type has a living connection, and who has decided it?
    ServiceOf {
        /// The connection's local token.
        token: u32,
    },
    /// NetworkManager's dispatcher says that something has happened: look at what the kernel does not report.
    Hook {
        /// An interface that is a VPN's, whatever its kind, or no longer is.
        #[serde(default)]
        vpn: Option<Vpn>,
    },
    /// Tell from now on what happens to paths; the last request of its connection.
    Monitor {},
}

impl Request {
    /// Whether it changes something, which only root may.
    pub const fn changes(&self) -> bool {
        match self {
            Self::Ping {}
            | Self::Status {}
            | Self::Metrics {}
            | Self::Monitor {}
            | Self::ServiceOf { .. } => false,
            Self::Reload {} | Self::Service { .. } | Self::Hook { .. } => true,
        }
    }

    /// Understands one line.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    pub fn parse(line: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(line).map_err(|error| {
            Failure::new(format!("not a request: {error}"), "send one line like {\"request\":\"status\"}")
        })
    }
}

/// What the dispatcher says of a VPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpn {
    /// Its interface.
    pub interface: String,
    /// Whether it is there.
    pub up: bool,
}

/// Who is at the other end of the socket, by the kernel's word (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The process, where the kernel can name it in our namespace.
    pub pid: Option<i32>,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Reply {
    /// It is done, and this is the result.
    Ok(Value),
    /// It is not done.
    Error(Failure),
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}: {remedy}")]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_replies_are_as_documented() {
        let requests = [
            Request::Ping {},
            Request::Status {},
            Request::Metrics {},
            Request::Reload {},
            Request::Monitor {},
        ];
        let lines = requests.clone().map(|request| serde_json::to_string(&request).expect("serializes"));
        let words = ["ping", "status", "metrics", "reload", "monitor"];
        assert_eq!(lines, words.map(|word| format!("{{\"request\":\"{word}\"}}")));
        assert_eq!(lines.map(|line| Request::parse(line.as_bytes()).expect("parses")), requests);
        let hook = Request::Hook { vpn: Some(Vpn { interface: "ppp0".to_owned(), up: true }) };
        let line = "{\"request\":\"hook\",\"vpn\":{\"interface\":\"ppp0\",\"up\":true}}";
        assert_eq!(serde_json::to_string(&hook).expect("serializes"), line);
        let line = b"{\"request\":\"hook\"}";
        assert_eq!(Request::parse(line).expect("parses"), Request::Hook { vpn: None });
        let reply = Reply::Error(Failure::new("no", "yes"));
        let line = serde_json::to_string(&reply).expect("serializes");
        assert_eq!(line, "{\"error\":{\"message\":\"no\",\"remedy\":\"yes\"}}");
        assert_eq!(serde_json::to_string(&Reply::Ok(1.into())).expect("serializes"), "{\"ok\":1}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for line in
            ["", "{}", "[]", "{\"request\":\"stop\"}", "{\"request\":\"ping\",\"x\":1}", "{\"request\":1}"]
        {
            assert!(Request::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let line = "{\"request\":".to_owned() + &"[".repeat(MAX_REQUEST - 20);
        assert!(Request::parse(line.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&line);
        }
    }
}
