//! The terminal of `top`: asks the daemon, hears keys, draws; whatever happens, the terminal is as it was before.
//!
//! ```text
//! keys, resizes ──┐
//! the daemon ─────┼─> Wake ─> Top ─> terminal
//! signals ────────┘
//! ```
//!
//! Each has a thread that waits: a daemon that does not answer keeps no key waiting, and nothing is polled.
use std::io::{IsTerminal as _, stdout};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, panic, process, thread};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::{cursor, event, execute};

use super::args::TopArgs;
use super::understood;
use crate::control::{Client, Request};
use crate::view::status::Status;
use crate::view::top::Top;

/// What the screen waits for.
enum Wake {
    Terminal(io::Result<event::Event>),
    Daemon(Result<Status, String>),
    Signal,
}

/// Does not return before somebody wants to leave.
pub(super) fn run(args: TopArgs) -> Result<()> {
    ensure!(
        stdout().is_terminal(),
        "cannot show a screen, for standard output is no terminal: use `mptcp-pm status`"
    );
    // Before any thread is there: each inherits it.
    let stop = SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]);
    stop.thread_block().context("cannot block signals")?;
    on_screen(|terminal| {
        let (wake, waked) = channel();
        start(wake, stop, args);
        follow(terminal, &waked)
    })
}

/// Gives the terminal to `work`, and takes it back: at its end, and before a panic of any thread ends the program.
fn on_screen(work: impl FnOnce(&mut DefaultTerminal) -> Result<()>) -> Result<()> {
    let terminal = ratatui::try_init();
    // That of ratatui, which restores the terminal, but neither shows the cursor nor ends the other threads.
    let restore = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let _ = execute!(stdout(), cursor::Show);
        restore(panic);
        process::exit(101);
    }));
    let result =
        terminal.context("cannot draw on this terminal").and_then(|mut terminal| work(&mut terminal));
    ratatui::restore();
    result
}

fn start(wake: Sender<Wake>, stop: SigSet, TopArgs { interval, daemon }: TopArgs) {
    let (keys, signals) = (wake.clone(), wake.clone());
    thread::spawn(move || while keys.send(Wake::Terminal(event::read())).is_ok() {});
    thread::spawn(move || stop.wait().is_ok() && signals.send(Wake::Signal).is_ok());
    thread::spawn(move || ask(&wake, &daemon.path(), interval));
}

fn ask(wake: &Sender<Wake>, socket: &Path, interval: Duration) {
    let answer = || status(socket).map_err(|error| format!("{error:#}"));
    while wake.send(Wake::Daemon(answer())).is_ok() {
        thread::sleep(interval);
    }
}

/// A new connection each time: the daemon may be another one.
fn status(socket: &Path) -> Result<Status> {
    understood(Client::connect(socket)?.request(&Request::Status {})?)
}

fn follow(terminal: &mut DefaultTerminal, waked: &Receiver<Wake>) -> Result<()> {
    let mut top = Top::default();
    loop {
        terminal.draw(|frame| top.draw(frame)).context("cannot draw on the terminal")?;
        match waked.recv().context("nothing is left to wait for")? {
            Wake::Daemon(answer) => top.hear(answer),
            Wake::Signal => return Ok(()),
            Wake::Terminal(event) => match event.context("cannot read from the terminal")? {
                event::Event::Key(key) if top.press(key) == ControlFlow::Break(()) => return Ok(()),
                // Drawing finds the new size by itself.
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::File;
    use std::io::Read as _;
    use std::process::Command;

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::tcgetattr;

    use super::*;

    /// Set where this test is to panic instead.
    const PANICS: &str = "MPTCP_PM_TEST_PANICS";

    /// In a process of its own, with a terminal of its own; in another thread, whose end nobody would notice.
    #[test]
    fn a_panic_of_any_thread_gives_the_terminal_back() {
        if env::var_os(PANICS).is_some() {
            let panics = |_: &mut DefaultTerminal| -> Result<()> {
                thread::spawn(|| panic!("on purpose"));
                loop {
                    thread::park();
                }
            };
            on_screen(panics).expect("there is a terminal");
        }
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(Some(&size), None).expect("a terminal");
        let before = tcgetattr(&terminal.slave).expect("its settings");
        let end = || terminal.slave.try_clone().expect("another handle");
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args([
            "--exact",
            "cli::top::tests::a_panic_of_any_thread_gives_the_terminal_back",
            "--nocapture",
        ]);
        command.env(PANICS, "1").env("RUST_BACKTRACE", "0").stdin(end()).stdout(end()).stderr(end());
        let status = command.status().expect("runs");
        // The command holds the terminal open.
        drop(command);
        assert_eq!(status.code(), Some(101));
        assert_eq!(tcgetattr(&terminal.slave).expect("its settings"), before);
        drop(terminal.slave);
        let mut shown = Vec::new();
        // Ends with EIO: nobody has it open any more.
        let _ = File::from(terminal.master).read_to_end(&mut shown);
        let shown = String::from_utf8_lossy(&shown);
        let at = |words: &str| shown.find(words).unwrap_or_else(|| panic!("no {words:?} in {shown:?}"));
        assert!(at("\x1b[?1049h") < at("\x1b[?25h"), "{shown:?}");
        assert!(at("\x1b[?25h") < at("\x1b[?1049l"), "{shown:?}");
        assert!(at("\x1b[?1049l") < at("on purpose"), "{shown:?}");
    }
}
