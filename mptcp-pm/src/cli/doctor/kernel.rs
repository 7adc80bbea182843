//! `doctor --kernel`: what the running kernel can do, one line for each thing.
use anyhow::Result;

use crate::cli::args::JsonArgs;
use crate::cli::show;
use crate::probe::{self, Feature, State};

pub(super) fn show(output: &JsonArgs) -> Result<String> {
    let features = probe::features();
    Ok(match output.json {
        true => show::json(&serde_json::to_value(&features)?),
        false => text(&features),
    })
}

fn text(features: &[Feature]) -> String {
    let width = features.iter().map(|feature| feature.feature.len()).max().unwrap_or_default();
    features.iter().map(|feature| line(feature, width)).collect()
}

fn line(feature: &Feature, width: usize) -> String {
    let state = match feature.state {
        State::Yes => "yes",
        State::No => "no",
        State::Unknown => "not known",
    };
    let verified = feature.verified_instructions.map(|count| format!("{count} instructions verified"));
    // The verifier's log can be long; its first line says what was refused.
    let detail = feature.detail.lines().next().map(str::to_owned);
    let without = feature.without.filter(|_| feature.state == State::No);
    let without = without.map(|without| format!("without it, {without}"));
    let words = [Some(state.to_owned()), verified, detail, without];
    let words: Vec<String> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    format!("{:width$}  {}\n", feature.feature, words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_what_is_missing_and_what_for() {
        let features = [
            Feature::yes("most-subflows", "8"),
            Feature::no("coupled", "there is no such structure\nand a long log").serves("nothing is coupled"),
            Feature { verified_instructions: Some(12), ..Feature::yes("a/b", "") },
        ];
        assert_eq!(
            text(&features),
            "most-subflows  yes; 8\n\
             coupled        no; there is no such structure; without it, nothing is coupled\n\
             a/b            yes; 12 instructions verified\n"
        );
    }
}
