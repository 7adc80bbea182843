//! Completions and man pages, generated from the description of the command line.
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "mptcp-pm", &mut script);
    script
}

/// The man page of the program.
pub(super) fn man_page() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Args::command()).render(&mut page).context("cannot render the man page")?;
    Ok(page)
}

/// Writes the man pages of the program and of all its commands.
pub(super) fn man_pages(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(Args::command(), dir)
        .with_context(|| format!("cannot write man pages to {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// The names of all commands, as their man pages are called.
    fn pages(command: &clap::Command, prefix: &str) -> Vec<String> {
        let name = format!("{prefix}{}", command.get_name());
        let below = command.get_subcommands().flat_map(|command| pages(command, &format!("{name}-")));
        [format!("{name}.1")].into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_has_a_man_page() {
        let dir = tempfile::tempdir().expect("a folder");
        man_pages(dir.path()).expect("writes");
        let pages = pages(&Args::command(), "");
        assert!(pages.contains(&"mptcp-pm-endpoint-add.1".to_owned()));
        for page in pages {
            let text =
                std::fs::read_to_string(dir.path().join(&page)).unwrap_or_else(|_| panic!("no {page}"));
            assert!(text.contains(".SH NAME"), "{page}");
        }
    }

    #[test]
    fn the_program_has_a_man_page() {
        let page = String::from_utf8(man_page().expect("renders")).expect("is text");
        assert!(page.contains("mptcp\\-pm\\-endpoint"), "{page}");
    }

    #[test]
    fn every_shell_has_completions_for_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).expect("is text");
            for command in Args::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
