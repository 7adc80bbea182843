//! Follows the events of the path manager, and those that a daemon tells, until a signal, or until nobody reads any
//! more.
//!
//! Writing may block for as long as the reader likes. So the end is not awaited where the lines are written, but by
//! two threads of their own.
mod daemon;

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use super::args::MonitorArgs;
use super::block_on;
use crate::interfaces;
use crate::netlink::mptcp::{Events, Notice};
use crate::netlink::transport::{Error, Fault};
use crate::view::event::Event;
use crate::view::event::path::PathEvent;
use crate::view::status::paragraph;
use daemon::Daemon;

/// Does not return before the end, unless the kernel refuses.
pub(super) fn run(args: &MonitorArgs) -> Result<()> {
    // Before any thread is there: each inherits it.
    let stop = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    stop.thread_block().context("cannot block signals")?;
    thread::spawn(move || stop.wait().map(|_| std::process::exit(0)));
    thread::spawn(exit_without_reader);
    block_on(follow(args))
}

/// An error condition is reported unasked (poll(2)): the other end of a pipe is closed. A file has none.
fn exit_without_reader() {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    if poll(&mut polled, PollTimeout::NONE).is_ok() {
        std::process::exit(0);
    }
}

async fn follow(args: &MonitorArgs) -> Result<()> {
    let mut events = Events::open().await.map_err(denied)?;
    let socket = args.daemon.path();
    let mut daemon = Daemon::at(&socket);
    loop {
        // At each of the kernel's events: one that has come meanwhile is found, and nothing has to wake up for it.
        daemon.seek().await;
        let lines = tokio::select! {
            notice = events.next() => match understood(notice)? {
                Some(event) if args.output.json => serde_json::to_string(&event)? + "\n",
                Some(event) => paragraph(&event.text()),
                None => continue,
            },
            line = daemon.next() => if args.output.json { line + "\n" } else { in_words(&line) },
        };
        match print(&lines) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            result => result.context("cannot write to standard output")?,
        }
    }
}

/// What the daemon tells, for people; as it is where it is another version's.
fn in_words(line: &str) -> String {
    serde_json::from_str(line)
        .map_or_else(|_| format!("{line}\n"), |event: PathEvent| paragraph(&event.text()))
}

fn denied(error: Error) -> anyhow::Error {
    match &error.fault {
        Fault::Socket(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            anyhow!("{error}; it takes root or CAP_NET_ADMIN")
        }
        _ => error.into(),
    }
}

/// Each event at once, also into a pipe.
fn print(lines: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush())
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
