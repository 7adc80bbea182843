//! Repetitions of all contenders in turn, their medians, what failed, and the tables.

use crate::options::{Options, Side};
use anyhow::Result;
use tests::bench::{Report, median};

/// One run of the benchmark.
pub struct Run {
    /// The arguments.
    pub options: Options,
    whole: Report,
    /// The table that is being filled.
    table: Report,
    rounds: usize,
    /// Repetitions that failed: ours, the others'.
    failures: [usize; 2],
}

impl Run {
    /// Nothing measured so far.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            whole: Report::new("steering", "see each case; peer: the stock kernel"),
            table: Report::new("", ""),
            rounds: 0,
            failures: [0; 2],
        }
    }

    /// Begins a table, with so many repetitions of each sub-cell unless an argument says otherwise.
    pub fn begin(&mut self, name: &str, unit: &str, rounds: usize) {
        self.rounds = self.options.rounds(rounds);
        println!("{name}, medians of {}", self.rounds);
        self.table = Report::new(name, unit);
    }

    /// Repeats a sub-cell on each side, and adds the median of each of its figures.
    pub fn measure<const N: usize>(
        &mut self,
        case: &str,
        figures: [&str; N],
        repetition: impl FnMut(Side) -> Result<[f64; N]>,
    ) {
        let sides = self.options.sides();
        let medians = self.medians(case, &sides, repetition);
        let of = |side| sides.iter().position(|known| *known == side).map(|at| &medians[at]);
        for (number, figure) in figures.into_iter().enumerate() {
            let [ours, stock] = [Side::Ours, Side::Stock].map(|side| of(side)?.map(|all| all[number]));
            self.row(&format!("{case}, {figure}"), ours, stock);
        }
    }

    /// Repeats a sub-cell with each contender; the median of each of its figures, none where all repetitions failed.
    pub fn medians<const N: usize>(
        &mut self,
        case: &str,
        sides: &[Side],
        mut repetition: impl FnMut(Side) -> Result<[f64; N]>,
    ) -> Vec<Option<[f64; N]>> {
        let mut results = vec![Vec::new(); sides.len()];
        for round in 0..self.rounds {
            // Who goes first changes, so that what the first finds is not always the same one's.
            let forth = 0..sides.len();
            let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
            for at in order {
                results[at].extend(self.once(case, sides[at], &mut repetition));
            }
        }
        results.iter().map(|results| of_each(results)).collect()
    }

    fn once<const N: usize>(
        &mut self,
        case: &str,
        side: Side,
        repetition: &mut impl FnMut(Side) -> Result<[f64; N]>,
    ) -> Option<[f64; N]> {
        let result = repetition(side);
        match &result {
            Ok(figures) => {
                let shown = figures.map(|figure| format!("{figure:.1}")).join(" ");
                eprintln!("  {case}, {}: {shown}", side.name());
            }
            Err(error) => {
                eprintln!("  {case}, {}: FAILED: {error:#}", side.name());
                self.failures[usize::from(side != Side::Ours)] += 1;
            }
        }
        result.ok()
    }

    /// Adds a row to the table.
    pub fn row(&mut self, case: &str, ours: Option<f64>, peer: Option<f64>) {
        self.table.row(case, ours, peer);
    }

    /// Shows the table, and saves what there is, should a later one be interrupted.
    pub fn end(&mut self) -> Result<()> {
        self.table.print();
        println!();
        self.whole.take(std::mem::replace(&mut self.table, Report::new("", "")));
        self.whole.write()
    }

    /// Tells of failures.
    pub fn finish(mut self) -> Result<()> {
        let [ours, others] = self.failures;
        self.whole.row("repetitions that failed", ours as f64, Some(others as f64));
        if ours + others > 0 {
            eprintln!("repetitions that failed: {ours} of ours, {others} of the others'");
        }
        self.whole.write()
    }
}

fn of_each<const N: usize>(results: &[[f64; N]]) -> Option<[f64; N]> {
    let mut medians = [0.0; N];
    for (number, figure) in medians.iter_mut().enumerate() {
        *figure = median(&results.iter().map(|result| result[number]).collect::<Vec<_>>())?;
    }
    Some(medians)
}
