//! The upper part of the screen: one row for each uplink, with a line of sparklines where there is room.
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{RenderDirection, Sparkline, Widget as _};

use super::columns::{Column, Table};
use super::measures::Span;
use super::numbers;
use crate::core::uplink::{Class, Uplink};
use crate::view::figures::Figures;
use crate::view::paths::{Moment, UplinkFigures};
use crate::view::status::{Status, sorted};

const COLUMNS: [Column; 8] = [
    Column::words("uplink", 9),
    Column::words("provider", 12).only_wide(),
    Column::words("state", 15),
    Column::number("out", 6).wide("out bit/s", 9),
    Column::number("in", 6).wide("in bit/s", 9),
    Column::number("ms", 5).wide("RTT/min ms", 10),
    Column::number("retr.", 5).only_wide(),
    Column::number("paths", 5).only_wide(),
];

/// How wide the words before a sparkline are.
const LABEL: u16 = 21;

/// An uplink as it is shown.
struct Row<'a> {
    name: &'a str,
    provider: Option<&'a str>,
    state: String,
    /// It would be used if it could.
    lost: bool,
    figures: Option<&'a Figures>,
    history: &'a [Moment],
    /// How many subflows go over it.
    subflows: u64,
}

/// The rows of all uplinks.
pub(super) struct Uplinks<'a> {
    rows: Vec<Row<'a>>,
    span: Span,
}

impl<'a> Uplinks<'a> {
    /// Those of a status: of interfaces that are none only what carries something.
    pub(super) fn new(status: &'a Status, span: Span) -> Self {
        let carrying = &status.paths.uplinks;
        let figures = |uplink: &Uplink| carrying.iter().find(|figures| are_of(figures, uplink));
        let known = sorted(&status.report.uplinks).into_iter();
        let known = known.filter(|uplink| uplink.class != Class::Internal || figures(uplink).is_some());
        let mut rows: Vec<Row<'a>> =
            known.map(|uplink| Row::of_uplink(uplink, figures(uplink), status)).collect();
        let is_known =
            |figures: &&UplinkFigures| status.report.uplinks.iter().any(|uplink| are_of(figures, uplink));
        rows.extend(carrying.iter().filter(|figures| !is_known(figures)).map(Row::of_no_interface));
        Self { rows, span }
    }

    /// How many lines they take of so many: with sparklines where those fit, and else without.
    pub(super) fn height(&self, room: u16) -> u16 {
        let rows = u16::try_from(self.rows.len()).unwrap_or(u16::MAX);
        let tall = rows.saturating_mul(2).saturating_add(1);
        if tall <= room { tall } else { rows.saturating_add(1).min(room) }
    }

    /// Draws them into so many lines.
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let table = Table::new(&COLUMNS, area);
        table.titles(buffer, area.y, None);
        let room = usize::from(area.height.saturating_sub(1));
        let (step, fitting) = match self.rows.len() {
            rows if rows * 2 <= room => (2, rows),
            rows if rows <= room => (1, rows),
            _ => (1, room.saturating_sub(1)),
        };
        let lines = (area.y + 1..area.bottom()).step_by(step);
        for (row, y) in self.rows.iter().take(fitting).zip(lines) {
            let style = if row.lost { Style::new().fg(Color::Yellow) } else { Style::new() };
            table.row(buffer, y, &row.cells(self.span, table.is_wide()), style);
            if step == 2 {
                row.sparklines(Rect { y: y + 1, height: 1, ..area }, buffer);
            }
        }
        if fitting < self.rows.len() {
            let more = format!("and {} more", self.rows.len() - fitting);
            buffer.set_stringn(area.x, area.bottom() - 1, more, area.width.into(), Style::new());
        }
    }
}

impl<'a> Row<'a> {
    fn of_uplink(uplink: &'a Uplink, carrying: Option<&'a UplinkFigures>, status: &Status) -> Self {
        let over = |name: &Option<String>| name.as_deref() == Some(&*uplink.name);
        let subflows = status.connections.listed.iter().flat_map(|connection| &connection.subflows);
        let counted = subflows.filter(|subflow| over(&subflow.interface)).count() as u64;
        let lost = uplink.unused.as_ref().is_some_and(|unused| unused.lost);
        let (name, provider) = (uplink.name.as_str(), uplink.provider.as_deref());
        Self { state: state(uplink), lost, subflows: counted, ..Self::new(name, provider, carrying) }
    }

    /// One that is gone, or subflows of no uplink.
    fn of_no_interface(carrying: &'a UplinkFigures) -> Self {
        Self::new(&carrying.name, carrying.provider.as_deref(), Some(carrying))
    }

    fn new(name: &'a str, provider: Option<&'a str>, carrying: Option<&'a UplinkFigures>) -> Self {
        let figures = carrying.map(|carrying| &carrying.figures);
        Self {
            name,
            provider,
            state: "-".into(),
            lost: false,
            figures,
            history: carrying.map_or(&[], |carrying| &carrying.history),
            subflows: figures.map_or(0, |figures| figures.subflows),
        }
    }

    fn cells(&self, span: Span, wide: bool) -> [String; COLUMNS.len()] {
        let window = self.figures.map(|figures| span.of(figures)).unwrap_or_default();
        let rtt = numbers::millis(self.figures.and_then(|figures| figures.rtt_seconds));
        let least = self.figures.and_then(|figures| figures.rtt_min_seconds);
        let retransmitted = self.figures.map_or_else(
            || numbers::share(0, 0),
            |figures| numbers::share(figures.retransmitted_bytes, figures.sent_bytes),
        );
        [
            self.name.to_owned(),
            self.provider.unwrap_or("-").to_owned(),
            self.state.clone(),
            numbers::rate(window.acknowledged_bytes_per_second),
            numbers::rate(window.received_bytes_per_second),
            if wide { format!("{rtt}/{}", numbers::millis(least)) } else { rtt },
            retransmitted,
            self.subflows.to_string(),
        ]
    }

    /// Rate and round-trip time, each up to its peak, the newest moment at the right.
    fn sparklines(&self, area: Rect, buffer: &mut Buffer) {
        let rate = |moment: &Moment| moment.acknowledged_bytes_per_second + moment.received_bytes_per_second;
        let rates: Vec<Option<f64>> = self.history.iter().map(|moment| Some(rate(moment))).collect();
        let times: Vec<Option<f64>> = self.history.iter().map(|moment| moment.rtt_seconds).collect();
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).areas(area);
        let rate = |peak| format!("rate ≤ {}bit/s", numbers::rate(peak));
        sparkline(left, buffer, &rates, rate, Color::Cyan);
        let time = |peak| format!("RTT ≤ {} ms", numbers::millis(peak));
        sparkline(right, buffer, &times, time, Color::Magenta);
    }
}

fn sparkline(
    area: Rect,
    buffer: &mut Buffer,
    values: &[Option<f64>],
    label: impl Fn(Option<f64>) -> String,
    color: Color,
) {
    let [words, bars] = Layout::horizontal([Constraint::Length(LABEL), Constraint::Fill(1)]).areas(area);
    let shown = &values[values.len().saturating_sub(bars.width.into())..];
    let Some(peak) = shown.iter().flatten().copied().reduce(f64::max) else { return };
    let dim = Style::new().add_modifier(Modifier::DIM);
    buffer.set_stringn(words.x + 2, words.y, label(Some(peak)), usize::from(words.width) - 2, dim);
    // A thousand steps are finer than any bar.
    let scale = if peak > 0.0 { 1000.0 / peak } else { 0.0 };
    let steps = shown.iter().rev().map(|value| value.map(|value| (value * scale).round() as u64));
    Sparkline::default()
        .data(steps)
        .max(1000)
        .direction(RenderDirection::RightToLeft)
        .style(color)
        .render(bars, buffer);
}

/// An interface that changes its provider is another uplink from then on.
fn are_of(figures: &UplinkFigures, uplink: &Uplink) -> bool {
    (&figures.name, &figures.provider) == (&uplink.name, &uplink.provider)
}

/// What becomes of an uplink, in a few words; `doctor` and `status` have all of them.
fn state(uplink: &Uplink) -> String {
    if let Some(unused) = &uplink.unused {
        return short(&unused.reason).to_owned();
    }
    let role = uplink.role.map_or("used", |role| role.name());
    let role = if uplink.rests.is_some() { "rests" } else { role };
    if uplink.metered { format!("{role}, metered") } else { role.to_owned() }
}

/// The beginning of a reason, without what only makes it a sentence or is the remedy.
fn short(reason: &str) -> &str {
    let end = reason.find([';', ':', ',', '(']).unwrap_or(reason.len());
    let start = ["has ", "is a ", "is the ", "is "].iter().find_map(|verb| reason[..end].strip_prefix(verb));
    start.unwrap_or(&reason[..end]).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short() {
        let cases = [
            ("has no carrier", "no carrier"),
            ("is down", "down"),
            ("is internal (bridge); name it in an [[uplink]] table to use it", "internal"),
            ("stands aside: it is a VPN, and the default route is beside it", "stands aside"),
            ("waits for duplicate address detection, or it failed", "waits for duplicate address detection"),
            ("is a port of br0", "port of br0"),
            ("", ""),
        ];
        for (reason, expected) in cases {
            assert_eq!(short(reason), expected);
        }
    }
}
