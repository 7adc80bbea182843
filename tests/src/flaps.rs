//! Uplinks of the scenario `two-providers` that come and go.
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::{Host, Rng};

/// The client's uplinks: interface, address, and its default route as it is when all is well.
const UPLINKS: [(&str, &str, &str); 2] = [
    ("wifi0", "10.1.0.2/24", "default via 10.1.0.1 dev wifi0 proto dhcp metric 600"),
    ("lte0", "10.2.0.2/24", "default via 10.2.0.1 dev lte0 proto dhcp metric 700"),
];

/// Takes the client's Wi-Fi or mobile access away and gives it back, in one of several ways; how long it is away is random.
///
/// # Errors
/// When `ip` fails.
pub fn flap(client: &Host, rng: &mut Rng, longest: Duration) -> Result<()> {
    let (interface, address, route) = UPLINKS[usize::from(rng.bits().is_multiple_of(2))];
    let (away, back) = match rng.bits() % 3 {
        0 => (format!("link set {interface} down"), format!("link set {interface} up")),
        1 => (
            format!("address del {address} dev {interface}"),
            format!("address add {address} dev {interface}"),
        ),
        _ => (format!("route del {route}"), format!("route replace {route}")),
    };
    client.ip_batch(&[], &[away])?;
    let longest = u64::try_from(longest.as_micros())?.max(1);
    thread::sleep(Duration::from_micros(rng.bits() % longest));
    client.ip_batch(&[], &[back, format!("route replace {route}")])
}
