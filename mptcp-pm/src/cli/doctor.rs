//! Why is there no second subflow here? Looks at this network namespace, and names each cause with its remedy.
mod facts;
mod kernel;
mod rules;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::args::DoctorArgs;
use super::{Outcome, block_on, show};
use crate::view::status::paragraph;
use facts::Facts;

/// One cause, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: a word that stays the same.
    check: &'static str,
    /// How bad it is.
    severity: Severity,
    /// What is wrong.
    finding: String,
    /// What to do about it.
    remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Severity {
    /// It keeps connections from a second subflow.
    Problem,
    /// It is good to know.
    Note,
}

impl Finding {
    fn problem(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, severity: Severity::Problem, finding: finding.into(), remedy: remedy.into() }
    }

    fn note(check: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::problem(check, finding, remedy) }
    }

    fn is_problem(&self) -> bool {
        self.severity == Severity::Problem
    }
}

/// Looks for causes; fails when there is one.
pub(super) fn run(args: &DoctorArgs) -> Result<Outcome> {
    if args.kernel {
        return kernel::show(&args.output).map(Outcome::from);
    }
    let facts = block_on(Facts::gather(args.config.as_deref()))?;
    let findings = rules::apply(&facts);
    let output =
        if args.output.json { show::json(&serde_json::to_value(&findings)?) } else { text(&findings) };
    let sound = !findings.iter().any(Finding::is_problem);
    let code = if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(Outcome { output: output.into(), code })
}

/// Problems first, then notes.
fn text(findings: &[Finding]) -> String {
    let (problems, notes): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.is_problem());
    let mut paragraphs: Vec<String> =
        problems.into_iter().map(|problem| both(problem.check, problem)).collect();
    if paragraphs.is_empty() {
        paragraphs.push("ready: nothing found that keeps MPTCP from a second subflow\n".into());
    }
    paragraphs.extend(notes.into_iter().map(|note| both(&format!("note, {}", note.check), note)));
    paragraphs.join("\n")
}

fn both(title: &str, finding: &Finding) -> String {
    let cause = paragraph(&format!("{title}: {}", finding.finding));
    cause + &paragraph(&format!("  remedy: {}", finding.remedy))
}
