//! Which congestion control MPTCP subflows get: one for all, or one for each service type.
use mptcp_common::coupled::Algorithm;

use crate::core::service::Service;

/// The congestion control for each service type; none keeps what the system gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Congestion([Option<Algorithm>; Service::ALL.len()]);

impl Congestion {
    /// The same for all.
    pub const fn all(algorithm: Option<Algorithm>) -> Self {
        Self([algorithm; Service::ALL.len()])
    }

    /// What each service type gets.
    pub fn each(of: impl FnMut(Service) -> Option<Algorithm>) -> Self {
        Self(Service::ALL.map(of))
    }

    /// What connections with a service type get.
    pub fn of(self, service: Service) -> Option<Algorithm> {
        let mut all = Service::ALL.into_iter().zip(self.0);
        all.find(|(known, _)| *known == service).and_then(|(_, algorithm)| algorithm)
    }

    /// Whether all keep what the system gives.
    pub fn keeps(self) -> bool {
        self == Self::default()
    }
}
