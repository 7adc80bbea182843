//! Single values of the command line: tokens, addresses with and without port.
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::core::service::Service;

/// How an endpoint is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its id, 1 to 255.
    Id(u8),
    /// By its address.
    Addr(IpAddr),
}

/// The token of a connection, decimal or hexadecimal with `0x`.
pub(super) fn token(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("{error}: write a number below 2^32, like 305419896 or 0x12345678"))
}

/// An endpoint by its id or its address.
pub(super) fn target(text: &str) -> Result<Target, String> {
    match (text.parse(), text.parse()) {
        (Ok(0), _) => Err("id 0 is no endpoint: name one from 1 to 255, or an address".into()),
        (Ok(id), _) => Ok(Target::Id(id)),
        (_, Ok(addr)) => Ok(Target::Addr(addr)),
        _ => Err("neither an id nor an address: write 1 to 255, 192.0.2.1 or 2001:db8::1".into()),
    }
}

/// An address with a port.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok(socket),
        Ok(_) => Err("port 0 is none: write 1 to 65535".into()),
        Err(_) => Err("no address with port: write 192.0.2.1:443 or [2001:db8::1]:443".into()),
    }
}

/// An address, with a port or with port 0 for none.
pub(super) fn address_or_socket(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(addr) => Ok(SocketAddr::new(addr, 0)),
        Err(_) => socket(text).map_err(|error| format!("{error}, or only an address")),
    }
}

/// A time between two looks, in seconds.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("no number from 0.1 to 3600: write seconds, like 1 or 0.5".into()),
    }
}

/// The name of a service type.
pub(super) fn service_type() -> impl TypedValueParser<Value = Service> {
    let named = |name: String| Service::ALL.into_iter().find(|service| service.name() == name);
    PossibleValuesParser::new(Service::ALL.map(Service::name)).try_map(move |name| {
        // The names are the possible values.
        named(name).ok_or("no service type")
    })
}

/// The name of a service of systemd's (systemd.unit(5)), with the ending that may be left out.
pub(super) fn systemd_service(text: &str) -> Result<String, String> {
    const MOST: usize = 255;
    const OTHERS: [&str; 9] =
        [".socket", ".target", ".timer", ".mount", ".automount", ".swap", ".path", ".slice", ".scope"];
    if OTHERS.iter().any(|ending| text.ends_with(ending)) {
        return Err("only services can be put into a slice here: name one, as in ssh.service".to_owned());
    }
    let name = if text.ends_with(".service") { text.to_owned() } else { format!("{text}.service") };
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter);
    let stem = name.trim_end_matches(".service");
    if stem.is_empty() || name.len() > MOST || stem.starts_with('.') || !name.chars().all(is_allowed) {
        return Err("no name of a service: write it as systemd does, for example ssh.service".to_owned());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::Step;

    #[test]
    fn tokens_are_decimal_or_hexadecimal() {
        assert_eq!(token("305419896"), Ok(0x1234_5678));
        assert_eq!(token("0x12345678"), Ok(0x1234_5678));
        assert_eq!(token("0xffffffff"), Ok(u32::MAX));
        for wrong in ["", "0x", "4294967296", "0x100000000", "-1", "12ab"] {
            assert!(token(wrong).is_err(), "{wrong}");
        }
    }

    /// What is copied from a finding names the connection that it is about, also where the token has no letters.
    #[test]
    fn tokens_are_read_as_they_are_written() {
        for number in [0x1234_5678, 0x0234_abcd] {
            let way = [192, 0, 2, 1].into();
            let finding = Step::creation(number, way, (way, 443).into()).to_string();
            assert_eq!(token(finding.rsplit(' ').next().expect("a word")), Ok(number), "{finding}");
        }
    }

    #[test]
    fn an_endpoint_is_named_by_id_or_address() {
        assert_eq!(target("255"), Ok(Target::Id(255)));
        assert_eq!(target("2001:db8::1"), Ok(Target::Addr("2001:db8::1".parse().expect("parses"))));
        for wrong in ["0", "256", "-1", "wlan0", "192.0.2"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_required_where_one_is_needed() {
        assert_eq!(socket("[2001:db8::1]:443").map(|socket| socket.port()), Ok(443));
        for wrong in ["192.0.2.1", "192.0.2.1:0", "2001:db8::1:443", "example.org:443", "192.0.2.1:65536"] {
            assert!(socket(wrong).is_err(), "{wrong}");
        }
        assert_eq!(address_or_socket("2001:db8::1").map(|socket| socket.port()), Ok(0));
        assert_eq!(address_or_socket("192.0.2.1:5").map(|socket| socket.port()), Ok(5));
        assert!(address_or_socket("192.0.2.1:0").is_err());
    }
}
