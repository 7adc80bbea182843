//! What the core tells of itself: whose each endpoint is, and what is not as it is wanted.
use super::action::Subject;
use super::hints::Hint;
use super::report::{EndpointReport, Finding, Owner};
use super::world::{Endpoint, EndpointFlags};
use super::{Core, policy};
use crate::config::Manager;

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
        let wanted = self.config.manager == Manager::Daemon;
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
        let asked = self.config.service.is_some() || !self.config.applications.is_empty();
        let by_kernel = self.config.manager == Manager::Kernel && !self.stopping;
        (asked && by_kernel).then(|| Finding {
            object: "service types".to_owned(),
            reason: "without effect while the kernel manages the paths: set manager = \"daemon\"".to_owned(),
            given_up: true,
        })
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
        let mistaken = self.world.desktop.interfaces.iter().flat_map(mistaken);
        failed.chain(unread).chain(unable).chain(self.without_effect()).chain(mistaken).collect()
    }
}

/// What a profile of NetworkManager carries and cannot be meant.
fn mistaken((interface, hint): (&String, &Hint)) -> impl Iterator<Item = Finding> + use<> {
    let profile = hint.profile.as_ref().map_or(interface, |profile| &profile.id);
    let object = format!("profile {profile:?} of NetworkManager");
    let findings = hint.mistakes.iter().map(|mistake| Finding {
        object: object.clone(),
        reason: mistake.clone(),
        given_up: true,
    });
    findings.collect::<Vec<_>>().into_iter()
}
