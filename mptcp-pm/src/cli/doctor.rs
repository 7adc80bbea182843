//! Why is there no second subflow here? Looks at this network namespace, and names each cause with its remedy.
mod facts;
mod rules;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Outcome, show};
use crate::view::status::paragraph;
use facts::Facts;

/// One cause, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: a word that stays the same.
    check: &'static str,
    /// What is wrong.
    finding: String,
    /// What to do about it.
    remedy: String,
}

impl Finding {
    fn new(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, finding: finding.into(), remedy: remedy.into() }
    }
}

/// Looks for causes; fails when there is one.
pub(super) fn run(as_json: bool) -> Result<Outcome> {
    let findings = rules::apply(&Facts::gather()?);
    let output = if as_json { show::json(&serde_json::to_value(&findings)?) } else { text(&findings) };
    let code = if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(Outcome { output: output.into(), code })
}

fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing found that keeps MPTCP from a second subflow\n".into();
    }
    let both = |finding: &Finding| {
        let cause = paragraph(&format!("{}: {}", finding.check, finding.finding));
        cause + &paragraph(&format!("  remedy: {}", finding.remedy))
    };
    findings.iter().map(both).collect::<Vec<_>>().join("\n")
}
