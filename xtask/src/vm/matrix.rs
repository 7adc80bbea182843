//! The same on each kernel: what it can do, the tests of the path manager, what the verifier has to do; and a table.
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Guest, baseline::Baseline};
use crate::{
    build, paths,
    setup::{
        self,
        kernels::{self, Kernel},
        programs, prometheus,
    },
};

/// What is asked for.
pub struct Options<'a> {
    /// One series alone.
    pub series: Option<&'a str>,
    /// Only what the kernel can do.
    pub quick: bool,
    /// What the verifier has to do now is right.
    pub bless: bool,
}

/// A test program, those of its tests that are run (all if none is named), and the feature without which there is nothing
/// to be tested.
struct Suite {
    program: &'static str,
    tests: &'static [&'static str],
    needs: Option<&'static str>,
}

/// Together they take a few minutes under emulation, which is about thirty times as slow: too slow for tests that start the
/// daemon with its programs, which wait half a minute for it and no longer. What is ignored elsewhere because a guest alone
/// may do it is run here.
const SUITES: [Suite; 8] = [
    Suite { program: "rtnetlink", tests: &[], needs: None },
    Suite { program: "mptcp_netlink", tests: &[], needs: None },
    Suite { program: "clock", tests: &[], needs: None },
    Suite { program: "ebpf", tests: &[], needs: Some("path_stats") },
    Suite {
        program: "coupled",
        tests: &["they_can_be_chosen", "two_subflows_share"],
        needs: Some("coupled"),
    },
    // Of those that start the daemon each has one. This is steering in short.
    Suite { program: "manager", tests: &["a_connection_that_began_on_the_worse_access"], needs: None },
    // The running kernel of a developer's machine may not take it.
    Suite { program: "mptcpify", tests: &[], needs: Some("mptcpify") },
    Suite { program: "privileges", tests: &["applications_are_converted"], needs: Some("mptcpify") },
];

/// How long a test waits for what a daemon does at once on a machine that is not emulated.
const PATIENCE: Duration = Duration::from_secs(300);

const TRIAL: Duration = Duration::from_secs(600);
const TESTS: Duration = Duration::from_secs(1500);

/// What came out on one kernel: a word by row.
struct Column {
    kernel: String,
    cells: Vec<(String, String)>,
}

/// Runs it all and prints the table; fails when a test fails, a feature could not be tried, or the verifier has much more
/// to do than before.
pub fn run(options: &Options) -> Result<()> {
    match super::prepare() {
        Err(error) if options.quick => {
            println!("left out: other kernels, because what boots them cannot be brought here: {error:#}");
            return Ok(());
        }
        prepared => prepared?,
    }
    let programs =
        if options.quick { build::all(false).map(|()| BTreeMap::new()) } else { build::test_programs() }?;
    let (mut columns, mut failures, mut verified) = (Vec::new(), Vec::new(), Baseline::default());
    for series in options.series.map_or(kernels::SERIES.to_vec(), |series| vec![series]) {
        let kernel = match kernels::get(series) {
            Err(error) if options.quick => {
                println!("left out: Linux {series}, because it cannot be brought here: {error:#}");
                continue;
            }
            kernel => kernel?,
        };
        eprintln!("vm: Linux {}", kernel.release);
        let features = features(&kernel)?;
        for (program, instructions) in features.iter().filter_map(Feature::verified) {
            verified.set(program, series, instructions);
        }
        let mut column = Column { kernel: kernel.name().to_owned(), cells: Vec::new() };
        column.cells.extend(features.iter().filter(|feature| !feature.name.contains('/')).map(Feature::cell));
        failures.extend(features.iter().filter(|feature| feature.state == "unknown").map(Feature::failure));
        if !options.quick {
            for (suite, result) in tests(&kernel, &programs, &features)? {
                column.cells.push((format!("tests {suite}"), result.cell()));
                failures.extend(result.failures.map(|text| format!("{suite} on {}:\n{text}", kernel.name())));
            }
        }
        columns.push(column);
    }
    print!("{}", table(&columns));
    failures.extend(compare(verified, options.bless)?);
    match failures.as_slice() {
        [] => Ok(()),
        failures => bail!("{}", failures.join("\n")),
    }
}

/// What `doctor --kernel --json` says of one thing.
struct Feature {
    name: String,
    state: String,
    detail: String,
    instructions: Option<u32>,
}

impl Feature {
    fn of(value: &Value) -> Option<Self> {
        let word = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Self {
            name: word("feature")?,
            state: word("state")?,
            detail: word("detail").unwrap_or_default(),
            instructions: value["verified-instructions"].as_u64().and_then(|count| count.try_into().ok()),
        })
    }

    fn verified(&self) -> Option<(&str, u32)> {
        self.instructions.map(|count| (self.name.as_str(), count))
    }

    /// A number or a word where that is what there is to say, else whether it is there.
    fn cell(&self) -> (String, String) {
        let told = self.state == "yes" && !self.detail.is_empty() && !self.detail.contains(' ');
        (self.name.clone(), if told { self.detail.clone() } else { self.state.clone() })
    }

    fn failure(&self) -> String {
        format!("{} could not be tried: {}", self.name, self.detail)
    }
}

fn features(kernel: &Kernel) -> Result<Vec<Feature>> {
    let daemon = paths::target().join("debug/mptcp-pm").into_os_string();
    let command = [daemon, "doctor".into(), "--kernel".into(), "--json".into()];
    let outcome = Guest { kernel, command: &command, limit: TRIAL, output: Stdio::piped() }.run()?;
    let read = || serde_json::from_str::<Vec<Value>>(&outcome.output);
    let values = read().with_context(|| format!("reading what the doctor says: {}", outcome.output))?;
    Ok(values.iter().filter_map(Feature::of).collect())
}

/// What the tests of one program came to.
struct Tested {
    passed: u32,
    /// What it printed, when a test failed.
    failures: Option<String>,
    /// Whether there was nothing to be tested.
    left_out: bool,
}

impl Tested {
    fn of(output: &str) -> Self {
        let result = output.lines().find_map(|line| line.strip_prefix("test result: "));
        let passed =
            result.and_then(|line| line.split_once(" passed")?.0.split_whitespace().last()?.parse().ok());
        let all = result.is_some_and(|line| line.starts_with("ok.")) && passed > Some(0);
        Self { passed: passed.unwrap_or(0), failures: (!all).then(|| output.to_owned()), left_out: false }
    }

    fn cell(&self) -> String {
        match self {
            Self { left_out: true, .. } => "-".to_owned(),
            Self { failures: Some(_), .. } => "failed".to_owned(),
            Self { passed, .. } => format!("{passed} passed"),
        }
    }
}

/// Runs the suites in one guest, one after the other.
fn tests(
    kernel: &Kernel,
    programs: &BTreeMap<String, PathBuf>,
    features: &[Feature],
) -> Result<Vec<(&'static str, Tested)>> {
    let has = |name: &str| features.iter().any(|feature| feature.name == name && feature.state == "yes");
    let (runnable, absent): (Vec<_>, Vec<_>) = SUITES.iter().partition(|suite| suite.needs.is_none_or(has));
    setup::ensure(&[setup::Step::Programs, setup::Step::Prometheus])?;
    let export = |(name, file): (&str, PathBuf)| format!("export {name}='{}'\n", file.display());
    let mut script: String = programs::variables()?.into_iter().map(export).collect();
    script += &export(("PROMTOOL", prometheus::promtool()?));
    script += &format!("export PATIENCE_SECONDS={}\n", PATIENCE.as_secs());
    for suite in &runnable {
        let program =
            programs.get(suite.program).with_context(|| format!("there is no test {}", suite.program))?;
        script += &call(suite, program);
    }
    let command: [OsString; 3] = ["bash".into(), "-c".into(), script.into()];
    let outcome = Guest { kernel, command: &command, limit: TESTS, output: Stdio::piped() }.run()?;
    let parts =
        runnable.iter().map(|suite| (suite.program, Tested::of(part(&outcome.output, suite.program))));
    let left_out = |suite: &&Suite| (suite.program, Tested { passed: 0, failures: None, left_out: true });
    Ok(parts.chain(absent.iter().map(left_out)).collect())
}

/// The line that begins what a suite prints.
fn heading(program: &str) -> String {
    format!("== {program}")
}

fn call(suite: &Suite, program: &Path) -> String {
    let (heading, program, tests) = (heading(suite.program), program.display(), suite.tests.join(" "));
    format!("echo '{heading}'; '{program}' --test-threads=1 --include-ignored {tests} 2>&1\n")
}

/// What a suite printed: from its heading to the next one.
fn part<'a>(output: &'a str, program: &str) -> &'a str {
    let start = output.split_once(&format!("{}\n", heading(program))).map_or("", |(_, after)| after);
    start.split_once("\n== ").map_or(start, |(part, _)| part)
}

/// Rows in the order in which the first kernel has them.
fn table(columns: &[Column]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for (row, _) in columns.iter().flat_map(|column| &column.cells) {
        if !rows.contains(&row.as_str()) {
            rows.push(row);
        }
    }
    let line = |first: &str, cells: Vec<String>| format!("| {first} | {} |\n", cells.join(" | "));
    let heads = line("", columns.iter().map(|column| column.kernel.clone()).collect());
    let rule = line("---", columns.iter().map(|_| "---".to_owned()).collect());
    let cell = |column: &Column, row: &str| {
        column.cells.iter().find(|(name, _)| name == row).map_or("-".to_owned(), |(_, cell)| cell.clone())
    };
    let body = rows.iter().map(|row| line(row, columns.iter().map(|column| cell(column, row)).collect()));
    heads + &rule + &body.collect::<String>()
}

/// What is worse than the baseline, unless this is the new one.
fn compare(now: Baseline, bless: bool) -> Result<Vec<String>> {
    if bless {
        return now.over(Baseline::load().unwrap_or_default()).save().map(|()| Vec::new());
    }
    let (worse, new) = now.worse_than(&Baseline::load()?);
    new.iter().for_each(|line| println!("{line}: `cargo xtask test --vm --bless` makes it one"));
    Ok(worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_has_its_own_part_of_the_output() {
        let output = "== one\ntest a ... ok\n\ntest result: ok. 3 passed; 0 failed\n== two\ntest result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(Tested::of(part(output, "one")).cell(), "3 passed");
        let two = Tested::of(part(output, "two"));
        assert!(two.cell() == "failed" && two.failures.is_some_and(|text| text.contains("1 failed")));
        assert_eq!(Tested::of(part(output, "three")).cell(), "failed", "it never ran");
        assert_eq!(
            Tested::of("test result: ok. 0 passed; 0 failed").cell(),
            "failed",
            "no test has these names"
        );
    }

    #[test]
    fn rows_that_a_kernel_lacks_are_marked() {
        let column = |kernel: &str, cells: &[(&str, &str)]| Column {
            kernel: kernel.to_owned(),
            cells: cells.iter().map(|(row, cell)| ((*row).to_owned(), (*cell).to_owned())).collect(),
        };
        let columns = [column("6.1", &[("a", "yes")]), column("7", &[("a", "no"), ("b", "8")])];
        assert_eq!(table(&columns), "|  | 6.1 | 7 |\n| --- | --- | --- |\n| a | yes | no |\n| b | - | 8 |\n");
    }
}
