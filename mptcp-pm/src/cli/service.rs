//! Service types: set by hand at the daemon, explained from the configuration alone.
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::args::service::{ExplainArgs, ServiceCommand};
use super::show;
use crate::config::Config;
use crate::control::{Client, Request};
use crate::core::service::{Conversion, Owner, PassedOver, Rules, Service, Subject, Why};

/// Has the daemon set or reset the service type of a connection.
pub(super) fn change(command: ServiceCommand) -> Result<String> {
    let (token, service, daemon) = match command {
        ServiceCommand::Set { token, service, daemon } => (token, Some(service), daemon),
        ServiceCommand::Reset { token, daemon } => (token, None, daemon),
    };
    Client::connect(&daemon.path())?.request(&Request::Service { token, service })?;
    Ok(match service {
        Some(service) => format!("connection {token:#010x} is {} until it ends\n", service.name()),
        None => format!("connection {token:#010x} has the service type that the configuration says\n"),
    })
}

/// Says which rule decides on a connection.
pub(super) fn explain(args: &ExplainArgs) -> Result<String> {
    let config = Config::load_or_default(args.config.as_deref())?;
    let owner = Owner {
        process: args.process.clone(),
        uid: args.uid,
        cgroup: args.cgroup.clone(),
        ..Owner::default()
    };
    // An address without a port says nothing of the port.
    let to = args.remote.map(|remote| remote.port()).filter(|port| *port != 0);
    let subject = Subject {
        owner: &owner,
        remote: args.remote.map(|remote| remote.ip()),
        port: args.accepted_on.or(to),
    };
    let rules = Rules::of(&config);
    let decided = Decided {
        service: rules.decide(&subject),
        passed_over: rules.passed_over(&subject),
        mptcp: rules.mptcp(&subject),
    };
    Ok(match args.output.json {
        true => json_of(&decided),
        false => text_of(&decided, &config, args.config.as_deref()),
    })
}

/// What the rules say.
struct Decided {
    service: (Service, Why),
    passed_over: Vec<PassedOver>,
    mptcp: Conversion,
}

fn json_of(decided: &Decided) -> String {
    let Decided { service: (service, why), passed_over, mptcp } = decided;
    let mut object = json!({ "service": service, "passed_over": passed_over, "mptcp": mptcp });
    // An object, since `Why` is tagged.
    if let (Some(object), Ok(serde_json::Value::Object(why))) =
        (object.as_object_mut(), serde_json::to_value(why))
    {
        object.extend(why);
    }
    show::json(&object)
}

fn text_of(decided: &Decided, config: &Config, file: Option<&Path>) -> String {
    let file = file.unwrap_or(Path::new(crate::config::DEFAULT_FILE)).display();
    let passed = |passed_over: &[PassedOver]| -> String {
        let line = |PassedOver { rule, line, condition }: &PassedOver| {
            format!("{file}:{line}: rule {rule} does not match: {condition}\n")
        };
        passed_over.iter().map(line).collect()
    };
    let (service, why) = decided.service;
    let service = service.name();
    let by = match why {
        Why::Rule { rule, line } => format!("{file}:{line}: rule {rule} decides: {service}\n"),
        Why::Slice => format!("no rule matches; its slice says {service}\n"),
        Why::Configuration => format!("no rule matches; {file} says service = \"{service}\"\n"),
        Why::Profile | Why::Hand => {
            format!("no rule matches; the profile {} says {service}\n", config.profile.name())
        }
    };
    let Conversion { becomes, rule, line, passed_over } = &decided.mptcp;
    let does = if *becomes { "its TCP sockets become MPTCP" } else { "its TCP sockets stay TCP" };
    let mptcp = match (rule, line) {
        (Some(rule), Some(line)) => format!("{file}:{line}: rule {rule} decides: {does}\n"),
        _ => format!("no rule with mptcp matches; {does}\n"),
    };
    [passed(&decided.passed_over), by, passed(passed_over), mptcp].concat()
}
