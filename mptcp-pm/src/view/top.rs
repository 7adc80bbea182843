//! The screen of `mptcp-pm top`: what it knows, what keys do to it, how it is drawn. Pure: no terminal, no clock.
mod columns;
mod help;
mod keys;
mod list;
mod measures;
mod numbers;
mod order;
#[cfg(test)]
mod tests;
mod uplinks;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::{Constraint, Layout, Rect, Size};
use ratatui::style::{Color, Modifier, Style};

use super::paths::Losses;
use super::status::Status;
use columns::{WIDE, elide};
use keys::{Command, Move};
use list::Line;
use measures::Span;
use order::Order;
use uplinks::Uplinks;

/// The smallest screen.
const LEAST: Size = Size { width: 40, height: 10 };

/// What the screen shows, and how.
#[derive(Debug, Default)]
pub struct Top {
    /// What the daemon said last, with its connections in the order in which they are shown.
    status: Option<Status>,
    /// Why it says nothing newer.
    trouble: Option<String>,
    order: Order,
    span: Span,
    unfolded: BTreeSet<u32>,
    cursor: Cursor,
    /// The line at the top of the list.
    first: usize,
    /// The first line of the page of keys, when that is shown.
    help: Option<usize>,
    /// The lines for the list, or for the page of keys, and the width, when it was last drawn.
    room: Size,
}

/// Where the cursor is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    /// The line.
    line: usize,
    /// The connection that the line belongs to, and which of its lines it is.
    token: Option<u32>,
    within: usize,
}

impl Top {
    /// Takes what the daemon says, or why it says nothing: the last that is known then stays.
    pub fn hear(&mut self, answer: Result<Status, String>) {
        match answer {
            Ok(status) => (self.status, self.trouble) = (Some(status), None),
            Err(trouble) => self.trouble = Some(trouble),
        }
        self.sort();
    }

    /// Does what a key asks for; breaks when that is to leave.
    pub fn press(&mut self, key: KeyEvent) -> ControlFlow<()> {
        match (keys::command(key), self.help) {
            (Some(Command::Leave), _) => return ControlFlow::Break(()),
            (Some(Command::Help), shown) => self.help = shown.xor(Some(0)),
            (Some(Command::Move(to)), Some(line)) => {
                let last = help::page(self.room.width).len().saturating_sub(self.room.height.into());
                self.help = Some(moved(line, to, self.room.height, last));
            }
            (Some(Command::Move(to)), None) => {
                let last = self.lines().len().saturating_sub(1);
                self.go(moved(self.cursor.line, to, self.room.height, last));
            }
            (Some(Command::Fold), None) => self.fold(),
            (Some(Command::Order(key)), _) => self.order = Order { key, reversed: false },
            (Some(Command::Reverse), _) => self.order.reversed ^= true,
            (Some(Command::Span), _) => self.span = self.span.next(),
            (Some(Command::Fold), Some(_)) | (None, _) => {}
        }
        self.sort();
        ControlFlow::Continue(())
    }

    /// Draws the screen.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let buffer = frame.buffer_mut();
        if area.width < LEAST.width || area.height < LEAST.height {
            let size = format!("{}x{}", area.width, area.height);
            let words = format!("{size} is too small: make it {}x{}", LEAST.width, LEAST.height);
            return paragraph(area, buffer, &wrapped(&words, area.width, "", ""), Style::new());
        }
        let notices = self.notices(area);
        let [title, noticed, body, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(u16::try_from(notices.len()).unwrap_or(u16::MAX)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        self.draw_title(title, buffer);
        paragraph(noticed, buffer, &notices, Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD));
        self.draw_body(body, buffer);
        if self.trouble.is_some() && self.help.is_none() {
            // It is old.
            buffer.set_style(body, Modifier::DIM);
        }
        bar(keys, buffer, &help::line(area.width), "");
    }

    fn draw_body(&mut self, body: Rect, buffer: &mut Buffer) {
        if let Some(first) = self.help {
            self.room = body.as_size();
            let page = help::page(body.width);
            let first = first.min(page.len().saturating_sub(body.height.into()));
            self.help = Some(first);
            return paragraph(body, buffer, &page[first..], Style::new());
        }
        let Some(status) = &self.status else { return };
        let uplinks = Uplinks::new(status, self.span);
        // Two of them at least, and no more than half of the screen.
        let height = uplinks.height((body.height / 2).max(3));
        let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(body);
        uplinks.draw(above, buffer);
        self.room = Size { width: below.width, height: below.height.saturating_sub(1) };
        // The width decides how many lines a detail has.
        self.stay();
        self.scroll();
        if let Some(status) = &self.status {
            let title = connections_title(status);
            let lines = (&*self.lines(), self.first, self.cursor.line);
            list::draw(below, buffer, title, lines, self.span);
        }
    }

    fn draw_title(&self, area: Rect, buffer: &mut Buffer) {
        let left = self.status.as_ref().map_or("mptcp-pm".to_owned(), |status| {
            let state = if status.report.settled { "as wanted" } else { "at work" };
            let wide = area.width >= WIDE;
            let name = if wide { format!("mptcp-pm {}, profile ", status.version) } else { String::new() };
            format!("{name}{}, {state}", status.report.profile)
        });
        let over = if area.width >= WIDE { "rates over " } else { "" };
        bar(area, buffer, &left, &format!("{}, {over}{}", self.order.name(), self.span.name()));
    }

    /// What the owner has to know before all figures, in lines, and no more than a third of the screen; on the least one
    /// a fault with its remedy takes four.
    fn notices(&self, area: Rect) -> Vec<String> {
        let notices = match (&self.trouble, &self.status) {
            (Some(trouble), _) => vec![trouble.clone()],
            (None, None) => vec!["waiting for the daemon's answer".into()],
            (None, Some(status)) => notices(status),
        };
        let lines = notices.iter().flat_map(|notice| wrapped(notice, area.width, "", ""));
        lines.take(usize::from((area.height / 3).max(4))).collect()
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let lines = |status| list::lines(status, &self.unfolded, self.room.width);
        self.status.as_ref().map(|status| lines(&status.connections)).unwrap_or_default()
    }

    fn sort(&mut self) {
        if let Some(status) = &mut self.status {
            self.order.sort(&mut status.connections.listed, self.span);
            let lives = |token: &u32| status.connections.listed.iter().any(|known| known.token == *token);
            self.unfolded.retain(lives);
        }
        self.stay();
    }

    fn fold(&mut self) {
        let Some(token) = self.cursor.token else { return };
        if !self.unfolded.remove(&token) {
            self.unfolded.insert(token);
        }
    }

    /// The cursor stays with its connection when others come, go or change places; but at the top it stays at the top.
    fn stay(&mut self) {
        let lines = self.lines();
        let Cursor { line, token, within } = self.cursor;
        let block = lines.iter().position(|line| line.token == token.unwrap_or_default());
        let line = match block.filter(|_| line > 0 && token.is_some()) {
            Some(start) => {
                let length = lines[start..].iter().take_while(|line| Some(line.token) == token).count();
                start + within.min(length - 1)
            }
            None => line.min(lines.len().saturating_sub(1)),
        };
        self.go(line);
    }

    fn go(&mut self, line: usize) {
        let lines = self.lines();
        let token = lines.get(line).map(|line| line.token);
        let within = lines[..line.min(lines.len())].iter().rev();
        let within = within.take_while(|line| Some(line.token) == token).count();
        self.cursor = Cursor { line, token, within };
    }

    /// The cursor is on the screen, and no line is empty while there are others above.
    fn scroll(&mut self) {
        let height = usize::from(self.room.height.max(1));
        let line = self.cursor.line;
        self.first = self.first.clamp((line + 1).saturating_sub(height), line);
        self.first = self.first.min(self.lines().len().saturating_sub(height));
    }
}

fn connections_title(status: &Status) -> String {
    match (status.connections.total, status.connections.listed.len()) {
        (1, _) => "1 connection".into(),
        (total, listed) if total > listed => format!("{listed} of {total} connections"),
        (total, _) => format!("{total} connections"),
    }
}

/// What is not as it should be, most urgent first.
fn notices(status: &Status) -> Vec<String> {
    let mut notices = Vec::new();
    match status.report.findings.as_slice() {
        [] => {}
        [finding] => notices.push(format!("not as wanted: {}: {}", finding.object, finding.reason)),
        findings => notices.push(format!("{} things not as wanted: see `mptcp-pm status`", findings.len())),
    }
    notices.extend(status.connections.note.iter().map(|note| format!("connections are not known: {note}")));
    let absent = |name: &str| status.ebpf.iter().find(|feature| feature.name == name)?.absent.as_ref();
    notices.extend(absent("path_stats").map(|reason| format!("no rates, for lack of eBPF: {reason}")));
    let Losses { subflows, closings, .. } = status.paths.lost;
    if subflows + closings > 0 {
        notices.push(format!("figures lack {subflows} subflows, and the last moments of {closings}"));
    }
    notices
}

/// A line from one to the last one.
fn moved(line: usize, to: Move, page: u16, last: usize) -> usize {
    // A line of the page before stays, to read on from.
    let page = usize::from(page.saturating_sub(1)).max(1);
    let line = match to {
        Move::Up => line.saturating_sub(1),
        Move::Down => line + 1,
        Move::PageUp => line.saturating_sub(page),
        Move::PageDown => line + page,
        Move::First => 0,
        Move::Last => last,
    };
    line.min(last)
}

/// A line in reverse, words at both ends; those at the right only where they fit.
fn bar(area: Rect, buffer: &mut Buffer, left: &str, right: &str) {
    let style = Style::new().add_modifier(Modifier::REVERSED);
    buffer.set_style(area, style);
    let width = usize::from(area.width);
    buffer.set_stringn(area.x, area.y, elide(left, width, 0), width, style);
    let (used, wanted) = (left.chars().count(), right.chars().count());
    if used + 1 + wanted <= width {
        let blank = u16::try_from(width - wanted).unwrap_or_default();
        buffer.set_stringn(area.x + blank, area.y, right, wanted, style);
    }
}

fn paragraph(area: Rect, buffer: &mut Buffer, lines: &[String], style: Style) {
    for (line, y) in lines.iter().zip(area.y..area.bottom()) {
        buffer.set_stringn(area.x, y, line, area.width.into(), style);
    }
}

/// A paragraph in lines of this width; the first and the others have their indents. Paths keep their hyphens.
fn wrapped(text: &str, width: u16, first: &str, next: &str) -> Vec<String> {
    let options = textwrap::Options::new(width.into()).initial_indent(first).subsequent_indent(next);
    let options = options.word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
}
