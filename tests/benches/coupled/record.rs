//! What was measured, run by run; kept in a file, so that a long run can be done in parts.
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use tests::bench::Report;

/// All figures so far, in the order in which their cases came up.
#[derive(Default, Serialize, Deserialize)]
pub struct Record(Vec<Case>);

/// One figure, of several runs.
#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    values: Vec<f64>,
    /// What it is compared with, of the same runs.
    peer: Option<Peer>,
}

#[derive(Serialize, Deserialize)]
struct Peer {
    name: String,
    values: Vec<f64>,
}

impl Record {
    /// What an earlier part of the run has left.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn load() -> Result<Self> {
        let file = file();
        let text = fs::read_to_string(&file)
            .with_context(|| format!("go on with {}: run without --go-on first", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))
    }

    /// Leaves it to the next part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<()> {
        let file = file();
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// Adds what one run has given.
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        self.case(name.into()).values.push(value);
    }

    /// The same, and what it is compared with.
    pub fn add_beside(&mut self, name: impl Into<String>, value: f64, peer: (&str, f64)) {
        let case = self.case(name.into());
        case.values.push(value);
        let none = || Peer { name: peer.0.to_owned(), values: Vec::new() };
        case.peer.get_or_insert_with(none).values.push(peer.1);
    }

    fn case(&mut self, name: String) -> &mut Case {
        let place = self.0.iter().position(|case| case.name == name).unwrap_or_else(|| {
            self.0.push(Case { name, values: Vec::new(), peer: None });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// The median of each, and the least and the greatest of several.
    pub fn report(&self) -> Report {
        let mut report = Report::new("coupled", "see each case");
        for Case { name, values, peer } in &self.0 {
            let beside = peer.as_ref().map(|peer| format!("; peer: {}", peer.name)).unwrap_or_default();
            let runs = values.len();
            let other = peer.as_ref().map(|peer| median(&peer.values));
            report.row(format!("{name}{beside}, median of {runs}"), median(values), other);
            if runs > 1 {
                report.row(format!("{name}, least"), rank(values, 0.0), None);
                report.row(format!("{name}, greatest"), rank(values, 1.0), None);
            }
        }
        report
    }
}

/// The middle one; of an even number, the mean of both.
pub fn median(values: &[f64]) -> f64 {
    rank(values, 0.5)
}

/// The value below which a share of all lie; of nothing, nothing.
fn rank(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = sorted.len().saturating_sub(1) as f64 * share;
    let at = |rank: f64| sorted.get(rank as usize).copied().unwrap_or(f64::NAN);
    (at(rank.floor()) + at(rank.ceil())) / 2.0
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/coupled-runs.json")
}
