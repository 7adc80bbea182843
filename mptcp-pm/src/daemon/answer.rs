//! What the daemon answers to those who ask: on the control socket, on D-Bus, for scrapes.
use serde::Serialize;

use super::Daemon;
use crate::control::{Call, Failure, Reply, Request};
use crate::core::action::Token;
use crate::core::event::Event;
use crate::core::service::{Service, Why};
use crate::measure::Measure;
use crate::view::connections::{Connections, Decided};
use crate::view::openmetrics::{self, Exposition};
use crate::view::status::{Feature, Status};

impl Daemon {
    /// Does what is asked for.
    pub(super) async fn answer(&mut self, call: Call) {
        let reply = match call.request {
            Request::Ping {} => Reply::Ok(serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
            Request::Status {} => {
                self.feed(Event::Look);
                self.act().await;
                self.tell_places();
                self.measure(Measure::look);
                // By what was read.
                self.act().await;
                self.status().await
            }
            Request::Metrics {} => match openmetrics::text(self.exposition()) {
                Ok(text) => Reply::Ok(text.into()),
                Err(error) => {
                    Reply::Error(Failure::new(format!("cannot write the metrics: {error}"), "report this"))
                }
            },
            // The server does the rest.
            Request::Monitor {} => Reply::Ok(serde_json::json!({ "ebpf": self.features() })),
            Request::Service { token, service } => match self.service_of(token).await {
                Ok(_) => {
                    self.feed(Event::Service(token, service));
                    self.act().await;
                    self.tell_services(true);
                    Reply::Ok(serde_json::json!({}))
                }
                Err(failure) => Reply::Error(failure),
            },
            Request::ServiceOf { token } => match self.service_of(token).await {
                Ok((service, why)) => shown(&Decided { service, why }),
                Err(failure) => Reply::Error(failure),
            },
            Request::Hook { vpn } => {
                tracing::debug!(?vpn, "hook of NetworkManager's dispatcher");
                if let Some(vpn) = vpn {
                    let told = self.desktop.vpn(vpn.interface, vpn.up);
                    self.feed(told);
                }
                // What is to be done is done when the hook has its answer.
                self.feed(Event::Look);
                Reply::Ok(serde_json::json!({}))
            }
            Request::Reload {} => match self.reload() {
                Ok(()) => {
                    self.act().await;
                    Reply::Ok(serde_json::json!({}))
                }
                Err(error) => Reply::Error(Failure::new(
                    format!("{error:#}"),
                    "the configuration in force stays; correct the file and reload again",
                )),
            },
        };
        // A client that has gone does not want to know.
        let _ = call.reply.send(reply);
    }

    /// The service type that acts on a connection, and who has decided it.
    async fn service_of(&self, token: Token) -> Result<(Service, Why), Failure> {
        let connections = self.core.connections();
        if let Some(found) = connections.service(token) {
            return Ok(found);
        }
        if connections.is_the_kernels(token) {
            return Err(unserved(token));
        }
        Err(match Connections::has_fallen_back(token).await {
            Ok(Some(false)) => unserved(token),
            Ok(Some(true)) => Failure::new(
                format!("connection {token:#010x} has fallen back to TCP and has one path"),
                "see `mptcp-pm doctor` for the reasons",
            ),
            Ok(None) => Failure::new(
                format!("no MPTCP connection has the token {token:#010x}"),
                "see `mptcp-pm status` for those that there are",
            ),
            Err(error) => Failure::new(error.to_string(), "try again"),
        })
    }

    /// What a scrape shows; connections where the configuration asks for them.
    pub(super) fn exposition(&mut self) -> Exposition {
        self.tell_places();
        self.measure(Measure::refresh);
        let stats = self.measure.stats();
        let connections =
            if self.endpoint.shows_subflows() { stats.connections().each() } else { Vec::new() };
        Exposition { paths: stats.paths(), connections }
    }

    fn features(&self) -> Vec<Feature> {
        let always = [self.measure.feature(), self.owners.feature()];
        let others = [
            self.executor.alarms.feature(),
            self.queues.feature(),
            self.measure.coupling(),
            self.applications.feature(),
        ];
        always.into_iter().chain(others.into_iter().flatten()).collect()
    }

    async fn status(&self) -> Reply {
        let report = self.core.report();
        let endpoints: Vec<_> = report.endpoints.iter().map(|report| &report.endpoint).collect();
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connections: Connections::read(
                &report.uplinks,
                &endpoints,
                &self.measure.stats().connections(),
                self.core.connections().served().collect(),
            )
            .await,
            report,
            paths: self.measure.stats().paths(),
            desktop: self.desktop.status(),
            ebpf: self.features(),
            silence: self.executor.alarms.left_out(),
            windows_mended: self.measure.windows_mended(),
        };
        shown(&status)
    }
}

fn shown(answer: &impl Serialize) -> Reply {
    match serde_json::to_value(answer) {
        Ok(value) => Reply::Ok(value),
        Err(error) => Reply::Error(Failure::new(format!("cannot write the answer: {error}"), "report this")),
    }
}

/// A connection that service types do not act on.
fn unserved(token: Token) -> Failure {
    Failure::new(
        format!("the kernel manages the paths of connection {token:#010x}, for all connections alike"),
        "use manager = \"daemon\", for connections made from then on",
    )
}
