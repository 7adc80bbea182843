//! Rules on Cargo.toml: versions are in one list, and each of its dependencies has its reason.
use std::path::Path;

use super::{File, Finding};

const LIST: &str = "workspace.dependencies";

/// A dependency in the one list ends in a comment that says what it is for; our own crates need none.
pub fn dependency_has_a_reason(file: &File) -> Vec<Finding> {
    let lacks_reason = |entry: &str| {
        let reason = entry.rsplit_once(" #").map(|(_, reason)| reason.trim());
        !entry.contains("path = ") && reason.is_none_or(str::is_empty)
    };
    let entries = entries(file).into_iter().filter(|(table, ..)| *table == LIST);
    let found = entries.filter(|(_, _, entry)| lacks_reason(entry));
    found
        .map(|(_, line, _)| {
            file.finding(line, "this dependency has no reason: end the line in `# what it is for`")
        })
        .collect()
}

/// A crate takes each dependency from the one list.
pub fn version_is_in_the_one_list(file: &File) -> Vec<Finding> {
    let of_crate = |table: &str| table != LIST && table.ends_with("dependencies");
    let from_list = |entry: &str| entry.contains("workspace = true");
    let entries = entries(file).into_iter().filter(|(table, _, entry)| of_crate(table) && !from_list(entry));
    let what = format!(
        "this dependency is not from the one list: put it into [{LIST}] and write `workspace = true` here"
    );
    entries.map(|(_, line, _)| file.finding(line, &*what)).collect()
}

/// The entries of a manifest: table, line number, text. Each takes one line, which the rules depend on.
fn entries(file: &File) -> Vec<(&str, usize, &str)> {
    let mut table = "";
    let mut entries = Vec::new();
    if file.path.file_name() != Path::new("Cargo.toml").file_name() {
        return entries;
    }
    for (number, line) in file.text.lines().enumerate() {
        if let Some(name) = line.trim().strip_prefix('[') {
            table = name.split(']').next().unwrap_or_default();
        } else if !line.trim().is_empty() && !line.trim().starts_with('#') {
            entries.push((table, number + 1, line));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::{super::testing::lines, *};

    #[test]
    fn a_dependency_without_reason_is_found() {
        let text = "[workspace.dependencies]\n\
                    ours = { path = \"ours\" }\n\
                    # a heading\n\
                    good = \"1\"    # counts sheep\n\
                    bad = \"1\"\n\
                    worse = { version = \"1\", features = [\"a#b\"] } #\n\
                    [workspace.lints.rust]\n\
                    missing_docs = \"warn\"\n";
        assert_eq!(lines(dependency_has_a_reason, "Cargo.toml", text), [5, 6]);
        assert!(lines(dependency_has_a_reason, "other.toml", text).is_empty());
    }

    #[test]
    fn a_version_of_a_crates_own_is_found() {
        let text = "[package]\nversion = \"1\"\n[dependencies]\na.workspace = true\nb = \"1\"\n\
                    [dev-dependencies]\nc = { workspace = true }\nd = { version = \"2\" }\n\
                    [target.'cfg(unix)'.dependencies]\ne = \"1\"\n";
        assert_eq!(lines(version_is_in_the_one_list, "a/Cargo.toml", text), [5, 8, 10]);
    }
}
