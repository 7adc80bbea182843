//! Tests of the command line: what parses, what is refused as wrong usage, what help looks like.
use clap::{CommandFactory, error::ErrorKind};

use super::*;
use args::pm::{EndpointCommand, LimitsCommand, Priority, SubflowCommand};
use values::Target;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = ["mptcp-pm"].into_iter().chain(line.split_whitespace());
    Args::try_parse_from(words).map(|args| args.command)
}

fn refusal(line: &str) -> ErrorKind {
    parse(line).err().unwrap_or_else(|| panic!("parses: {line}")).kind()
}

#[test]
fn the_description_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_command_parses() {
    for line in [
        "run",
        "run --config /etc/x.toml --socket /run/x --runtime-dir /run/y",
        "status --json --socket /run/x",
        "metrics --socket /run/x",
        "top",
        "top --interval 0.5 --socket /run/x",
        "monitor --json",
        "endpoint list",
        "endpoint list --token 0x12 --json",
        "endpoint add 192.0.2.1 --id 3 --dev wlan0 --subflow --backup --fullmesh",
        "endpoint add 2001:db8::1 --signal --port 5000",
        "endpoint add 192.0.2.1 --laminar",
        "endpoint change 3 --backup --no-fullmesh",
        "endpoint change 192.0.2.1 --port 5000 --no-backup --fullmesh",
        "endpoint delete 3",
        "endpoint delete 3 192.0.2.1",
        "endpoint delete 0 192.0.2.1",
        "endpoint flush",
        "limits",
        "limits --json",
        "limits show --json",
        "limits set --subflows 4 --add-addr-accepted 4",
        "limits set --subflows 0",
        "subflow create --token 1 --local 192.0.2.1 --local-id 2 --dev wlan0 --remote 192.0.2.9:80 --backup",
        "subflow destroy --token 1 --local 192.0.2.1:5 --remote 192.0.2.9:80",
        "announce --token 1 192.0.2.1 --id 3 --port 5000 --dev wlan0",
        "withdraw --token 1 --id 0",
        "priority --token 1 --local 192.0.2.1 --remote 192.0.2.9:80 backup",
        "priority --token 1 --local [2001:db8::1]:5 --remote [2001:db8::2]:80 active",
        "service set 0x12 interactive --socket /run/x",
        "service reset 18",
        "explain",
        "explain --process curl --uid 0 --cgroup / --remote 192.0.2.9:80 --config x.toml --json",
        "explain --remote 2001:db8::9 --accepted-on 443",
        "doctor --json",
        "config check x.toml",
        "cleanup --runtime-dir /run/y",
        "reload --socket /run/x",
        "completions zsh",
        "man",
        "man --dir x",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_is_parsed_is_what_was_said() {
    let Ok(Command::Endpoint(EndpointCommand::Change(change))) =
        parse("endpoint change 2001:db8::1 --port 5 --no-backup --fullmesh")
    else {
        panic!("another command")
    };
    assert_eq!(change.target, Target::Addr("2001:db8::1".parse().expect("parses")));
    assert_eq!(
        (change.backup, change.no_backup, change.fullmesh, change.no_fullmesh),
        (false, true, true, false)
    );
    assert_eq!(change.port, Some(5));
    let line = "subflow create --token 0xff --local 192.0.2.1 --local-id 2 --remote 192.0.2.9:80";
    let Ok(Command::Subflow(SubflowCommand::Create { token, local_id, remote, backup, dev, .. })) =
        parse(line)
    else {
        panic!("another command")
    };
    assert_eq!((token, local_id, remote.port(), backup, dev), (255, 2, 80, false, None));
    let Ok(Command::Priority(priority)) =
        parse("priority --token 1 --local 192.0.2.1 --remote 192.0.2.9:80 backup")
    else {
        panic!("another command")
    };
    assert_eq!((priority.local.port(), priority.priority), (0, Priority::Backup));
    let Ok(Command::Limits(limits)) = parse("limits set --add-addr-accepted 8") else {
        panic!("another command")
    };
    let Some(LimitsCommand::Set(set)) = limits.command else { panic!("another command") };
    assert_eq!((set.subflows, set.add_addr_accepted), (None, Some(8)));
}

#[test]
fn wrong_usage_is_refused() {
    for (line, kind) in [
        ("endpoint add 192.0.2.1", ErrorKind::MissingRequiredArgument),
        ("endpoint add 192.0.2.1 --dev wlan0", ErrorKind::MissingRequiredArgument),
        ("endpoint add 192.0.2.1 --subflow --id 0", ErrorKind::ValueValidation),
        ("endpoint add 192.0.2.1 --subflow --id 256", ErrorKind::ValueValidation),
        ("endpoint add 192.0.2.1 --signal --fullmesh", ErrorKind::ArgumentConflict),
        ("endpoint add 192.0.2.1 --subflow --port 5000", ErrorKind::ArgumentConflict),
        ("endpoint add 192.0.2.1 --backup --port 5000", ErrorKind::MissingRequiredArgument),
        ("endpoint add 192.0.2.1 --signal --port 0", ErrorKind::ValueValidation),
        ("endpoint add wlan0 --subflow", ErrorKind::ValueValidation),
        ("endpoint change 0 --backup", ErrorKind::ValueValidation),
        ("endpoint change 1", ErrorKind::MissingRequiredArgument),
        ("endpoint change 1 --port 5", ErrorKind::MissingRequiredArgument),
        ("endpoint change 1 --backup --no-backup", ErrorKind::ArgumentConflict),
        ("endpoint change 1 --fullmesh --no-fullmesh", ErrorKind::ArgumentConflict),
        ("endpoint delete 192.0.2.1", ErrorKind::ValueValidation),
        ("endpoint delete 0", ErrorKind::MissingRequiredArgument),
        ("limits set", ErrorKind::MissingRequiredArgument),
        ("service set 1", ErrorKind::MissingRequiredArgument),
        ("service set 1 fast", ErrorKind::InvalidValue),
        ("explain --remote 192.0.2", ErrorKind::ValueValidation),
        ("limits --json set --subflows 1", ErrorKind::ArgumentConflict),
        (
            "subflow create --token 1 --local 192.0.2.1 --local-id 0 --remote 192.0.2.9:80",
            ErrorKind::ValueValidation,
        ),
        ("subflow destroy --token 1 --local 192.0.2.1 --remote 192.0.2.9:80", ErrorKind::ValueValidation),
        ("announce --token 1 192.0.2.1 --id 0", ErrorKind::ValueValidation),
        ("withdraw --id 3", ErrorKind::MissingRequiredArgument),
        ("priority --token 1 --local 192.0.2.1 --remote 192.0.2.9:80", ErrorKind::MissingRequiredArgument),
        ("priority --token 1 --local 192.0.2.1 --remote 192.0.2.9:80 off", ErrorKind::InvalidValue),
        ("top --interval 0", ErrorKind::ValueValidation),
        ("top --interval NaN", ErrorKind::ValueValidation),
        ("top --interval 1e300", ErrorKind::ValueValidation),
        ("frobnicate", ErrorKind::InvalidSubcommand),
    ] {
        assert_eq!(refusal(line), kind, "{line}");
    }
}

/// A command and all below it.
fn family(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().flat_map(family);
    [command.clone()].into_iter().chain(below).collect()
}

#[test]
fn all_help_fits_eighty_columns_and_explains_every_word() {
    let mut root = Args::command();
    root.build();
    for mut command in family(&root) {
        assert!(command.get_about().is_some(), "{} is not explained", command.get_name());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
        }
        for help in [command.render_help(), command.render_long_help()].map(|help| help.to_string()) {
            let wide = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{}", command.get_name());
        }
    }
}

#[test]
fn a_right_configuration_is_told_from_a_wrong_one() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "profile = \"heavy\"\n").expect("writes");
    assert!(check_config(file.path()).expect("is right").contains("profile heavy, 0 uplink rules"));
    std::fs::write(file.path(), "profil = \"heavy\"\n").expect("writes");
    let message = check_config(file.path()).expect_err("is wrong").to_string();
    assert!(message.starts_with(&format!("{}:1:1: unknown key", file.path().display())), "{message}");
}

#[test]
fn without_a_daemon_the_remedy_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = reload(&folder.path().join("control")).expect_err("nobody is there").to_string();
    assert!(message.starts_with("no mptcp-pm daemon at "), "{message}");
    assert!(message.contains("`mptcp-pm run`"), "{message}");
}
