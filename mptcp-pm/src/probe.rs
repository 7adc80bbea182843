//! What the running kernel can do: found out by trying, never by its version, and without touching anything in use.
//!
//! The path managers are tried in a network namespace that is made for it (`path_manager`), eBPF by loading what is not
//! attached (`bpf::probe`, because only `bpf` speaks bpf(2)).
mod path_manager;

use serde::Serialize;

use crate::bpf;

/// Something that a kernel can do or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Feature {
    /// A word that stays the same.
    pub feature: String,
    /// Whether it can.
    pub state: State,
    /// How much or by what means; if it cannot, why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What does not work without it, where it is made use of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<&'static str>,
    /// How many instructions the verifier went through, for an eBPF program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_instructions: Option<u32>,
}

/// Whether a kernel can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// That could not be tried.
    Unknown,
}

impl Feature {
    /// One that the kernel has.
    pub(crate) fn yes(feature: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            feature: feature.into(),
            state: State::Yes,
            detail: detail.into(),
            without: None,
            verified_instructions: None,
        }
    }

    /// One that it has not.
    pub(crate) fn no(feature: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::No, ..Self::yes(feature, why) }
    }

    /// One that could not be tried.
    pub(crate) fn unknown(feature: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::yes(feature, why) }
    }

    /// One that the kernel has when trying it did not fail.
    pub(crate) fn tried<E: std::error::Error + Send + Sync + 'static>(
        feature: impl Into<String>,
        result: Result<impl Into<String>, E>,
    ) -> Self {
        match result {
            Ok(detail) => Self::yes(feature, detail),
            Err(error) => Self::no(feature, format!("{:#}", anyhow::Error::from(error))),
        }
    }

    /// What does not work without it.
    pub(crate) fn serves(self, without: &'static str) -> Self {
        Self { without: Some(without), ..self }
    }
}

/// Tries everything. Takes some tenths of a second.
pub fn features() -> Vec<Feature> {
    let mut features = path_manager::features();
    features.extend(bpf::probe::features());
    features
}
