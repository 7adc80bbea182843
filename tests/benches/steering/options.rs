//! The arguments: which cells, what of them, how often.

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Steering, beside the stock kernel
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench steering", bin_name = "cargo xtask bench steering")]
pub struct Options {
    /// Cells to run; without any, all
    cells: Vec<Cell>,
    /// Only sub-cells with these words, as in the table: `--only download,upload,bbr`; of words of one kind either will
    /// do, and a kind of which there is none is not limited
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All sub-cells, where by default only some are run; takes hours
    #[arg(long)]
    full: bool,
    /// Repetitions of each sub-cell
    #[arg(long)]
    rounds: Option<usize>,
    /// Only this side
    #[arg(long, value_parser = Side::parse, value_name = "ours|stock")]
    side: Option<Side>,
    /// Lines of the daemon's configuration, in place of the service type that stands for the second path's role:
    /// "aggregate" where both are in use, "handover" where it is backup
    #[arg(long, value_name = "TOML")]
    pub ours: Option<String>,
    /// Write what the daemon's core was told in the last repetition to this file: what tests replay
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The level of what the daemon logs, where it is not the usual one.
    #[arg(skip)]
    pub log: Option<&'static str>,
    /// Cargo adds this one
    #[arg(long, hide = true)]
    bench: bool,
}

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cell {
    /// The path in use fails in the middle of a transfer
    Outage,
    /// Small messages on a connection that began on the slow path
    Thin,
    /// How long transfers of different sizes take
    Sizes,
    /// Paths that are bad and must not be given up
    Calm,
    /// A thousand connections over an uplink that goes silent
    Crowd,
    /// From an alarm in the kernel to the first command
    Answer,
    /// The processor's time of an unlimited transfer
    Cost,
}

/// Whose run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The daemon steers
    Ours,
    /// The kernel alone, set up by `ip mptcp`
    Stock,
    /// The same, with one path as backup
    Kept,
    /// No MPTCP
    Tcp,
}

impl Side {
    fn parse(word: &str) -> Result<Self, String> {
        let known = [Self::Ours, Self::Stock].into_iter().find(|side| side.name() == word);
        known.ok_or_else(|| "use one of ours, stock".to_owned())
    }

    /// What it is called in lines for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Stock => "stock",
            Self::Kept => "kept",
            Self::Tcp => "TCP",
        }
    }
}

/// One kind of words that `--only` takes.
pub trait Words: Copy + 'static {
    /// Each value and its word.
    const ALL: &'static [(&'static str, Self)];

    /// Its word.
    fn word(self) -> &'static str
    where
        Self: PartialEq,
    {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// The words of one kind.
pub fn words<T: Words>() -> impl Iterator<Item = &'static str> {
    T::ALL.iter().map(|(word, _)| *word)
}

impl Options {
    /// The chosen cells.
    pub fn cells(&self) -> Vec<Cell> {
        if self.cells.is_empty() { Cell::value_variants().to_vec() } else { self.cells.clone() }
    }

    /// The chosen sides.
    pub fn sides(&self) -> Vec<Side> {
        self.side.map_or_else(|| vec![Side::Ours, Side::Stock], |side| vec![side])
    }

    /// Repetitions; so many unless an argument says otherwise.
    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    /// The chosen values of one kind.
    pub fn pick<T: Words>(&self) -> Vec<T> {
        let named = |word: &str| self.only.iter().any(|only| only == word);
        let limited = words::<T>().any(named);
        T::ALL.iter().filter(|(word, _)| !limited || named(word)).map(|(_, value)| *value).collect()
    }

    /// The same, but of a kind of which there is no word only these, unless all are asked for.
    pub fn pick_or<T: Words + PartialEq>(&self, default: &[T]) -> Vec<T> {
        let picked = self.pick::<T>();
        let limited = picked.len() < T::ALL.len();
        if limited || self.full { picked } else { default.to_vec() }
    }

    /// Refuses words of which no chosen cell knows.
    pub fn check(&self, known: impl Iterator<Item = &'static str>) -> Result<()> {
        let known: Vec<_> = known.collect();
        let unknown = self.only.iter().find(|word| !known.contains(&word.as_str()));
        ensure!(unknown.is_none(), "--only {}: known here: {}", unknown.map_or("", |w| w), known.join(", "));
        Ok(())
    }
}
