//! What benchmarks share: percentiles, a table for people, `target/bench/NAME.json` for programs.

use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The widest line of the table.
const COLUMNS: usize = 80;

/// What one benchmark has found.
#[derive(Debug, Serialize)]
pub struct Report {
    name: String,
    unit: String,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    case: String,
    /// None where only the peer was measured, or ours failed.
    ours: Option<f64>,
    peer: Option<f64>,
    /// Ours for each of the peer's; none without a peer, or where the peer has nothing at all.
    ratio: Option<f64>,
}

impl Report {
    /// A report without rows; a unit that differs from case to case is named in each case.
    pub fn new(name: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), rows: Vec::new() }
    }

    /// Adds a figure of ours, and the peer's from the same run where there is a peer.
    pub fn row(&mut self, case: impl Into<String>, ours: impl Into<Option<f64>>, peer: Option<f64>) {
        let ours = ours.into();
        let ratio = ours.zip(peer.filter(|peer| *peer != 0.0)).map(|(ours, peer)| ours / peer);
        self.rows.push(Row { case: case.into(), ours, peer, ratio });
    }

    /// Takes the rows of another report over, each case with that one's name before it.
    pub fn take(&mut self, other: Self) {
        let named = |row: Row| Row { case: format!("{}: {}", other.name, row.case), ..row };
        self.rows.extend(other.rows.into_iter().map(named));
    }

    /// Prints the table and writes `target/bench/NAME.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> Result<()> {
        self.print();
        self.write()
    }

    /// Prints the table.
    pub fn print(&self) {
        print!("{}", self.table());
    }

    /// Writes `target/bench/NAME.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join(&self.name).with_extension("json");
        let json = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&file, json).with_context(|| format!("write {}", file.display()))
    }

    fn table(&self) -> String {
        const FIGURES: usize = 3 * 10;
        let case = COLUMNS - FIGURES;
        let line = |text: &str, [ours, peer, ratio]: [String; 3]| {
            format!("{text:<case$}{ours:>10}{peer:>10}{ratio:>10}\n")
        };
        let head =
            line(&format!("{} ({})", self.name, self.unit), ["ours", "peer", "ratio"].map(str::to_owned));
        let rows = self.rows.iter().map(|row| {
            let figures = [row.ours, row.peer, row.ratio];
            line(&row.case, figures.map(|figure| figure.map_or_else(|| "-".to_owned(), shown)))
        });
        std::iter::once(head).chain(rows).collect()
    }
}

/// Three digits that count, or all before the point.
fn shown(figure: f64) -> String {
    match figure.abs() {
        size if size == 0.0 || size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

/// The sample below which `share` (0 to 1) of all lie, by nearest rank; `None` of no samples.
pub fn percentile(samples: &[Duration], share: f64) -> Option<Duration> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The median, the higher of two in the middle; `None` of no samples.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let samples: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let at = |share| percentile(&samples, share).map(|sample| sample.as_millis());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(at), [1, 100, 198, 200].map(Some));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_median_is_a_sample() {
        assert_eq!(
            [median(&[3.0, 1.0, 2.0]), median(&[1.0, 2.0]), median(&[])],
            [Some(2.0), Some(2.0), None]
        );
    }

    #[test]
    fn the_rows_of_another_are_named_by_it() {
        let mut part = Report::new("part", "ms");
        part.row("only the peer", None, Some(3.0));
        let mut whole = Report::new("whole", "ms");
        whole.take(part);
        let json = serde_json::to_value(&whole.rows).unwrap();
        let row =
            serde_json::json!({ "case": "part: only the peer", "ours": null, "peer": 3.0, "ratio": null });
        assert_eq!(json, serde_json::json!([row]));
    }

    #[test]
    fn the_table_fits_and_the_json_has_its_shape() {
        let mut report = Report::new("name", "ms");
        report.row("beside a peer", 1.5, Some(3.0));
        report.row("alone", 123.4, None);
        report.row("beside nothing", 1.0, Some(0.0));
        assert!(report.table().lines().all(|line| line.chars().count() == COLUMNS), "{}", report.table());
        assert!(report.table().contains("1.50      3.00     0.500\n"), "{}", report.table());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "name": "name", "unit": "ms", "rows": [
                { "case": "beside a peer", "ours": 1.5, "peer": 3.0, "ratio": 0.5 },
                { "case": "alone", "ours": 123.4, "peer": null, "ratio": null },
                { "case": "beside nothing", "ours": 1.0, "peer": 0.0, "ratio": null },
            ] })
        );
    }
}
