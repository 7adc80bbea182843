//! From what is seen to causes: one rule for each way in which a second subflow can fail to come.
mod kernel;
mod paths;
mod peers;

use super::Finding;
use super::facts::Facts;
use crate::core::world::Sysctl;

/// All findings, the most fundamental first.
pub(super) fn apply(facts: &Facts) -> Vec<Finding> {
    if facts.world.sysctl(&Sysctl::Enabled).is_none() {
        let remedy = "boot a kernel with CONFIG_MPTCP, as those of Debian, Fedora and Ubuntu are";
        return vec![Finding::problem("kernel", "this kernel has no MPTCP", remedy)];
    }
    let rules = [kernel::RULES, paths::RULES, peers::RULES, kernel::NOTES];
    rules.into_iter().flatten().flat_map(|rule| rule(facts)).collect()
}

/// Looks at the facts for one cause.
type Rule = fn(&Facts) -> Vec<Finding>;

fn found(is_so: bool, finding: impl FnOnce() -> Finding) -> Vec<Finding> {
    is_so.then(finding).into_iter().collect()
}
