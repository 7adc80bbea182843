//! The lower part of the screen: connections, the subflows of each below it, and all that is known of one where it
//! is unfolded.
use std::collections::BTreeSet;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::columns::{Column, Table};
use super::measures::{Measures, Span};
use super::{numbers, wrapped};
use crate::view::connections::{Connection, Connections, Opener, Subflow, paragraphs};
use crate::view::figures::{Figures, METRICS};

const COLUMNS: [Column; 7] = [
    Column::address("", 1),
    Column::words("", 0).wide("opener", 6).only_wide(),
    Column::number("out", 6).wide("out bit/s", 9),
    Column::number("in", 6).wide("in bit/s", 9),
    Column::number("ms", 5).wide("RTT ms", 7),
    Column::number("bytes", 7).only_wide(),
    Column::words("", 0).wide("state", 10).only_wide(),
];

/// How far the detail of a connection is indented.
const INDENT: &str = "    ";

/// A line of the list.
pub(super) struct Line<'a> {
    /// The connection that it belongs to.
    pub token: u32,
    content: Content<'a>,
}

enum Content<'a> {
    Connection(&'a Connection),
    Subflow(&'a Subflow),
    Detail(String),
}

/// All lines, with the detail of unfolded connections in lines of this width.
pub(super) fn lines<'a>(connections: &'a Connections, unfolded: &BTreeSet<u32>, width: u16) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for connection in &connections.listed {
        let mut push = |content| lines.push(Line { token: connection.token, content });
        push(Content::Connection(connection));
        connection.subflows.iter().for_each(|subflow| push(Content::Subflow(subflow)));
        if unfolded.contains(&connection.token) {
            detail(connection, width).into_iter().for_each(|text| push(Content::Detail(text)));
        }
    }
    lines
}

/// Draws the titles and the lines from one on; that of the cursor stands out.
pub(super) fn draw(
    area: Rect,
    buffer: &mut Buffer,
    title: String,
    (lines, first, cursor): (&[Line<'_>], usize, usize),
    span: Span,
) {
    let table = Table::new(&COLUMNS, area);
    table.titles(buffer, area.y, Some(title));
    let shown = lines.iter().enumerate().skip(first).zip(area.y + 1..area.bottom());
    for ((number, line), y) in shown {
        let style = line.style(number == cursor);
        match &line.content {
            Content::Connection(connection) => {
                table.row(buffer, y, &connection_cells(connection, span), style);
            }
            Content::Subflow(subflow) => {
                table.row(buffer, y, &subflow_cells(subflow, span, table.is_wide()), style);
            }
            Content::Detail(text) => {
                buffer.set_style(Rect { y, height: 1, ..area }, style);
                buffer.set_stringn(area.x, y, text, area.width.into(), style);
            }
        }
    }
}

impl Line<'_> {
    fn style(&self, at_cursor: bool) -> Style {
        let style = match &self.content {
            Content::Connection(_) | Content::Detail(_) => Style::new(),
            Content::Subflow(subflow) if carries(subflow) => Style::new(),
            Content::Subflow(_) => Style::new().add_modifier(Modifier::DIM),
        };
        if at_cursor { style.add_modifier(Modifier::REVERSED) } else { style }
    }
}

fn connection_cells(connection: &Connection, span: Span) -> [String; COLUMNS.len()] {
    let opener = match connection.opened_by {
        Some(Opener::Us) => "us",
        Some(Opener::Peer) => "peer",
        None => "-",
    };
    let state = match &*connection.state {
        _ if connection.fallback => "fallback",
        "established" => "",
        other => other,
    };
    let measures = Measures::of_connection(connection, span);
    cells(connection.remote.to_string(), opener, &measures, state)
}

fn subflow_cells(subflow: &Subflow, span: Span, wide: bool) -> [String; COLUMNS.len()] {
    let interface = subflow.interface.as_deref().unwrap_or("?");
    let state = match &*subflow.state {
        "established" if carries(subflow) => "carrying",
        "established" => "backup",
        other => other,
    };
    // Where there is no column for it, the state matters more than the address.
    let name =
        if wide { format!("  {interface} {}", subflow.local) } else { format!("  {interface} {state}") };
    cells(name, "", &Measures::of_subflow(subflow, span), state)
}

fn carries(subflow: &Subflow) -> bool {
    !subflow.backup_by_us && !subflow.backup_by_peer
}

fn cells(name: String, opener: &str, measures: &Measures, state: &str) -> [String; COLUMNS.len()] {
    [
        name,
        opener.to_owned(),
        numbers::rate(measures.out),
        numbers::rate(measures.input),
        numbers::millis(measures.rtt),
        numbers::bytes(measures.bytes),
        state.to_owned(),
    ]
}

/// What `status` says of it, its rates and round-trip times over all windows, and every metric.
fn detail(connection: &Connection, width: u16) -> Vec<String> {
    let told = paragraphs(connection).into_iter().flat_map(|text| wrap(&text, width));
    let figures =
        connection.figures.iter().flat_map(|figures| windows(figures).into_iter().chain(all(figures)));
    told.chain(figures.flat_map(|text| wrap(&text, width))).collect()
}

fn windows(figures: &Figures) -> Vec<String> {
    let windows = figures.windows.each().into_iter();
    let line = |(name, _, window): (&str, f64, &crate::view::figures::Window)| {
        let [out, input] = [window.acknowledged_bytes_per_second, window.received_bytes_per_second]
            .map(|rate| format!("{}bit/s", numbers::rate(rate)));
        let times = [window.rtt_p50_seconds, window.rtt_p95_seconds, window.rtt_p99_seconds];
        let [p50, p95, p99] = times.map(numbers::millis);
        format!("{name}: {out} out, {input} in, RTT p50 {p50}, p95 {p95}, p99 {p99} ms")
    };
    windows.map(line).collect()
}

fn all(figures: &Figures) -> Vec<String> {
    METRICS.iter().map(|metric| format!("{:>11} {}", numbers::metric(metric, figures), metric.help)).collect()
}

/// A paragraph in lines of this width, all of them indented.
fn wrap(text: &str, width: u16) -> Vec<String> {
    let words = text.trim_start();
    let first = format!("{INDENT}{}", " ".repeat(text.len() - words.len()));
    wrapped(words, width, &first, &format!("{first}  "))
}
