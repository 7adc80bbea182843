//! The figures as OpenMetrics 1.0 text, derived from their descriptions.
#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use super::figures::{Figures, Kind, METRICS, Unit, WINDOW_METRICS};
use super::paths::{ConnectionFigures, Losses, Paths, SubflowFigures};

/// What each name begins with, before the thing that is measured.
pub const PREFIX: &str = "mptcp_pm";

/// All that one scrape shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition {
    /// Uplinks, providers, losses.
    pub paths: Paths,
    /// The connections; none where they are not asked for.
    pub connections: Vec<ConnectionFigures>,
}

/// The text.
///
/// # Errors
/// Never; the library's signature has it.
pub fn text(exposition: Exposition) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(exposition));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The names of all families that there can be, as queries have them: with the `_total` of counters.
pub fn names() -> Vec<String> {
    let of_figures = |thing: &'static str| {
        let total = |kind| if kind == Kind::Counter { "_total" } else { "" };
        let figures =
            METRICS.iter().map(move |metric| format!("{thing}_{}{}", metric.name, total(metric.kind)));
        figures.chain(WINDOW_METRICS.iter().map(move |metric| format!("{thing}_{}", metric.name)))
    };
    let others = ["lost_records_total", "build_info"].map(str::to_owned);
    let names = THINGS.into_iter().flat_map(of_figures).chain(others);
    names.map(|name| format!("{PREFIX}_{name}")).collect()
}

/// What has figures: the second part of the names.
const THINGS: [&str; 4] = ["uplink", "provider", "connection", "subflow"];

type Labels = Vec<(&'static str, String)>;

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (thing, series) in THINGS.into_iter().zip(self.series()) {
            figures(&mut encoder, thing, &series)?;
        }
        lost(&mut encoder, &self.paths.lost)?;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "The version of the daemon, always 1.";
        // Not an info metric: the older text format, which other readers of this know, has none.
        family(&mut encoder, "build_info", help, Kind::Gauge, Unit::Count, [(version, 1.0)])
    }
}

impl Exposition {
    /// The figures of each of the things, with their labels.
    fn series(&self) -> [Vec<(Labels, &Figures)>; THINGS.len()] {
        let uplinks = self.paths.uplinks.iter().map(|uplink| {
            let labels = labels([("uplink", Some(&uplink.name)), ("provider", uplink.provider.as_ref())]);
            (labels, &uplink.figures)
        });
        let providers = self.paths.providers.iter();
        let providers =
            providers.map(|provider| (labels([("provider", Some(&provider.name))]), &provider.figures));
        let connections =
            self.connections.iter().map(|connection| (connection.labels(), &connection.figures));
        let subflows = self.connections.iter().flat_map(|connection| {
            connection.subflows.iter().map(|subflow| (subflow.labels(connection.token), &subflow.figures))
        });
        [uplinks.collect(), providers.collect(), connections.collect(), subflows.collect()]
    }
}

impl ConnectionFigures {
    fn labels(&self) -> Labels {
        vec![("connection", token(self.token)), ("remote", self.remote.to_string())]
    }
}

impl SubflowFigures {
    fn labels(&self, connection: u32) -> Labels {
        let ends = [("local", self.local.to_string()), ("remote", self.remote.to_string())];
        let mut all = vec![("connection", token(connection))];
        all.extend(labels([("uplink", self.uplink.as_ref())]));
        all.extend(ends);
        all
    }
}

/// As `status` writes it.
fn token(token: u32) -> String {
    format!("{token:#010x}")
}

/// The labels that have a value: an empty one is none (OpenMetrics 1.0, section "Label").
fn labels<const N: usize>(labels: [(&'static str, Option<&String>); N]) -> Labels {
    labels.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))).collect()
}

/// All families of one thing.
fn figures(encoder: &mut DescriptorEncoder<'_>, thing: &str, series: &[(Labels, &Figures)]) -> fmt::Result {
    for metric in METRICS {
        let samples =
            series.iter().filter_map(|(labels, figures)| Some((labels.clone(), (metric.value)(figures)?)));
        family(encoder, &format!("{thing}_{}", metric.name), metric.help, metric.kind, metric.unit, samples)?;
    }
    for metric in WINDOW_METRICS {
        let samples = series.iter().flat_map(|(labels, figures)| {
            figures.windows.each().into_iter().filter_map(|(length, _, window)| {
                let mut labels = labels.clone();
                labels.push(("window", length.to_owned()));
                Some((labels, (metric.value)(window)?))
            })
        });
        let name = format!("{thing}_{}", metric.name);
        family(encoder, &name, metric.help, Kind::Gauge, metric.unit, samples)?;
    }
    Ok(())
}

fn lost(encoder: &mut DescriptorEncoder<'_>, lost: &Losses) -> fmt::Result {
    let Losses { subflows, openings, closings, alarms } = *lost;
    let records = [("subflow", subflows), ("opening", openings), ("closing", closings), ("alarm", alarms)];
    let samples = records.map(|(record, lost)| (vec![("record", record.to_owned())], lost as f64));
    let help = "Records that the programs in the kernel had to leave out: what they were about is not in the figures.";
    family(encoder, "lost_records", help, Kind::Counter, Unit::Count, samples)
}

/// One family with its samples; nothing where there are none. The name has the unit at its end.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: Kind,
    unit: Unit,
    samples: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let mut samples = samples.into_iter().filter(|(_, value)| value.is_finite()).peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    // The library adds the unit to the name.
    let end = unit.word().map(|word| format!("_{word}")).unwrap_or_default();
    let stem = name.strip_suffix(&end).unwrap_or(name);
    let unit = unit.word().map(|word| registry::Unit::Other(word.to_owned()));
    let metric_type = match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    };
    let mut metrics = encoder.encode_descriptor(stem, help, unit.as_ref(), metric_type)?;
    for (labels, value) in samples {
        let mut metric = metrics.encode_family(&labels)?;
        match kind {
            Kind::Counter => metric.encode_counter::<Labels, u64, f64>(&(value as u64), None)?,
            Kind::Gauge => metric.encode_gauge(&value)?,
        }
    }
    Ok(())
}
