//! Which interfaces an `[[uplink]]` table means.
use globset::{Glob, GlobMatcher};

use super::UplinkRule;
use crate::core::world::Link;

/// The conditions of one `match`; all that are there must hold, and at least one is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// The interface's present name.
    pub name: Option<NameGlob>,
    /// The interface's hardware address.
    pub mac: Option<[u8; 6]>,
    /// What the driver calls its kind (`IFLA_INFO_KIND`; `ip -details link` shows it).
    pub kind: Option<String>,
}

/// A pattern for interface names: `*`, `?`, `[a-z]`, `{a,b}`.
#[derive(Clone, Debug)]
pub struct NameGlob(GlobMatcher);

impl PartialEq for NameGlob {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

impl NameGlob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// Says what is wrong with the pattern.
    pub fn new(pattern: &str) -> Result<Self, globset::Error> {
        Glob::new(pattern).map(|glob| Self(glob.compile_matcher()))
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        self.0.glob().glob()
    }

    /// Whether the pattern has no special character, and so matches only itself.
    pub fn is_plain(&self) -> bool {
        is_plain(self.pattern())
    }
}

impl UplinkRule {
    /// Whether the table is about this interface.
    pub fn matches(&self, link: &Link) -> bool {
        let Match { name, mac, kind } = &self.matching;
        name.as_ref().is_none_or(|glob| glob.matches(&link.name))
            && mac.is_none_or(|mac| link.mac == mac)
            && kind.as_ref().is_none_or(|kind| link.kind.as_ref() == Some(kind))
    }

    /// Whether the table asks for its interfaces by name or kind: they are then used whatever their kind. A hardware
    /// address does not say so much: a bridge or a VLAN has that of its port.
    pub fn is_explicit(&self) -> bool {
        self.matching.name.is_some() || self.matching.kind.is_some()
    }
}

impl Match {
    /// Whether there is no condition at all.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none() && self.mac.is_none() && self.kind.is_none()
    }

    /// Whether every interface that `narrower` matches is surely matched by this one too.
    pub(super) fn covers(&self, narrower: &Self) -> bool {
        covers(&self.name, &narrower.name, |wide, narrow| wide.covers(narrow))
            && covers(&self.mac, &narrower.mac, PartialEq::eq)
            && covers(&self.kind, &narrower.kind, PartialEq::eq)
    }
}

impl NameGlob {
    pub(super) fn covers(&self, narrower: &Self) -> bool {
        self == narrower || (narrower.is_plain() && self.matches(narrower.pattern()))
    }
}

/// Whether a pattern has no special character.
pub(super) fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\', '!'])
}

/// Whether what a condition allows is allowed by the other too, or there is no other.
pub(super) fn covers<T>(wide: &Option<T>, narrow: &Option<T>, covers: impl Fn(&T, &T) -> bool) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => covers(wide, narrow),
    }
}
