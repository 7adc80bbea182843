//! What the core tells of itself: whose each endpoint is, and what is not as it is wanted.
use super::action::Subject;
use super::hints::Hint;
use super::report::{EndpointReport, Finding, Owner};
use super::world::{Endpoint, EndpointFlags};
use super::{Core, policy};
use crate::config::{Endpoints, Manager};

const THERE_ARE_NONE: &str = "NetworkManager is to make them and makes none: put an empty file mptcp-pm.conf into \
    /etc/NetworkManager/conf.d, see connection.mptcp-flags, or set endpoints = \"ours\"";

const IT_IS_THEIRS: &str = "somebody else has made it, as NetworkManager does, so it stays as it is: put \
    conf.d/mptcp-pm.conf in place and activate the connection again, or set endpoints = \"networkmanager\"";

impl Core {
    pub(super) fn endpoint_report(&self, endpoint: &Endpoint) -> EndpointReport {
        let owner = if endpoint.flags.contains(EndpointFlags::IMPLICIT) {
            Owner::Kernel
        } else if self.desired.stranded.contains(endpoint) {
            Owner::Stranded
        } else if self.owned.has(endpoint) {
            Owner::Ours
        } else {
            Owner::Foreign
        };
        let link = endpoint.ifindex.and_then(|ifindex| self.world.links.get(&ifindex));
        EndpointReport { endpoint: endpoint.clone(), interface: link.map(|link| link.name.clone()), owner }
    }

    /// Why the daemon cannot manage connections though it is to; none when it can.
    fn unable(&self) -> Option<&'static str> {
        let wanted = self.config.manager == Some(Manager::Daemon);
        let lacking =
            self.world.observation.as_ref().is_some_and(|seen| {
                !seen.sysctls.is_empty() && !seen.sysctls.keys().any(policy::is_in_charge)
            });
        match (wanted, self.hearing) {
            (false, _) => None,
            (true, false) => Some("the path manager's events cannot be heard"),
            (true, true) => lacking.then_some("it has no userspace path manager (since 5.19)"),
        }
    }

    /// Service types that are asked for and cannot act.
    fn without_effect(&self) -> Option<Finding> {
        let asked = self.config.service.is_some()
            || self.config.applications.iter().any(|rule| rule.service.is_some());
        let by_kernel = self.config.manager != Some(Manager::Daemon) && !self.stopping;
        (asked && by_kernel).then(|| Finding {
            object: "service types".to_owned(),
            reason: "without effect while the kernel manages the paths: set manager = \"daemon\"".to_owned(),
            given_up: true,
        })
    }

    /// Endpoints that NetworkManager makes though it is not to, or does not make though it is to.
    fn made_by_others(&self) -> Vec<Finding> {
        let finding =
            |object: String, reason: &str| Finding { object, reason: reason.to_owned(), given_up: true };
        let seen: Vec<&Endpoint> = self.world.observation.iter().flat_map(|seen| &seen.endpoints).collect();
        let used = self.desired.uplinks.iter().filter(|uplink| uplink.unused.is_none());
        match self.config.endpoints {
            _ if self.stopping => Vec::new(),
            Endpoints::NetworkManager if seen.is_empty() && used.clone().count() > 1 => {
                vec![finding("endpoints".to_owned(), THERE_ARE_NONE)]
            }
            Endpoints::NetworkManager => Vec::new(),
            Endpoints::Ours => {
                let managed = used.filter(|uplink| uplink.profile.is_some());
                let addresses =
                    managed.flat_map(|uplink| &uplink.families).flat_map(|access| &access.addresses);
                let foreign = addresses.filter(|addr| {
                    seen.iter().any(|there| {
                        there.addr == **addr && self.endpoint_report(there).owner == Owner::Foreign
                    })
                });
                foreign.map(|addr| finding(format!("endpoint {addr}"), IT_IS_THEIRS)).collect()
            }
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let failed = self.retries.troubles().map(|(subject, reason, given_up)| Finding {
            object: subject.to_string(),
            reason: reason.to_owned(),
            given_up,
        });
        let unable = self.unable().map(|reason| Finding {
            object: Subject::Connections.to_string(),
            reason: format!("the kernel manages their paths: {reason}"),
            given_up: true,
        });
        // Of connections nothing is read unless they are the daemon's business.
        let sockets = self.manages().then_some(&self.sockets);
        let unread = [&self.routing, &self.endpoints].into_iter().chain(sockets).filter_map(|source| {
            let reason = source.error()?.to_owned();
            Some(Finding { object: Subject::Knowledge.to_string(), reason, given_up: !source.is_due() })
        });
        let hints = self.world.desktop.interfaces.iter();
        let mistaken = hints.flat_map(|(interface, hint)| {
            hint.mistakes.iter().map(|mistake| mistaken(interface, hint, mistake))
        });
        let others = self.made_by_others().into_iter();
        failed
            .chain(unread)
            .chain(unable)
            .chain(self.without_effect())
            .chain(mistaken)
            .chain(others)
            .collect()
    }
}

/// What a profile of NetworkManager carries and cannot be meant.
fn mistaken(interface: &str, hint: &Hint, mistake: &str) -> Finding {
    let profile = hint.profile.as_ref().map_or(interface, |profile| profile.id.as_str());
    Finding {
        object: format!("profile {profile:?} of NetworkManager"),
        reason: mistake.to_owned(),
        given_up: true,
    }
}
