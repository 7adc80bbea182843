//! The service types of all connections: whose each one is, what the rules say of it, what was set by hand.
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Paths;
use crate::core::connections::{Connection, Ends, Manager, Subflow, Token};
use crate::core::service::{Owner, Rules, Served, Service, Subject, Why};
use crate::core::steering::{Part, Reason};

/// As many owners are kept of connections that have not begun yet; some never do, because the peer does not speak MPTCP.
const MOST_EARLY: usize = 1024;

/// Up to so many owners nobody looks which of them have no connection any more.
const FEW_OWNERS: usize = 16;

/// Owners of connections that have not begun yet, the latest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Early(VecDeque<(Token, Owner)>);

impl Early {
    fn keep(&mut self, token: Token, owner: Owner) {
        if self.0.len() == MOST_EARLY {
            self.0.pop_front();
        }
        self.0.push_back((token, owner));
    }

    fn take(&mut self, token: Token) -> Option<Owner> {
        let place = self.0.iter().rposition(|(early, _)| *early == token)?;
        self.0.remove(place).map(|(_, owner)| owner)
    }
}

/// What is known of the owners of connections: a server has thousands of connections, which share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    known: BTreeSet<Arc<Owner>>,
    /// With so many it is looked who has no connection any more.
    full: usize,
}

impl Owners {
    pub(super) fn share(&mut self, owner: Owner) -> Arc<Owner> {
        if let Some(known) = self.known.get(&owner) {
            return known.clone();
        }
        if self.known.len() >= self.full {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.full = 2 * self.known.len() + FEW_OWNERS;
        }
        let shared = Arc::new(owner);
        self.known.insert(shared.clone());
        shared
    }

    /// Takes over what is not known of an owner.
    pub(super) fn complete(&mut self, owner: &mut Arc<Owner>, more: Owner) {
        if owner.lacks(&more) {
            let mut known = (**owner).clone();
            known.complete(more);
            *owner = self.share(known);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }
}

impl Paths {
    /// What holds from now on, for living connections too.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        let tokens: Vec<Token> = self.connections.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.classify(token));
    }

    /// Whose a connection is. That may be known before it begins.
    pub fn owned(&mut self, token: Token, owner: Owner) {
        match self.connections.get_mut(&token) {
            Some(connection) => {
                connection.owner = self.owners.share(owner);
                self.classify(token);
            }
            None => self.early.keep(token, owner),
        }
    }

    /// Gives a connection a service type by hand, or leaves it to the rules again.
    pub fn set_service(&mut self, token: Token, service: Option<Service>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match service {
            Some(service) => self.serve(token, service, Why::Hand),
            None => {
                connection.why = Why::Profile;
                self.classify(token);
            }
        }
    }

    /// What is known of each connection's service type.
    pub fn served(&self) -> impl Iterator<Item = (Token, Served)> {
        self.connections.iter().map(|(token, connection)| (*token, served(connection)))
    }

    /// The service type of a connection that the daemon manages, and who has decided it.
    pub fn service(&self, token: Token) -> Option<(Service, Why)> {
        let connection = self.connections.get(&token)?;
        Some((service(connection)?, connection.why))
    }

    /// The service type of each connection that the daemon manages.
    pub fn services(&self) -> impl Iterator<Item = (Token, Service)> {
        self.connections.iter().filter_map(|(token, connection)| Some((*token, service(connection)?)))
    }

    /// Which connections have another service type than when this was last asked; none for those that have gone, and for
    /// those that the kernel manages.
    pub fn take_services(&mut self) -> Vec<(Token, Option<Service>)> {
        let untold = std::mem::take(&mut self.untold);
        untold
            .into_iter()
            .map(|token| (token, self.connections.get(&token).and_then(|known| service(known))))
            .collect()
    }

    /// A connection is known from now on, and belongs to whom it was told before.
    pub(super) fn claim(&mut self, token: Token) {
        self.untold.insert(token);
        let early = self.early.take(token);
        if let Some(connection) = self.connections.get_mut(&token) {
            if let Some(owner) = early {
                connection.owner = self.owners.share(owner);
            }
            self.classify(token);
        }
    }

    fn serve(&mut self, token: Token, service: Service, why: Why) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let is_new = service != connection.service;
        (connection.service, connection.why) = (service, why);
        if is_new {
            self.untold.insert(token);
            self.growing |= super::may_grow(connection);
            self.look_at(token);
        }
    }

    /// Asks the rules, unless somebody has decided by hand.
    fn classify(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if connection.why == Why::Hand {
            return;
        }
        let subject = Subject::new(&connection.owner, &connection.ends, connection.server_side);
        let (service, why) = self.rules.decide(&subject);
        self.serve(token, service, why);
    }
}

/// The part of a subflow that is decided.
fn part(subflow: &Subflow) -> Option<(Ends, Part, Reason)> {
    subflow.part.map(|(part, why)| (subflow.ends, part, why))
}

/// What acts on a connection; nothing where the kernel manages it.
fn service(connection: &Connection) -> Option<Service> {
    (connection.manager != Manager::Kernel).then_some(connection.service)
}

fn served(connection: &Connection) -> Served {
    Served {
        service: service(connection).map(|service| (service, connection.why)),
        owner: (*connection.owner).clone(),
        parts: connection.subflows.iter().filter_map(part).collect(),
    }
}
