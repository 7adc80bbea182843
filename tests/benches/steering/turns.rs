//! Repetitions of both sides in turn, their medians, and what failed.

use crate::options::{Options, Side};
use anyhow::Result;
use tests::bench::{Report, median};

/// The runs of one cell.
pub struct Turns<'a> {
    /// The arguments.
    pub options: &'a Options,
    /// What they found.
    pub report: Report,
    /// Repetitions that failed: ours, the stock kernel's.
    pub failures: [usize; 2],
    rounds: usize,
}

impl<'a> Turns<'a> {
    /// Those of a cell, so many of each unless an argument says otherwise.
    pub fn new(options: &'a Options, cell: &str, unit: &str, rounds: usize) -> Self {
        let rounds = options.rounds(rounds);
        println!("{cell}: medians of {rounds}");
        Self { options, report: Report::new(cell, unit), failures: [0; 2], rounds }
    }

    /// Repeats a sub-cell on each side, and adds the median of each of its figures.
    pub fn measure<const N: usize>(
        &mut self,
        case: &str,
        figures: [&str; N],
        mut repetition: impl FnMut(Side) -> Result<[f64; N]>,
    ) {
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..self.rounds {
            for side in self.options.sides() {
                match repetition(side) {
                    Ok(result) => {
                        let shown: Vec<_> = result.iter().map(|figure| format!("{figure:.1}")).collect();
                        eprintln!("  {case}, {}: {}", side.name(), shown.join(" "));
                        results[side as usize].push(result);
                    }
                    Err(error) => {
                        self.failures[side as usize] += 1;
                        eprintln!("  {case}, {}: FAILED: {error:#}", side.name());
                    }
                }
            }
        }
        for (number, figure) in figures.into_iter().enumerate() {
            let [ours, stock] = results.each_ref().map(|results| {
                let samples: Vec<f64> = results.iter().map(|result| result[number]).collect();
                median(&samples)
            });
            self.report.row(format!("{case}, {figure}"), ours, stock);
        }
    }
}
