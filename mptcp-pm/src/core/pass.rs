//! A pass: what is wanted now, compared with what is there, as actions that may be tried.
use std::collections::BTreeSet;
use std::time::Duration;

use super::Core;
use super::action::{Action, Subject};
use super::owned::Owned;
use super::plan;
use super::policy::{self, Desired};
use super::retry::Verdict;
use super::subflows::Aims;
use crate::config::Manager;

impl Core {
    /// Compares what is wanted with what is there.
    pub(super) fn make_plan(&mut self, now: Duration) {
        self.dirty = false;
        self.desired = self.desire();
        let mut actions = plan::plan(&self.desired, &self.world, &self.owned);
        if self.handing_over {
            actions.retain(|action| matches!(action, Action::WriteSysctl(..)));
        }
        self.failed.retain(|addr| self.desired.endpoints.iter().any(|wanted| wanted.addr == *addr));
        actions.extend(plan::second_attempts(
            &self.desired,
            &self.world,
            &self.owned,
            &self.failed,
            &actions,
        ));
        let mut wanted: BTreeSet<Subject> = actions.iter().map(Action::subject).collect();
        self.retries.prune(|subject| *subject == Subject::State || wanted.contains(subject), now);
        self.retry_at = None;
        actions.retain(|action| self.may_try(action, now));
        self.note_ownership(&actions);
        if self.saved.as_ref() != Some(&self.intended) {
            wanted.insert(Subject::State);
            let save = Action::Save(self.intended.clone());
            // Where it cannot be written down, it is done all the same: connections matter more than tidiness.
            if self.may_try(&save, now) {
                actions.insert(0, save);
            }
        }
        self.retries.prune(|subject| wanted.contains(subject), now);
        self.queue = actions.into();
    }

    /// What is wanted now.
    fn desire(&mut self) -> Desired {
        if self.stopping {
            return plan::farewell(std::mem::take(&mut self.desired.uplinks), &self.world, &self.owned);
        }
        if self.handing_over {
            return plan::interim(std::mem::take(&mut self.desired), &self.world, &self.owned);
        }
        let mut desired = policy::desire(&self.world, &self.config, &self.owned, self.capacity);
        if self.watches() {
            let aims = std::mem::take(&mut desired.aims);
            self.paths.aim(Aims { measured: self.measuring, ..aims });
        }
        let known = self.sockets.is_known();
        // Where they cannot be read, the kernel is better than nobody.
        if self.config.manager == Some(Manager::Daemon)
            && self.hearing
            && (known || self.sockets.error().is_none())
        {
            desired.entrust(known);
        }
        desired
    }

    /// An endpoint is claimed when it is made: until then, one that is just like it is somebody else's.
    fn note_ownership(&mut self, actions: &[Action]) {
        let claims = match self.endpoints.error() {
            // Nobody knows what is still there.
            Some(_) => std::mem::take(&mut self.owned.endpoints),
            None => plan::remaining_claims(&self.world, &self.owned),
        };
        self.owned = Owned {
            endpoints: claims,
            ..plan::ownership(&self.desired, &self.world, &self.owned, actions, self.stopping)
        };
        self.intended = plan::with_claims(&self.owned, actions);
    }

    /// Whether an action is to be tried now; where it is to be tried later, sees to that.
    fn may_try(&mut self, action: &Action, now: Duration) -> bool {
        let verdict = match (self.retries.verdict(&action.subject(), now), action) {
            // The peer first has to hear that the address was withdrawn, maybe by a slow way: it would take that for
            // the end of the new subflow (RM_ADDR names both by the same id).
            (Verdict::Now, Action::AddEndpoint(new)) => {
                match self.retries.verdict(&Subject::Subflows(new.addr), now) {
                    Verdict::GivenUp => Verdict::Now,
                    verdict => verdict,
                }
            }
            (verdict, _) => verdict,
        };
        match verdict {
            Verdict::Now => true,
            Verdict::NotBefore(at) => {
                self.retry_at = Some(self.retry_at.map_or(at, |earliest| earliest.min(at)));
                false
            }
            Verdict::GivenUp => false,
        }
    }
}
