//! Which uplinks rest though they could be used: those over which nobody answers or NetworkManager does not see the
//! Internet, those that cost money where the owner wants to save (`light`), and further radios while the machine runs on its
//! battery. Never the last one: what all lack is no reason against one.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::observed::World;
use super::uplink::Uplink;
use super::world::{Family, IfIndex};
use crate::config::{Config, Profile, Role};

/// Marks those that rest, with the reason. `preferred` gives the uplinks in use, best first.
pub fn mark(
    uplinks: &mut [Uplink],
    world: &World,
    config: &Config,
    preferred: impl Fn(&[Uplink]) -> Option<IfIndex>,
) {
    for family in Family::BOTH {
        mark_without_internet(uplinks, family);
    }
    mark_without_answers(uplinks, &world.unanswered);
    let on_battery = world.desktop.on_battery == Some(true) && config.holds_back();
    let best = preferred(uplinks);
    let others = uplinks.iter_mut().filter(|uplink| Some(uplink.ifindex) != best && may_be_held(uplink));
    for uplink in others {
        let why = if is_spared(uplink, config) {
            "it costs money, and another uplink is there (profile = \"light\")"
        } else if on_battery && uplink.radio {
            "on battery one radio is enough (on-battery = \"hold-back\")"
        } else {
            continue;
        };
        uplink.held = true;
        uplink.rests = Some(why.to_owned());
    }
}

fn mark_without_internet(uplinks: &mut [Uplink], family: Family) {
    let used = || uplinks.iter().filter(|uplink| uplink.unused.is_none());
    let reaches =
        |uplink: &Uplink| uplink.access(family).is_some_and(|access| !access.connectivity.is_without());
    if !used().any(reaches) {
        return;
    }
    for uplink in uplinks.iter_mut().filter(|uplink| uplink.unused.is_none()) {
        let Some(access) = uplink.families.iter_mut().find(|access| access.family == family) else {
            continue;
        };
        access.idle = access.connectivity.is_without();
        if access.idle {
            let seen = access.connectivity.words();
            uplink.rests = Some(format!("NetworkManager sees {seen} over it ({})", family.name()));
        }
    }
}

/// The kernel's path manager acts on endpoints alone: one that is held back has none.
fn mark_without_answers(uplinks: &mut [Uplink], unanswered: &BTreeSet<IpAddr>) {
    let is_silent = |uplink: &Uplink| {
        let mut addresses = uplink.families.iter().flat_map(|access| &access.addresses);
        addresses.any(|addr| unanswered.contains(addr))
    };
    if uplinks.iter().all(|uplink| uplink.unused.is_some() || is_silent(uplink)) {
        return;
    }
    for uplink in uplinks.iter_mut().filter(|uplink| uplink.unused.is_none() && is_silent(uplink)) {
        uplink.held = true;
        uplink.rests = Some("the other ends of connections do not answer over it".to_owned());
    }
}

/// What the owner wants used beside others is.
fn may_be_held(uplink: &Uplink) -> bool {
    let wanted = matches!(uplink.role, Some(Role::Primary | Role::Secondary)) || uplink.flags.is_some();
    uplink.unused.is_none() && !wanted
}

/// Whether it is used only when nothing else is there: a role says how else it is to be used.
fn is_spared(uplink: &Uplink, config: &Config) -> bool {
    config.profile == Profile::Light && uplink.metered && uplink.role.is_none()
}
