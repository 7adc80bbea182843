//! Service types: set by hand at the daemon, explained from the configuration alone.
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::args::service::{ExplainArgs, ServiceCommand};
use super::show;
use crate::config::Config;
use crate::control::{Client, Request};
use crate::core::service::{Owner, PassedOver, Rules, Service, Subject, Why};

/// Has the daemon set or reset the service type of a connection.
pub(super) fn change(command: ServiceCommand) -> Result<String> {
    let (token, service, daemon) = match command {
        ServiceCommand::Set { token, service, daemon } => (token, Some(service), daemon),
        ServiceCommand::Reset { token, daemon } => (token, None, daemon),
    };
    Client::connect(&daemon.socket)?.request(&Request::Service { token, service })?;
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
    let (decided, passed_over) = (rules.decide(&subject), rules.passed_over(&subject));
    Ok(match args.output.json {
        true => json_of(decided, &passed_over),
        false => text_of(decided, &passed_over, &config, args.config.as_deref()),
    })
}

fn json_of((service, why): (Service, Why), passed_over: &[PassedOver]) -> String {
    let mut object = json!({ "service": service, "passed_over": passed_over });
    // An object, since `Why` is tagged.
    if let (Some(object), Ok(serde_json::Value::Object(why))) =
        (object.as_object_mut(), serde_json::to_value(why))
    {
        object.extend(why);
    }
    show::json(&object)
}

fn text_of(
    (service, why): (Service, Why),
    passed_over: &[PassedOver],
    config: &Config,
    file: Option<&Path>,
) -> String {
    let file = file.unwrap_or(Path::new(crate::config::DEFAULT_FILE)).display();
    let passed: String = passed_over
        .iter()
        .map(|PassedOver { rule, line, condition }| {
            format!("{file}:{line}: rule {rule} does not match: {condition}\n")
        })
        .collect();
    let service = service.name();
    let decided = match why {
        Why::Rule { rule, line } => format!("{file}:{line}: rule {rule} decides: {service}\n"),
        Why::Configuration => format!("no rule matches; {file} says service = \"{service}\"\n"),
        Why::Profile | Why::Hand => {
            format!("no rule matches; the profile {} says {service}\n", config.profile.name())
        }
    };
    passed + &decided
}
