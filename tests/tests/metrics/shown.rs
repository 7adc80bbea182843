//! The daemon's own endpoint, before figures that are made up: everything that can be measured is.
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use mptcp_pm::config::{Listen, Metrics};
use mptcp_pm::metrics::{Endpoint, Scrape};
use mptcp_pm::view::figures::{Figures, Kind, METRICS, Unit, WINDOW_METRICS, Window, Windows};
use mptcp_pm::view::openmetrics::Exposition;
use mptcp_pm::view::paths::{ConnectionFigures, SubflowFigures};
use mptcp_pm::view::paths::{Paths, ProviderFigures, UplinkFigures};
use serde_json::{Value, json};
use tests::Host;
use tokio::sync::{mpsc, oneshot};

/// A name with what has to be escaped; the configuration accepts no end of line in it.
pub const PROVIDER: &str = "Example \"Fibre\" \\ naïve Co.";

/// The endpoint, in a thread of its own inside a host; ends when dropped.
pub struct Shown {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Shown {
    /// Listens, and answers every scrape.
    pub fn start(host: &Arc<Host>, addr: SocketAddr) -> Result<Self> {
        let (end, ended) = oneshot::channel();
        let host = Arc::clone(host);
        let thread = thread::spawn(move || host.run(|| serve(addr, ended)));
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            assert!(matches!(ended, Some(Ok(Ok(())))), "the endpoint: {ended:?}");
        }
    }
}

fn serve(addr: SocketAddr, ended: oneshot::Receiver<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("start a runtime")?.block_on(async {
        let (sender, mut scrapes) = mpsc::channel::<Scrape>(1);
        let mut endpoint = Endpoint::new(sender);
        let listen = Listen::Loopback(addr);
        endpoint.set(Some(&Metrics { listen, group: "root".into(), subflows: true }))?;
        let answer = async {
            while let Some(scrape) = scrapes.recv().await {
                drop(scrape.reply.send(exposition()));
            }
        };
        tokio::select! {
            () = answer => {}
            _ = ended => {}
        }
        Ok(())
    })
}

/// Two uplinks, one of which has a provider, and a connection with one subflow.
pub fn exposition() -> Exposition {
    let uplink = |name: &str, provider: Option<&str>| UplinkFigures {
        name: name.into(),
        provider: provider.map(str::to_owned),
        figures: figures(),
        history: Vec::new(),
    };
    let remote: SocketAddr = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 443).into();
    let subflow = SubflowFigures {
        uplink: Some("wlan0".into()),
        local: ([192, 0, 2, 7], 40000).into(),
        remote,
        figures: figures(),
    };
    let connection = ConnectionFigures { token: 0xabcd, remote, figures: figures(), subflows: vec![subflow] };
    Exposition {
        paths: Paths {
            uplinks: vec![uplink("wlan0", Some(PROVIDER)), uplink("wwan0", None)],
            providers: vec![ProviderFigures { name: PROVIDER.into(), figures: figures() }],
            ..Paths::default()
        },
        connections: vec![connection],
    }
}

fn figures() -> Figures {
    let window: Value =
        WINDOW_METRICS.iter().map(|metric| (metric.name.to_owned(), json!(0.032768))).collect();
    let window: Window = serde_json::from_value(window).expect("is a window");
    let windows = Windows { second: window, ten_seconds: window, minute: window, ten_minutes: window };
    let value = |kind, unit| match (kind, unit) {
        (Kind::Counter, _) => json!(1_234_567_890_123_u64),
        (Kind::Gauge, Unit::Count) => json!(1),
        (Kind::Gauge, _) => json!(0.25),
    };
    let all: Value =
        METRICS.iter().map(|metric| (metric.name.to_owned(), value(metric.kind, metric.unit))).collect();
    Figures { windows, ..serde_json::from_value(all).expect("are figures") }
}
