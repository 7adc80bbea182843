//! The daemon's part of `monitor`: what it tells while there is one. It need not be there, may end, and may come back.
use std::io;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;

use crate::control::{Reply, Request};
use crate::view::status::Feature;

/// The daemon at a socket.
pub(super) struct Daemon<'a> {
    socket: &'a Path,
    state: State,
    /// It has been looked for before: what changes from now on is worth a word.
    sought: bool,
}

enum State {
    /// None is there.
    Absent,
    /// It has been asked, and has not answered yet.
    Asked(Lines<BufReader<UnixStream>>),
    /// It tells.
    Tells(Lines<BufReader<UnixStream>>),
    /// It does not want to, or may not be asked.
    Refused,
}

impl<'a> Daemon<'a> {
    pub(super) const fn at(socket: &'a Path) -> Self {
        Self { socket, state: State::Absent, sought: false }
    }

    /// Asks the daemon if there is one, and none has been asked.
    pub(super) async fn seek(&mut self) {
        if !matches!(self.state, State::Absent) {
            return;
        }
        match ask(self.socket).await {
            Ok(stream) => self.state = State::Asked(BufReader::new(stream).lines()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.refused(&error),
            // Nobody is there, or it is about to go or to come.
            Err(_) => self.sought = true,
        }
    }

    /// The next line that it tells; for ever where there is none. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> String {
        loop {
            let (State::Asked(lines) | State::Tells(lines)) = &mut self.state else {
                return std::future::pending().await;
            };
            match (lines.next_line().await, std::mem::replace(&mut self.state, State::Absent)) {
                (Ok(Some(line)), State::Tells(lines)) => {
                    self.state = State::Tells(lines);
                    return line;
                }
                (Ok(Some(line)), State::Asked(lines)) => self.answered(&line, lines),
                _ => self.gone(),
            }
        }
    }

    fn answered(&mut self, line: &str, lines: Lines<BufReader<UnixStream>>) {
        match serde_json::from_str(line) {
            Ok(Reply::Ok(answer)) => {
                if self.sought {
                    eprintln!("mptcp-pm: a daemon is there: what it measures is told too");
                }
                absent(&answer).iter().for_each(|feature| eprintln!("mptcp-pm: {feature}"));
                self.sought = true;
                self.state = State::Tells(lines);
            }
            Ok(Reply::Error(failure)) => self.refused(&failure),
            Err(error) => self.refused(&error),
        }
    }

    fn gone(&mut self) {
        self.sought = true;
        eprintln!("mptcp-pm: the daemon has ended, or does not wait: only the kernel's events are told");
    }

    fn refused(&mut self, why: &dyn std::fmt::Display) {
        self.state = State::Refused;
        let socket = self.socket.display();
        eprintln!("mptcp-pm: only the kernel's events are told: the daemon at {socket} refuses: {why}");
    }
}

async fn ask(socket: &Path) -> io::Result<UnixStream> {
    let mut line = serde_json::to_vec(&Request::Monitor {})?;
    line.push(b'\n');
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&line).await?;
    Ok(stream)
}

/// What the daemon cannot measure, each in a sentence.
fn absent(answer: &Value) -> Vec<String> {
    let features: Vec<Feature> = serde_json::from_value(answer["ebpf"].clone()).unwrap_or_default();
    let sentence = |feature: Feature| Some(format!("the daemon lacks {}: {}", feature.name, feature.absent?));
    features.into_iter().filter_map(sentence).collect()
}
