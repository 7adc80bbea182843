//! Rules on whole files: the first line says what a file is for, and no file grows beyond reading.
use super::{File, Finding};

const LONGEST: usize = 700;

/// A Rust file begins with `//!`.
pub fn says_what_it_is_for(file: &File) -> Vec<Finding> {
    if !file.is_rust() || first(file).strip_prefix("//!").is_some_and(|text| !text.trim().is_empty()) {
        return Vec::new();
    }
    vec![file.finding(1, "the first line must say in a `//!` comment what the file is for: write one")]
}

/// A scenario or script begins with a comment, a script's after the line that names its interpreter.
pub fn script_says_what_it_is_for(file: &File) -> Vec<Finding> {
    let is_scenario =
        file.path.starts_with("tests/scenarios") && file.path.extension().is_some_and(|e| e == "toml");
    let interpreter = first(file).starts_with("#!");
    let is_script = !file.is_rust() && (interpreter || file.path.starts_with(".ci"));
    let number = usize::from(interpreter);
    let line = file.text.lines().nth(number).unwrap_or_default();
    if !(is_scenario || is_script) || line.strip_prefix('#').is_some_and(|text| !text.trim().is_empty()) {
        return Vec::new();
    }
    vec![file.finding(number + 1, "this line must say in a `#` comment what the file is for: write one")]
}

/// A Rust file has at most 700 lines.
pub fn is_not_too_long(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= LONGEST {
        return Vec::new();
    }
    vec![
        file.finding(
            LONGEST + 1,
            format!("{lines} lines are too many to read: split the file below {LONGEST}"),
        ),
    ]
}

fn first(file: &File) -> &str {
    file.text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::lines, *};

    #[test]
    fn a_rust_file_without_its_purpose_is_found() {
        assert_eq!(lines(says_what_it_is_for, "a.rs", "use std::fmt;\n"), [1]);
        assert_eq!(lines(says_what_it_is_for, "a.rs", "// not a doc comment\n"), [1]);
        assert_eq!(lines(says_what_it_is_for, "a.rs", "//!  \n"), [1]);
        assert_eq!(lines(says_what_it_is_for, "a.rs", ""), [1]);
        assert!(lines(says_what_it_is_for, "a.rs", "//! Does one thing.\n").is_empty());
        assert!(lines(says_what_it_is_for, "a.md", "text").is_empty());
    }

    #[test]
    fn a_script_without_its_purpose_is_found() {
        assert_eq!(lines(script_says_what_it_is_for, ".ci/run", "#!/bin/bash\nset -e\n"), [2]);
        assert_eq!(lines(script_says_what_it_is_for, "tests/scenarios/a.toml", "[net]\n"), [1]);
        assert_eq!(lines(script_says_what_it_is_for, "packaging/hook", "#!/bin/sh\n\n# late\n"), [2]);
        assert!(lines(script_says_what_it_is_for, ".ci/run", "#!/bin/bash\n# All checks.\n").is_empty());
        assert!(lines(script_says_what_it_is_for, "tests/scenarios/a.toml", "# Two providers.\n").is_empty());
        assert!(lines(script_says_what_it_is_for, "Cargo.toml", "[package]\n").is_empty());
        assert!(lines(script_says_what_it_is_for, "a.rs", "#![no_std]\n").is_empty());
    }

    #[test]
    fn a_file_too_long_is_found() {
        assert_eq!(lines(is_not_too_long, "a.rs", &"\n".repeat(701)), [701]);
        assert!(lines(is_not_too_long, "a.rs", &"\n".repeat(700)).is_empty());
        assert!(lines(is_not_too_long, "Cargo.lock", &"\n".repeat(9000)).is_empty());
    }
}
