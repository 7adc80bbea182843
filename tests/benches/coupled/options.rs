//! The arguments: which scenarios, of which congestion controls, how often.
use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use mptcp_pm::bpf::coupled::Algorithm;

/// Coupled congestion control, beside the kernel's uncoupled Reno and CUBIC
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench coupled", bin_name = "cargo xtask bench coupled")]
pub struct Options {
    /// Scenarios to run; without any, all
    scenarios: Vec<Scenario>,
    /// Only these congestion controls: `--only reno,olia`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each is run; without it as often as fits into twenty minutes, all together
    #[arg(long)]
    rounds: Option<usize>,
    /// Adds to what was measured before, so that a long run can be done in parts
    #[arg(long)]
    go_on: bool,
    /// Cargo adds this one
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A shared bottleneck: connections with two and with four subflows against as many TCP flows
    Fairness,
    /// Resource pooling: a free bottleneck and a crowded one
    Pooling,
    /// No harm to oneself: two idle paths, unequal
    Harm,
    /// The rate of a path changes
    Response,
    /// Nanoseconds for an acknowledgement, goodput over cables without a limit
    Cost,
    /// A thousand connections come and go
    Crowd,
}

impl Scenario {
    /// How often it is run unless it is said.
    const fn usual(self) -> usize {
        match self {
            Self::Fairness | Self::Pooling | Self::Harm | Self::Response => 2,
            Self::Cost => 6,
            Self::Crowd => 1,
        }
    }
}

impl Options {
    /// The scenarios that are wanted.
    pub fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() { Scenario::value_variants().to_vec() } else { self.scenarios.clone() }
    }

    /// How often one is run.
    pub fn rounds(&self, scenario: Scenario) -> usize {
        self.rounds.unwrap_or(scenario.usual())
    }

    /// The congestion controls that are compared, those that are not coupled first.
    ///
    /// # Errors
    /// With the name of one that there is not.
    pub fn controls(&self) -> Result<Vec<&'static str>> {
        let all = ["reno", "cubic"].into_iter().chain(Algorithm::ALL.map(Algorithm::name));
        let all: Vec<_> = all.collect();
        for name in &self.only {
            ensure!(all.contains(&name.as_str()), "no {name} is compared: use {}", all.join(", "));
        }
        let is_wanted = |name: &&str| self.only.is_empty() || self.only.iter().any(|only| only == name);
        Ok(all.into_iter().filter(is_wanted).collect())
    }

    /// Whether to add to what was measured before.
    pub const fn goes_on(&self) -> bool {
        self.go_on
    }
}
