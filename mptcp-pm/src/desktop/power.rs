//! Whether the machine runs on its battery, by the kernel's word (Documentation/ABI/testing/sysfs-class-power): for
//! machines without UPower.
use std::fs;
use std::path::Path;

use tokio::sync::watch;

use crate::netlink::uevent::Uevents;

const FOLDER: &str = "/sys/class/power_supply";

/// Follows it for ever; the kernel tells when something happens to a power supply.
pub async fn follow(tell: watch::Sender<Option<bool>>) {
    // Before it is read: what happens in between is not missed.
    let events = Uevents::listen();
    say(&tell);
    let Ok(mut events) = events else { return };
    while events.next("power_supply").await.is_ok() {
        say(&tell);
    }
}

fn say(tell: &watch::Sender<Option<bool>>) {
    let now = on_battery(Path::new(FOLDER));
    tell.send_if_modified(|known| std::mem::replace(known, now) != now);
}

/// None for a machine without a battery of its own.
fn on_battery(folder: &Path) -> Option<bool> {
    let supplies: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    let says = |supply: &Path, what: &str| {
        fs::read_to_string(supply.join(what)).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    // A mouse's battery says scope "Device".
    let own = supplies.iter().filter(|supply| says(supply, "scope") != "Device");
    let (batteries, mains): (Vec<_>, Vec<_>) = own.partition(|supply| says(supply, "type") == "Battery");
    if batteries.is_empty() {
        return None;
    }
    let plugged = mains.iter().any(|supply| says(supply, "online") == "1");
    Some(!plugged && batteries.iter().any(|battery| says(battery, "status") == "Discharging"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_battery_of_the_machine_that_runs_empty_counts() {
        let supplies = |list: &[(&str, &[(&str, &str)])]| {
            let dir = tempfile::tempdir().unwrap();
            for (name, files) in list {
                fs::create_dir(dir.path().join(name)).unwrap();
                for (file, text) in *files {
                    fs::write(dir.path().join(name).join(file), format!("{text}\n")).unwrap();
                }
            }
            on_battery(dir.path())
        };
        let mouse: (&str, &[_]) =
            ("mouse", &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")]);
        let full: (&str, &[_]) = ("BAT0", &[("type", "Battery"), ("status", "Full")]);
        let empties: (&str, &[_]) = ("BAT1", &[("type", "Battery"), ("status", "Discharging")]);
        let off: (&str, &[_]) = ("AC", &[("type", "Mains"), ("online", "0")]);
        let on: (&str, &[_]) = ("AC", &[("type", "Mains"), ("online", "1")]);
        assert_eq!(supplies(&[]), None);
        assert_eq!(supplies(&[mouse, on]), None);
        assert_eq!(supplies(&[full, off, mouse]), Some(false));
        assert_eq!(supplies(&[full, empties, off]), Some(true));
        assert_eq!(supplies(&[full, empties, on]), Some(false));
        assert_eq!(on_battery(Path::new("/nowhere")), None);
    }
}
