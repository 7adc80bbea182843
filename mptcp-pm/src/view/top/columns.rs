//! Tables of one line a row, in columns that fit the screen: a narrow one has fewer.
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};

/// Below this many columns a screen is narrow.
pub(super) const WIDE: u16 = 70;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// What stands above it on a narrow screen and on a wide one.
    titles: [&'static str; 2],
    /// How much room it has there; a length of 0 leaves it out.
    widths: [Constraint; 2],
    kind: Kind,
}

/// What is in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Loses its end when it is too long.
    Words,
    /// Loses its middle: the port is at the end.
    Address,
    /// Stands at the right side.
    Number,
}

impl Column {
    /// Words, for a share of the room that numbers leave.
    pub(super) const fn words(title: &'static str, share: u16) -> Self {
        let width = Constraint::Fill(share);
        Self { titles: [title; 2], widths: [width; 2], kind: Kind::Words }
    }

    /// The same for addresses with their port.
    pub(super) const fn address(title: &'static str, share: u16) -> Self {
        Self { kind: Kind::Address, ..Self::words(title, share) }
    }

    /// Numbers of so many letters.
    pub(super) const fn number(title: &'static str, width: u16) -> Self {
        let width = Constraint::Length(width);
        Self { titles: [title; 2], widths: [width; 2], kind: Kind::Number }
    }

    /// Another title and width on a wide screen.
    pub(super) const fn wide(mut self, title: &'static str, width: u16) -> Self {
        self.titles[1] = title;
        self.widths[1] = Constraint::Length(width);
        self
    }

    /// Only on a wide screen.
    pub(super) const fn only_wide(mut self) -> Self {
        self.widths[0] = Constraint::Length(0);
        self
    }
}

/// A table's columns, laid out for a screen.
pub(super) struct Table {
    /// None for one that is left out.
    columns: Vec<Option<(Column, Rect)>>,
    area: Rect,
    wide: bool,
}

impl Table {
    /// Lays the columns out in the width of an area.
    pub(super) fn new(columns: &[Column], area: Rect) -> Self {
        let wide = area.width >= WIDE;
        let width = |column: &Column| column.widths[usize::from(wide)];
        let is_shown = |column: &Column| width(column) != Constraint::Length(0);
        let shown = columns.iter().filter(|column| is_shown(column)).map(width);
        let mut rooms = Layout::horizontal(shown).spacing(1).split(area).to_vec().into_iter();
        let columns = columns
            .iter()
            .map(|column| is_shown(column).then(|| rooms.next().map(|room| (*column, room))).flatten())
            .collect();
        Self { columns, area, wide }
    }

    /// Whether the screen is wide.
    pub(super) const fn is_wide(&self) -> bool {
        self.wide
    }

    /// The line of titles; the first one may be another.
    pub(super) fn titles(&self, buffer: &mut Buffer, y: u16, first: Option<String>) {
        let title = |column: &Option<(Column, Rect)>| {
            column.map_or(String::new(), |(column, _)| column.titles[usize::from(self.wide)].to_owned())
        };
        let mut cells: Vec<String> = self.columns.iter().map(title).collect();
        if let (Some(first), Some(cell)) = (first, cells.first_mut()) {
            *cell = first;
        }
        self.row(buffer, y, &cells, Style::new().add_modifier(Modifier::BOLD));
    }

    /// One row: a cell for each column, also for those that are left out.
    pub(super) fn row(&self, buffer: &mut Buffer, y: u16, cells: &[String], style: Style) {
        buffer.set_style(Rect { y, height: 1, ..self.area }, style);
        for (column, cell) in self.columns.iter().zip(cells) {
            let Some((column, room)) = column else { continue };
            let end = if column.kind == Kind::Address { room.width.saturating_sub(1) / 2 } else { 0 };
            let text = elide(cell, room.width.into(), end.into());
            let is_number = column.kind == Kind::Number;
            let blank = if is_number { room.width.saturating_sub(letters(&text)) } else { 0 };
            let width = room.width - blank;
            buffer.set_stringn(room.x + blank, y, text, width.into(), style);
        }
    }
}

fn letters(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

/// Shortens what is too long; so many letters of its end stay.
pub(super) fn elide(text: &str, width: usize, end: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let start = text.chars().take(width.saturating_sub(end + 1));
    start.chain(['…']).chain(text.chars().skip(length - end)).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::address("name", 1),
        Column::number("a", 3).wide("long", 6),
        Column::number("b", 4).only_wide(),
    ];

    /// A row on a screen.
    fn row(width: u16, cells: [&str; 3]) -> String {
        let area = Rect::new(0, 0, width, 1);
        let mut buffer = Buffer::empty(area);
        Table::new(&COLUMNS, area).row(&mut buffer, 0, &cells.map(str::to_owned), Style::new());
        buffer.content().iter().map(|cell| cell.symbol()).collect()
    }

    #[test]
    fn a_narrow_screen_has_fewer_columns() {
        assert_eq!(row(12, ["wlan0", "12", "9"]), "wlan0     12");
        let wide = row(70, ["wlan0", "12", "9"]);
        assert_eq!(wide, format!("wlan0{}12    9", " ".repeat(58)));
    }

    #[test]
    fn what_is_too_long_is_shortened() {
        assert_eq!(row(12, ["192.0.2.1:80", "12345", "9"]), "192.…:80 12…");
        assert_eq!([0, 1, 2, 6].map(|width| elide("abcdef", width, 0)), ["", "…", "a…", "abcdef"]);
        assert_eq!([3, 5].map(|width| elide("abcdef", width, 1)), ["a…f", "abc…f"]);
        // Letters of two columns stay within theirs.
        assert_eq!(row(12, ["無線無線無", "1", "9"]).chars().filter(|letter| *letter == '無').count(), 2);
    }
}
