//! What each key does, in one table: the help line and the page of all keys are made of it.
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::order::Key;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Leave,
    Help,
    Move(Move),
    Fold,
    Order(Key),
    Reverse,
    Span,
}

/// Where to in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Keys that belong together.
pub(super) struct Entry {
    /// As they stand in the help.
    pub name: &'static str,
    /// What they do, in a word for the help line.
    pub word: &'static str,
    /// What they do, in full.
    pub help: &'static str,
    keys: &'static [(KeyCode, Command)],
}

/// All keys; the first ones are on the help line for sure.
pub(super) const KEYS: &[Entry] = &[
    Entry {
        name: "q",
        word: "leave",
        help: "leave; so do Esc and Ctrl-C",
        keys: &[(KeyCode::Char('q'), Command::Leave), (KeyCode::Esc, Command::Leave)],
    },
    Entry {
        name: "?",
        word: "keys",
        help: "show all keys, and what the columns are; or leave this page",
        keys: &[(KeyCode::Char('?'), Command::Help)],
    },
    Entry {
        name: "↑↓",
        word: "move",
        help: "go one line up or down; k and j do the same",
        keys: &[
            (KeyCode::Up, Command::Move(Move::Up)),
            (KeyCode::Char('k'), Command::Move(Move::Up)),
            (KeyCode::Down, Command::Move(Move::Down)),
            (KeyCode::Char('j'), Command::Move(Move::Down)),
        ],
    },
    Entry {
        name: "⏎",
        word: "detail",
        help: "unfold or fold all that is known of the connection; Space does the same",
        keys: &[(KeyCode::Enter, Command::Fold), (KeyCode::Char(' '), Command::Fold)],
    },
    Entry {
        name: "r",
        word: "rate",
        help: "order connections by their rate, out and in together, the fastest first",
        keys: &[(KeyCode::Char('r'), Command::Order(Key::Rate))],
    },
    Entry {
        name: "t",
        word: "RTT",
        help: "by their round-trip time, the longest first",
        keys: &[(KeyCode::Char('t'), Command::Order(Key::Rtt))],
    },
    Entry {
        name: "b",
        word: "bytes",
        help: "by their bytes, sent and received together, the most first",
        keys: &[(KeyCode::Char('b'), Command::Order(Key::Bytes))],
    },
    Entry {
        name: "p",
        word: "peer",
        help: "by the peer's address and port",
        keys: &[(KeyCode::Char('p'), Command::Order(Key::Peer))],
    },
    Entry {
        name: "R",
        word: "reverse",
        help: "turn the order round",
        keys: &[(KeyCode::Char('R'), Command::Reverse)],
    },
    Entry {
        name: "i",
        word: "idle",
        help: "order by the time without progress, the longest first",
        keys: &[(KeyCode::Char('i'), Command::Order(Key::Idle))],
    },
    Entry {
        name: "w",
        word: "window",
        help: "take rates over the next window: 1 s, 10 s, 1 min, 10 min",
        keys: &[(KeyCode::Char('w'), Command::Span)],
    },
    Entry {
        name: "PgUp PgDn",
        word: "page",
        help: "go one page up or down; Home and End go to the first and the last line",
        keys: &[
            (KeyCode::PageUp, Command::Move(Move::PageUp)),
            (KeyCode::PageDown, Command::Move(Move::PageDown)),
            (KeyCode::Home, Command::Move(Move::First)),
            (KeyCode::End, Command::Move(Move::Last)),
        ],
    },
];

/// What a key asks for, if it does.
pub(super) fn command(key: KeyEvent) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers == KeyModifiers::CONTROL {
        return (key.code == KeyCode::Char('c')).then_some(Command::Leave);
    }
    if !(key.modifiers - KeyModifiers::SHIFT).is_empty() {
        return None;
    }
    let keys = KEYS.iter().flat_map(|entry| entry.keys);
    keys.into_iter().find(|(code, _)| *code == key.code).map(|(_, command)| *command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_taken_twice() {
        let keys: Vec<KeyCode> = KEYS.iter().flat_map(|entry| entry.keys).map(|(code, _)| *code).collect();
        for (number, key) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(key), "{key:?}");
        }
    }

    #[test]
    fn control_c_leaves_and_other_chords_do_nothing() {
        let chord = |letter, modifiers| command(KeyEvent::new(KeyCode::Char(letter), modifiers));
        assert_eq!(chord('c', KeyModifiers::CONTROL), Some(Command::Leave));
        assert_eq!([chord('q', KeyModifiers::CONTROL), chord('c', KeyModifiers::ALT)], [None; 2]);
        assert_eq!(chord('R', KeyModifiers::SHIFT), Some(Command::Reverse));
        assert_eq!(chord('x', KeyModifiers::NONE), None);
    }
}
