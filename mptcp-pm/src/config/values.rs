//! Reads single values out of a parsed TOML table; mistakes are collected, not thrown.
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problems, Refusal, refuse};

/// One table of the file.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a, 't> {
    table: &'a DeTable<'t>,
    /// Where it begins, in bytes of the text.
    pub(super) at: usize,
}

impl<'a, 't> Fields<'a, 't> {
    pub(super) fn new(table: &'a DeTable<'t>, at: usize) -> Self {
        Self { table, at }
    }

    /// Refuses the keys that are not `known`.
    pub(super) fn expect(&self, known: &[&str], problems: &mut Problems) {
        for key in self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let what = format!("unknown key {:?}", key.get_ref());
            problems.add(key.span().start, refuse(what, format!("known here: {}", known.join(", "))));
        }
    }

    /// Whether there is no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether there is a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether there is a key whose value is a table.
    pub(super) fn has_table(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Where the value of a key begins; the table's begin where there is none.
    pub(super) fn place(&self, key: &str) -> usize {
        self.value(key).map_or(self.at, |value| value.span().start)
    }

    /// The value of a key as `convert` understands it; none where there is none or it is refused.
    pub(super) fn read<T>(
        &self,
        key: &str,
        problems: &mut Problems,
        convert: impl FnOnce(&'a DeValue<'t>) -> Result<T, Refusal>,
    ) -> Option<T> {
        let value = self.value(key)?;
        convert(value.get_ref()).map_err(|refusal| problems.add(value.span().start, refusal)).ok()
    }

    /// The table under a key.
    pub(super) fn table(&self, key: &str, problems: &mut Problems) -> Option<Self> {
        let at = self.place(key);
        let table = self.read(key, problems, |value| {
            value.as_table().ok_or_else(|| wrong_type(value, "a table: write { … }"))
        })?;
        Some(Self::new(table, at))
    }

    /// The array of tables under a key.
    pub(super) fn tables(&self, key: &str, problems: &mut Problems) -> Vec<Self> {
        let remedy = format!("tables: begin each with [[{key}]]");
        let array =
            self.read(key, problems, |value| value.as_array().ok_or_else(|| wrong_type(value, &remedy)));
        let mut element = |value: &'a Spanned<DeValue<'t>>| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                problems.add(value.span().start, wrong_type(value.get_ref(), &remedy));
            }
            table.map(|table| Self::new(table, value.span().start))
        };
        array.into_iter().flatten().filter_map(&mut element).collect()
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.table.get(key)
    }
}

/// A string.
pub(super) fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Refusal> {
    value.as_str().ok_or_else(|| wrong_type(value, "a string: put it in quotes"))
}

/// A string with something to read in it.
pub(super) fn words(value: &DeValue<'_>) -> Result<String, Refusal> {
    let text = string(value)?;
    if text.trim().is_empty() {
        return Err(refuse("empty string", "say something, or leave the key out"));
    }
    if text.contains(char::is_control) {
        return Err(refuse(format!("control character in {text:?}"), "use one line of plain text"));
    }
    Ok(text.to_owned())
}

/// True or false.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Refusal> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// A whole number from 0 to `max`.
pub(super) fn count(value: &DeValue<'_>, max: u32) -> Result<u32, Refusal> {
    let range = format!("a whole number from 0 to {max}");
    let number = value.as_integer().ok_or_else(|| wrong_type(value, &range))?;
    u32::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| refuse(format!("{number} is out of range"), format!("use {range}")))
}

/// One word of several.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Refusal> {
    let word = string(value)?;
    let found = choices.iter().find(|(name, _)| *name == word);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        refuse(format!("unknown value {word:?}"), format!("use one of {}", names.join(", ")))
    })
}

/// Refuses a value for its type.
pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &str) -> Refusal {
    refuse(format!("wrong type, {}", value.type_str()), format!("expected {wanted}"))
}
