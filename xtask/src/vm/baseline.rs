//! What the verifier has to do for each program on each kernel, compared with what it had to do: it is what a program's
//! start costs, and how near it is to what the verifier gives up at.
use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Instructions by program and series of kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline(BTreeMap<(String, String), u32>);

/// How much worse is too much: by a fifth.
const TOLERATED: (u64, u64) = (6, 5);

impl Baseline {
    /// The committed one.
    pub fn load() -> Result<Self> {
        let file = file();
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Makes it the committed one.
    pub fn save(&self) -> Result<()> {
        let file = file();
        fs::write(&file, self.text()).with_context(|| format!("writing {}", file.display()))
    }

    /// Takes in what a kernel said.
    pub fn set(&mut self, program: &str, series: &str, instructions: u32) {
        self.0.insert((program.to_owned(), series.to_owned()), instructions);
    }

    /// What of this is worse by too much than the other, or not in the other; a sentence each.
    pub fn worse_than(&self, before: &Self) -> (Vec<String>, Vec<String>) {
        let (mut worse, mut new) = (Vec::new(), Vec::new());
        for (key @ (program, series), now) in &self.0 {
            match before.0.get(key) {
                Some(before) if u64::from(*now) * TOLERATED.1 > u64::from(*before) * TOLERATED.0 => worse
                    .push(format!(
                        "{program} on {series}: {now} instructions to be verified, {before} before"
                    )),
                Some(_) => {}
                None => {
                    new.push(format!("{program} on {series}: {now} instructions to be verified, no baseline"))
                }
            }
        }
        (worse, new)
    }

    /// This, and what it does not say as the other has it.
    pub fn over(self, other: Self) -> Self {
        Self(other.0.into_iter().chain(self.0).collect())
    }

    /// One line for each number: program, series, instructions.
    fn parse(text: &str) -> Result<Self> {
        let mut baseline = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [program, series, instructions] = words.as_slice() else {
                bail!("`{line}` has not three words")
            };
            let instructions = instructions.parse().with_context(|| format!("`{line}` has no number"))?;
            baseline.set(program, series, instructions);
        }
        Ok(baseline)
    }

    fn text(&self) -> String {
        let line =
            |((program, series), count): (&(String, String), &u32)| format!("{program} {series} {count}\n");
        let lines: String = self.0.iter().map(line).collect();
        format!(
            "# Program, series of kernels, instructions that the verifier goes through: `cargo xtask test --vm --bless`.\n{lines}"
        )
    }
}

fn file() -> PathBuf {
    paths::workspace().join("mptcp-ebpf/verifier.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[(&str, &str, u32)]) -> Baseline {
        let mut baseline = Baseline::default();
        numbers.iter().for_each(|(program, series, count)| baseline.set(program, series, *count));
        baseline
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let baseline = of(&[("o/p", "6.1", 12), ("o/p", "7", 13)]);
        assert_eq!(Baseline::parse(&baseline.text()).unwrap(), baseline);
        assert!(Baseline::parse("o/p 6.1\n").is_err() && Baseline::parse("o/p 6.1 many\n").is_err());
    }

    #[test]
    fn a_fifth_more_is_too_much_on_that_kernel() {
        let before = of(&[("o/p", "6.1", 100), ("o/p", "7", 1000)]);
        assert_eq!(of(&[("o/p", "6.1", 120), ("o/p", "7", 10)]).worse_than(&before), (vec![], vec![]));
        let (worse, new) = of(&[("o/p", "6.1", 121), ("o/q", "7", 1)]).worse_than(&before);
        assert_eq!(worse, ["o/p on 6.1: 121 instructions to be verified, 100 before"]);
        assert_eq!(new, ["o/q on 7: 1 instructions to be verified, no baseline"]);
    }

    #[test]
    fn a_run_on_one_kernel_leaves_the_others() {
        let before = of(&[("o/p", "6.1", 100), ("o/p", "7", 1000)]);
        assert_eq!(of(&[("o/p", "7", 1)]).over(before), of(&[("o/p", "6.1", 100), ("o/p", "7", 1)]));
    }
}
