//! `[[application]]` tables as the object `mptcpify` has them: a bit each, and what leads to them.
use std::collections::BTreeMap;

use mptcp_common::applications::{NAME_LENGTH, Tables};

use crate::config::{ApplicationRule, CgroupGlob, Names};

/// How a name begins: the bits that count, and the bytes.
pub(super) type Beginning = (u32, [u8; NAME_LENGTH]);

/// All that the tables say.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Those that say yes.
    pub say_yes: Tables,
    /// Those that any name fits.
    pub any_name: Tables,
    /// Those that any user fits.
    pub any_user: Tables,
    /// Those that any cgroup fits.
    pub any_cgroup: Tables,
    /// By how names begin; what a shorter beginning leads to, a longer one leads to as well.
    pub names: BTreeMap<Beginning, Tables>,
    /// By user.
    pub users: BTreeMap<u32, Tables>,
    /// By cgroup.
    pub cgroups: Vec<(CgroupGlob, Tables)>,
}

impl Plan {
    /// Takes in the tables that say something about MPTCP; those beyond the last bit, which no configuration has, are left
    /// out.
    pub fn of(rules: &[ApplicationRule]) -> Self {
        let mut plan = Self::default();
        let deciding = rules.iter().filter_map(|rule| Some((rule, rule.mptcp?)));
        for ((rule, yes), bit) in deciding.zip(0..Tables::BITS) {
            let bit: Tables = 1 << bit;
            if yes {
                plan.say_yes |= bit;
            }
            match rule.matching.process.as_ref().map(Names::of) {
                None => plan.any_name |= bit,
                Some(names) => plan.name(names.unwrap_or_default(), bit),
            }
            match rule.matching.uid {
                None => plan.any_user |= bit,
                Some(user) => *plan.users.entry(user).or_default() |= bit,
            }
            match &rule.matching.cgroup {
                None => plan.any_cgroup |= bit,
                Some(glob) => plan.cgroups.push((glob.clone(), bit)),
            }
        }
        plan.spread();
        plan
    }

    /// The tables that a cgroup fits, by its path.
    pub fn fitting(&self, path: &str) -> Tables {
        let fitting = self.cgroups.iter().filter(|(glob, _)| glob.matches(path));
        fitting.fold(0, |tables, (_, bit)| tables | bit)
    }

    fn name(&mut self, names: Names, bit: Tables) {
        // The zero at its end makes a name a whole one.
        let whole = names.whole.into_iter().map(|name| name + "\0");
        for beginning in whole.chain(names.beginnings) {
            if beginning.is_empty() {
                self.any_name |= bit;
                continue;
            }
            let mut bytes = [0; NAME_LENGTH];
            bytes.iter_mut().zip(beginning.bytes()).for_each(|(place, byte)| *place = byte);
            *self.names.entry((beginning.len() as u32 * 8, bytes)).or_default() |= bit;
        }
    }

    /// The kernel finds the longest beginning alone, which has to stand for the shorter ones.
    fn spread(&mut self) {
        let direct = self.names.clone();
        for ((bits, bytes), tables) in &mut self.names {
            let shorter = direct.iter().filter(|((fewer, start), _)| {
                let length = *fewer as usize / 8;
                fewer < bits && start[..length] == bytes[..length]
            });
            *tables = shorter.fold(*tables, |all, (_, tables)| all | tables);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn plan(text: &str) -> Plan {
        Plan::of(&Config::parse(text, "test.toml").expect("is right").applications)
    }

    #[test]
    fn a_longer_beginning_stands_for_the_shorter_ones() {
        let text = "[[application]]\nmatch = { process = \"py*\" }\nmptcp = true\n\
            [[application]]\nmatch = { process = \"p{ython3,ytho*,erl}\" }\nmptcp = false\n";
        let key = |name: &str| {
            let mut bytes = [0; NAME_LENGTH];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            (name.len() as u32 * 8, bytes)
        };
        let expected = [(key("py"), 1), (key("perl\0"), 2), (key("pytho"), 3), (key("python3\0"), 3)];
        // `pytho*` is not a whole rule of its own before `py*`: the first bit stays lower.
        assert_eq!(plan(text).names, BTreeMap::from(expected));
    }

    #[test]
    fn what_a_table_does_not_ask_for_any_fits() {
        let text = "[[application]]\nmatch = { uid = 5 }\nmptcp = true\n\
            [[application]]\nmatch = { port = 22 }\nservice = \"single\"\n\
            [[application]]\nmatch = { cgroup = \"/a/b*\", process = \"*\" }\nmptcp = true\n";
        let plan = plan(text);
        assert_eq!((plan.say_yes, plan.any_name, plan.any_user, plan.any_cgroup), (3, 3, 2, 1));
        assert_eq!(plan.users, BTreeMap::from([(5, 1)]));
        assert_eq!([plan.fitting("/a/bc"), plan.fitting("/a/bc/d"), plan.fitting("/a")], [2, 2, 0]);
    }
}
