//! What NetworkManager's dispatcher tells goes to the daemon, at once and without a wait.
use anyhow::Result;

use super::args::HookArgs;
use crate::control::client::Error;
use crate::control::{Client, Request, Vpn};

/// Tells the daemon; where there is none, nobody.
pub(super) fn run(args: HookArgs) -> Result<()> {
    let request = request(&args);
    match Client::connect(&args.daemon.path()) {
        Err(Error::NoDaemon(_)) => Ok(()),
        connected => Ok(connected?.request(&request).map(drop)?),
    }
}

fn request(args: &HookArgs) -> Request {
    let up = match args.action.as_str() {
        "vpn-up" | "vpn-pre-up" => Some(true),
        "vpn-down" => Some(false),
        _ => None,
    };
    // The dispatcher names the VPN's interface first where it knows it.
    let named = [args.vpn.as_deref().unwrap_or_default(), &args.interface];
    let interface = named.into_iter().find(|name| !name.is_empty() && *name != "none");
    let vpn = up.zip(interface).map(|(up, name)| Vpn { interface: name.to_owned(), up });
    Request::Hook { vpn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::SocketArgs;

    fn asked(interface: &str, action: &str, vpn: Option<&str>) -> Option<(String, bool)> {
        let args = HookArgs {
            interface: interface.into(),
            action: action.into(),
            vpn: vpn.map(str::to_owned),
            daemon: SocketArgs { socket: Some("/nowhere".into()) },
        };
        let Request::Hook { vpn } = request(&args) else { panic!("another request") };
        vpn.map(|vpn| (vpn.interface, vpn.up))
    }

    #[test]
    fn only_vpns_are_named() {
        assert_eq!(asked("wlan0", "up", None), None);
        assert_eq!(asked("", "connectivity-change", None), None);
        assert_eq!(asked("wlan0", "vpn-up", Some("ppp0")), Some(("ppp0".into(), true)));
        assert_eq!(asked("tun0", "vpn-down", Some("")), Some(("tun0".into(), false)));
    }

    #[test]
    fn without_a_daemon_nothing_is_wrong() {
        let daemon = SocketArgs { socket: Some("/nowhere/control".into()) };
        let args = HookArgs { interface: "wlan0".into(), action: "up".into(), vpn: None, daemon };
        run(args).expect("nothing to do");
    }
}
