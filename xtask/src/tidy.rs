//! Checks what a compiler cannot: each finding names file and line, and what to do about it.
mod manifests;
mod purity;
mod rust_paths;
mod text;
mod unsafety;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::paths;

/// A file of the workspace.
struct File {
    /// Relative to the workspace.
    path: PathBuf,
    text: String,
}

/// A breach of a rule.
struct Finding {
    path: PathBuf,
    /// From 1.
    line: usize,
    /// What is wrong, and the remedy.
    what: String,
}

const CHECKS: [fn(&File) -> Vec<Finding>; 7] = [
    text::says_what_it_is_for,
    text::is_not_too_long,
    text::script_says_what_it_is_for,
    manifests::dependency_has_a_reason,
    manifests::version_is_in_the_one_list,
    purity::pure_modules_do_no_io,
    unsafety::is_where_it_belongs,
];

/// Runs all checks on all files; fails when there is a finding.
pub fn all() -> Result<()> {
    let files = files(paths::workspace())?;
    let findings: Vec<_> =
        files.iter().flat_map(|file| CHECKS.iter().flat_map(|check| check(file))).collect();
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    println!("tidy: {} files ok", files.len());
    Ok(())
}

/// The text files below a folder, without build products and what belongs to git.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            if path.ends_with("target") || path.ends_with(".git") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) =
                String::from_utf8(fs::read(&path).with_context(|| format!("reading {}", path.display()))?)
            {
                files.push(File { path: path.strip_prefix(root)?.to_owned(), text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|ending| ending == "rs")
    }

    fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// What tests of the checks share.
#[cfg(test)]
mod testing {
    use super::{File, Finding};

    /// The lines on which a check finds something in a file.
    pub fn lines(check: fn(&File) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        check(&File { path: path.into(), text: text.to_owned() }).iter().map(|finding| finding.line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_but_not_build_products() {
        let root = tempfile::tempdir().unwrap();
        for file in ["a/b.rs", ".ci/run", "target/x.rs", ".git/config"] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "text").unwrap();
        }
        let found: Vec<_> = files(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(found, [".ci/run", "a/b.rs"].map(PathBuf::from));
    }

    #[test]
    fn a_finding_names_file_and_line() {
        let file = File { path: "a/b.rs".into(), text: String::new() };
        assert_eq!(file.finding(3, "wrong: mend it").to_string(), "a/b.rs:3: wrong: mend it");
    }
}
