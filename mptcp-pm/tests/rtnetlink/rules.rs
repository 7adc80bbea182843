//! Rules, ours and others.
use std::collections::HashSet;

use mptcp_pm::core::world::{Change, Family, MAIN_TABLE, Rule};

use crate::harness::*;

#[test]
fn rules_and_the_selectors_of_others() {
    in_namespace(|| async {
        let mut observer = Observer::start().await;
        let seen: HashSet<_> = observer.world.rules.iter().map(|r| (r.family, r.priority, r.table)).collect();
        let builtin = HashSet::from([
            (Family::V4, 0, 255),
            (Family::V4, 32766, 254),
            (Family::V4, 32767, 253),
            (Family::V6, 0, 255),
            (Family::V6, 32766, 254),
        ]);
        assert_eq!(seen, builtin);
        assert!(observer.world.rules.iter().all(|rule| !rule.foreign_selectors && rule.protocol == 2));

        let plain = Rule {
            family: Family::V4,
            priority: 500,
            src: Some("10.7.0.2/32".parse().unwrap()),
            table: 1000,
            suppress_prefix_len: None,
            protocol: 0,
            foreign_selectors: false,
        };
        let suppressing = Rule {
            family: Family::V6,
            priority: 501,
            src: None,
            table: MAIN_TABLE,
            suppress_prefix_len: Some(0),
            protocol: 77,
            foreign_selectors: false,
        };
        let shapes = [
            ("-4 rule add from 10.7.0.2 lookup 1000 pref 500", plain.clone()),
            ("-6 rule add lookup main suppress_prefixlength 0 pref 501 protocol 77", suppressing),
        ];
        for (command, rule) in shapes {
            ip(command);
            assert_eq!(observer.all().await, [Change::Rule(rule.clone())], "{command}");
            observer.agrees().await;
            ip(&command.replace("add", "del"));
            assert_eq!(observer.all().await, [Change::RuleGone(rule)], "{command}");
        }

        let selectors = [
            "fwmark 1",
            "fwmark 0x100/0xff00",
            "iif lo",
            "oif east",
            "uidrange 0-9",
            "sport 5",
            "dport 5-6",
            "ipproto tcp",
            "to 10.0.0.0/8",
            "tos 4",
            "not",
        ];
        for selector in selectors {
            let add = format!("rule add {} from 10.7.0.2 lookup 1000 pref 500", selector);
            let add = if selector == "not" {
                add
            } else {
                format!("rule add from 10.7.0.2 {selector} lookup 1000 pref 500")
            };
            ip(&add);
            let foreign = Rule { foreign_selectors: true, ..plain.clone() };
            assert_eq!(observer.all().await, [Change::Rule(foreign.clone())], "{selector}");
            ip(&add.replace("add", "del"));
            assert_eq!(observer.all().await, [Change::RuleGone(foreign)], "{selector}");
        }
        // Two that look alike to us, of which one goes.
        ip("rule add from 10.7.0.2 fwmark 1 lookup 1000 pref 500");
        ip("rule add from 10.7.0.2 fwmark 2 lookup 1000 pref 500");
        ip("rule add from 10.7.0.3 prohibit pref 502");
        observer.all().await;
        ip("rule del from 10.7.0.2 fwmark 1 lookup 1000 pref 500");
        assert_eq!(observer.all().await, []);
        observer.agrees().await;
    });
}
