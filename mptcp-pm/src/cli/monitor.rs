//! Follows the events of the path manager until a signal, or until nobody reads any more.
//!
//! Writing may block for as long as the reader likes. So the end is not awaited where the lines are written, but by
//! two threads of their own.
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use super::block_on;
use crate::interfaces;
use crate::netlink::mptcp::{Events, Notice};
use crate::netlink::transport::{Error, Fault};
use crate::view::event::Event;

/// Does not return before the end, unless the kernel refuses.
pub(super) fn run(as_json: bool) -> Result<()> {
    // Before any thread is there: each inherits it.
    let stop = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    stop.thread_block().context("cannot block signals")?;
    thread::spawn(move || stop.wait().map(|_| std::process::exit(0)));
    thread::spawn(exit_without_reader);
    block_on(follow(as_json))
}

/// An error condition is reported unasked (poll(2)): the other end of a pipe is closed. A file has none.
fn exit_without_reader() {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    if poll(&mut polled, PollTimeout::NONE).is_ok() {
        std::process::exit(0);
    }
}

async fn follow(as_json: bool) -> Result<()> {
    let mut events = Events::open().await.map_err(denied)?;
    loop {
        let Some(event) = understood(events.next().await)? else { continue };
        let line = if as_json { serde_json::to_string(&event)? } else { event.text() };
        match print(&line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.context("cannot write to standard output")?,
        }
    }
}

fn denied(error: Error) -> anyhow::Error {
    match &error.fault {
        Fault::Socket(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            anyhow!("{error}; it takes root or CAP_NET_ADMIN")
        }
        _ => error.into(),
    }
}

/// Each line at once, also into a pipe.
fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())
}

/// What cannot be understood is told beside the others, and the next one may be read all the same.
fn understood(notice: Result<Notice, Error>) -> Result<Option<Event>, Error> {
    let now = SystemTime::now();
    match notice {
        Ok(Notice::Event(event)) => Ok(Some(Event::new(&event, now, interfaces::name))),
        Ok(Notice::Lost) => Ok(Some(Event::lost(now))),
        Err(Error { fault: fault @ Fault::Malformed(_), .. }) => {
            eprintln!("mptcp-pm: an event is passed over: {fault}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
