//! `monitor`: every event of a connection's life is a line, at once, and it ends as it should.
use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::connection::{connect, listen, local};
use crate::namespace::{self, PATIENCE, program};

/// The program as it follows events.
pub struct Monitor {
    child: RefCell<Child>,
    lines: Receiver<String>,
}

impl Monitor {
    /// Starts it, and waits until it hears the kernel.
    pub fn start(arguments: &str) -> Self {
        let mut child = program(arguments).stdout(Stdio::piped()).spawn().expect("runs");
        let lines = lines(child.stdout.take().unwrap());
        let monitor = Self { child: RefCell::new(child), lines };
        let end = Instant::now() + PATIENCE;
        // Only an event tells that it listens.
        while monitor.lines.recv_timeout(Duration::from_millis(20)).is_err() {
            assert!(Instant::now() < end, "no event is heard");
            drop(listen("127.0.0.9:0"));
        }
        monitor
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// The next event that is waited for.
    pub fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.next()).expect("each line is an object");
            if wanted(&event) {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.borrow().id().cast_signed()), signal).unwrap();
    }

    fn code(&self) -> Option<i32> {
        self.child.borrow_mut().wait().unwrap().code()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.borrow_mut().kill();
        let _ = self.child.borrow_mut().wait();
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

#[test]
fn a_connection_s_life_is_told_in_json() {
    namespace::run(|| {
        let monitor = Monitor::start("monitor --json");
        let listener = listen("127.0.0.1:5001");
        let (client, server) = connect(&listener, "127.0.0.1:5001");
        let here = local(&client);
        let created = monitor.until(|event| event["event"] == "created" && event["local"] == here.as_str());
        assert_eq!((&created["remote"], &created["server_side"]), (&"127.0.0.1:5001".into(), &false.into()));
        assert!(created["time"].as_f64().is_some_and(|time| time > 1.7e9), "{created}");
        let is_it = |event: &Value| event["token"] == created["token"];
        monitor.until(|event| event["event"] == "established" && is_it(event));
        drop((client, server));
        monitor.until(|event| event["event"] == "closed" && is_it(event));
        monitor.signal(Signal::SIGTERM);
        assert_eq!(monitor.code(), Some(0));
    });
}

#[test]
fn a_connection_s_life_is_told_in_words() {
    namespace::run(|| {
        let monitor = Monitor::start("monitor");
        let listener = listen("127.0.0.1:5001");
        let (client, server) = connect(&listener, "127.0.0.1:5001");
        let ends = format!("{} > 127.0.0.1:5001", local(&client));
        let until = |words: &[&str]| loop {
            let line = monitor.next();
            if words.iter().all(|word| line.contains(word)) {
                break line;
            }
        };
        let created = until(&[" created ", &ends]);
        let token = created.split_whitespace().nth(2).unwrap().to_owned();
        assert!(token.starts_with("0x") && token.len() == 10, "{created}");
        assert!(created.chars().count() <= 80, "{created}");
        until(&[" established ", &token, &ends]);
        drop((client, server));
        until(&[" closed ", &token]);
        monitor.signal(Signal::SIGINT);
        assert_eq!(monitor.code(), Some(0));
    });
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    namespace::run(|| {
        let mut child = program("monitor").stdout(Stdio::piped()).spawn().expect("runs");
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0), "without any event");
    });
}

#[test]
fn a_signal_ends_it_though_the_reader_is_stuck_and_a_loss_is_told() {
    namespace::run(|| {
        let mut child = program("monitor --json").stdout(Stdio::piped()).spawn().expect("runs");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let fill = || (0..30_000).for_each(|_| drop(listen("127.0.0.9:0")));
        fill();
        // Nobody has read: the pipe is full, and then the socket's buffer.
        fill();
        let mut line = String::new();
        while !line.contains("\"event\":\"lost\"") {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "the end, and no loss was told");
        }
        fill();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}
