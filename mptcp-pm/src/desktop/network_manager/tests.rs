//! From what NetworkManager tells to hints.
use zbus::zvariant::Value;

use super::*;
use crate::config::Role;

const DEVICE_PATH: &str = "/org/freedesktop/NetworkManager/Devices/3";
const ACTIVE_PATH: &str = "/org/freedesktop/NetworkManager/ActiveConnection/5";
const PROFILE_PATH: &str = "/org/freedesktop/NetworkManager/Settings/7";

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).unwrap()
}

fn properties(pairs: &[(&str, Value<'_>)]) -> Properties {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.try_to_owned().unwrap())).collect()
}

/// A modem that is active, with the profile of a mobile network.
fn modem(metered: u32, starting: bool) -> NetworkManager {
    let device = properties(&[
        ("Interface", "cdc-wdm0".into()),
        ("IpInterface", "wwan0".into()),
        ("DeviceType", 8_u32.into()),
        ("State", 100_u32.into()),
        ("Metered", metered.into()),
        ("Ip4Connectivity", 4_u32.into()),
        ("Ip6Connectivity", 2_u32.into()),
        ("ActiveConnection", path(ACTIVE_PATH).into()),
    ]);
    let active = properties(&[
        ("Connection", path(PROFILE_PATH).into()),
        ("Id", "Mobile".into()),
        ("Uuid", "11111111-1111-1111-1111-111111111111".into()),
        ("Type", "gsm".into()),
        ("Vpn", false.into()),
    ]);
    let manager = properties(&[("Startup", starting.into()), ("ConnectivityCheckEnabled", true.into())]);
    let mut network_manager = NetworkManager::default();
    network_manager.replace(HashMap::from([
        (path("/org/freedesktop/NetworkManager"), HashMap::from([(NAME.to_owned(), manager)])),
        (path(DEVICE_PATH), HashMap::from([(DEVICE.to_owned(), device)])),
        (path(ACTIVE_PATH), HashMap::from([(ACTIVE.to_owned(), active)])),
    ]));
    network_manager
}

/// What the cost is while it is being activated.
#[test]
fn until_it_is_up_the_profile_tells_the_cost() {
    let mut network_manager = modem(0, false);
    network_manager.change(DEVICE_PATH, DEVICE, &properties(&[("State", 70_u32.into())]));
    network_manager.unread_profiles();
    let connection = properties(&[("metered", 1_i32.into())]);
    network_manager.read_profile(PROFILE_PATH, &HashMap::from([("connection".to_owned(), connection)]));
    let hint = &network_manager.hints()["wwan0"];
    assert_eq!(hint.metered, Some(Metered { yes: true, guessed: false }));
    assert_eq!(hint.ipv4, Connectivity::Unknown);
}

fn user_data(pairs: &[(&str, &str)]) -> HashMap<String, Properties> {
    let data: HashMap<&str, &str> = pairs.iter().copied().collect();
    HashMap::from([("user".to_owned(), properties(&[("data", data.into())]))])
}

#[test]
fn an_active_device_is_described_when_its_profile_is_read() {
    let mut network_manager = modem(3, false);
    assert_eq!(network_manager.unread_profiles(), [PROFILE_PATH]);
    assert!(network_manager.hints().is_empty() && !network_manager.is_read());
    assert!(network_manager.unread_profiles().is_empty(), "asked twice");
    network_manager.read_profile(PROFILE_PATH, &user_data(&[("mptcp-pm.role", "backup")]));
    assert!(network_manager.is_settled());
    let hint = &network_manager.hints()["wwan0"];
    assert_eq!(hint.metered, Some(Metered { yes: true, guessed: true }));
    assert_eq!((hint.ipv4, hint.ipv6), (Connectivity::Full, Connectivity::Portal));
    assert_eq!(hint.profile.as_ref().map(|profile| profile.id.as_str()), Some("Mobile"));
    assert_eq!(hint.wishes.role, Some(Role::Backup));
    assert!(hint.radio && !hint.vpn);
}

#[test]
fn changes_are_followed() {
    let mut network_manager = modem(3, true);
    network_manager.unread_profiles();
    network_manager.read_profile(PROFILE_PATH, &HashMap::new());
    assert!(!network_manager.is_settled(), "it starts");
    network_manager.change("/any", NAME, &properties(&[("Startup", false.into())]));
    assert!(network_manager.is_settled());
    network_manager.change(DEVICE_PATH, DEVICE, &properties(&[("Metered", 2_u32.into())]));
    assert_eq!(network_manager.hints()["wwan0"].metered, Some(Metered { yes: false, guessed: false }));
    network_manager.change("/any", NAME, &properties(&[("ConnectivityCheckEnabled", false.into())]));
    assert_eq!(network_manager.hints()["wwan0"].ipv4, Connectivity::Unknown, "nobody checks");
    network_manager.change(ACTIVE_PATH, ACTIVE, &properties(&[("Vpn", true.into())]));
    assert!(network_manager.hints()["wwan0"].vpn);
    // What is not what it should be changes nothing.
    network_manager.change(DEVICE_PATH, DEVICE, &properties(&[("Metered", "much".into())]));
    assert_eq!(network_manager.hints().len(), 1);
    network_manager.change(DEVICE_PATH, DEVICE, &properties(&[("State", 30_u32.into())]));
    assert!(network_manager.hints().is_empty(), "it is not active");
}

#[test]
fn a_changed_profile_is_read_again_and_a_lost_one_forgotten() {
    let mut network_manager = modem(1, false);
    network_manager.unread_profiles();
    network_manager.read_profile(PROFILE_PATH, &HashMap::new());
    network_manager.forget_profile(PROFILE_PATH);
    assert_eq!(network_manager.unread_profiles(), [PROFILE_PATH]);
    network_manager.read_profile(PROFILE_PATH, &user_data(&[("mptcp-pm.role", "chief")]));
    assert_eq!(network_manager.hints()["wwan0"].mistakes.len(), 1);
    network_manager.remove(path(ACTIVE_PATH), vec![ACTIVE.to_owned()]);
    assert!(network_manager.unread_profiles().is_empty() && network_manager.profiles.is_empty());
    network_manager.remove(path(DEVICE_PATH), vec![DEVICE.to_owned()]);
    assert!(network_manager.hints().is_empty());
}
