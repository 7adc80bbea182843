//! What a profile's `user` setting may say.
use super::*;

fn read(pairs: &[(&str, &str)]) -> (Wishes, Vec<String>) {
    Wishes::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn a_profile_carries_role_provider_and_cost() {
    let (wishes, mistakes) = read(&[
        ("mptcp-pm.role", "backup"),
        ("mptcp-pm.provider", "Example Mobile"),
        ("mptcp-pm.metered", "no"),
        ("my.own", "thing"),
    ]);
    let expected =
        Wishes { role: Some(Role::Backup), provider: Some("Example Mobile".into()), metered: Some(false) };
    assert_eq!((wishes, mistakes), (expected, Vec::new()));
}

#[test]
fn what_cannot_be_meant_is_named() {
    let (wishes, mistakes) = read(&[
        ("mptcp-pm.metered", "maybe"),
        ("mptcp-pm.provider", " "),
        ("mptcp-pm.role", "boss"),
        ("mptcp-pm.rule", "primary"),
    ]);
    assert_eq!(wishes, Wishes::default());
    let expected = [
        "mptcp-pm.metered = \"maybe\": use yes or no",
        "mptcp-pm.provider = \" \": use one line of plain text",
        "mptcp-pm.role = \"boss\": use primary, secondary, backup or off",
        "mptcp-pm.rule = \"primary\": known are mptcp-pm.role, mptcp-pm.provider and mptcp-pm.metered",
    ];
    assert_eq!(mistakes, expected);
}
