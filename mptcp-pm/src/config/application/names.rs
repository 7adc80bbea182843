//! Patterns for the names of processes as far as the kernel can decide on them: whole names, and how names begin.
use crate::config::NameGlob;

/// `TASK_COMM_LEN - 1` (`include/linux/sched.h`).
pub const MAX_PROCESS: usize = 15;

/// Names of which one fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Whole names.
    pub whole: Vec<String>,
    /// Beginnings of names; an empty one is that of any.
    pub beginnings: Vec<String>,
}

impl Names {
    /// What a pattern says: one or several names in braces, each with `*` at its end or without. None where it says more
    /// than that, or something that no process is called.
    pub fn of(pattern: &NameGlob) -> Option<Self> {
        let mut names = Self::default();
        for name in alternatives(pattern.pattern())? {
            let (stem, list) = match name.trim_end_matches('*') {
                stem if stem.len() < name.len() => (stem, &mut names.beginnings),
                stem => (stem, &mut names.whole),
            };
            let is_empty = stem.is_empty() && name.is_empty();
            if is_empty || stem.len() > MAX_PROCESS || !super::super::matching::is_plain(stem) {
                return None;
            }
            list.push(stem.to_owned());
        }
        Some(names)
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.whole.len() + self.beginnings.len()
    }
}

/// The words that come of a pattern with groups in braces, of which none is inside of another.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let Some((before, rest)) = pattern.split_once('{') else { return Some(vec![pattern.to_owned()]) };
    let (group, after) = rest.split_once('}')?;
    let mut words = Vec::new();
    for end in alternatives(after)? {
        words.extend(group.split(',').map(|word| format!("{before}{word}{end}")));
    }
    // A brace that is left is one inside of another.
    (!group.split(',').any(str::is_empty)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str) -> Option<(Vec<String>, Vec<String>)> {
        Names::of(&NameGlob::new(pattern).expect("a pattern")).map(|names| (names.whole, names.beginnings))
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn names_and_beginnings_in_braces_or_not() {
        assert_eq!(of("curl"), Some((words(&["curl"]), vec![])));
        assert_eq!(of("python3*"), Some((vec![], words(&["python3"]))));
        assert_eq!(of("*"), Some((vec![], words(&[""]))));
        assert_eq!(of("{curl,wget*}"), Some((words(&["curl"]), words(&["wget"]))));
        assert_eq!(of("bg{p,pd}"), Some((words(&["bgp", "bgpd"]), vec![])));
    }

    #[test]
    fn what_else_a_pattern_may_say_is_not_for_the_kernel() {
        for pattern in ["a?", "[ab]c", "*d", "a*d", "a{b,{c,d}}", "a\\*", "{abcdefghijklmnop,b}"] {
            assert_eq!(of(pattern), None, "{pattern}");
        }
    }

    proptest::proptest! {
        /// What is said in names is what the pattern itself means.
        #[test]
        fn they_fit_what_the_pattern_fits(pattern in "[ab]{0,2}(\\{[ab]{1,2}\\*?,[ab]{1,3}\\})?[ab]{0,2}\\*?", name in "[ab]{1,6}") {
            let Ok(glob) = NameGlob::new(&pattern) else { return Ok(()) };
            let Some(names) = Names::of(&glob) else { return Ok(()) };
            let fits = names.whole.contains(&name)
                || names.beginnings.iter().any(|beginning| name.starts_with(beginning.as_str()));
            proptest::prop_assert_eq!(fits, glob.matches(&name), "{} {}", pattern, name);
        }
    }
}
