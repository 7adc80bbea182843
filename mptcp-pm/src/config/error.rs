//! What is wrong with a configuration, where, and what to do about it.
use std::fmt;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {file}: {source}")]
    Read {
        /// Its name.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file has mistakes: one line for each.
    #[error("{}", lines(file, problems))]
    Refused {
        /// Its name.
        file: String,
        /// Its mistakes, in the order of the text; never empty.
        problems: Vec<Problem>,
    },
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.line, self.column, self.what, self.remedy)
    }
}

/// Collects the mistakes in one text.
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<(usize, Problem)>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// Adds a mistake at a byte of the text.
    pub(super) fn add(&mut self, at: usize, refusal: Refusal) {
        let (line, column) = place(self.text, at);
        let Refusal { what, remedy } = refusal;
        self.found.push((at, Problem { line, column, what, remedy }));
    }

    /// The line of a byte of the text, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        place(self.text, at).0
    }

    /// All mistakes in the order of the text.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// A mistake that does not know its place yet.
pub(super) struct Refusal {
    what: String,
    remedy: String,
}

/// Refuses something, with the remedy.
pub(super) fn refuse(what: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal { what: what.into(), remedy: remedy.into() }
}

/// Line and column of a byte; the end of the text for one behind it.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn lines(file: &str, problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{file}:{problem}")).collect::<Vec<_>>().join("\n")
}
