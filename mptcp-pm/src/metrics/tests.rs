//! Tests of the metrics endpoint: clients that behave badly, over real sockets, and an endpoint that moves.
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::server::{MAX_CLIENTS, MAX_HEAD, PATIENCE};
use super::*;
use crate::view::paths::{Losses, Paths};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An endpoint before a daemon that answers every scrape.
struct Daemon {
    endpoint: Endpoint,
    folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Daemon {
    fn start() -> Self {
        let (scrapes, mut taken) = mpsc::channel::<Scrape>(1);
        let mut daemon = Self::serve(scrapes);
        daemon._tasks.spawn(async move {
            while let Some(scrape) = taken.recv().await {
                let lost = Losses { alarms: 5, ..Losses::default() };
                let paths = Paths { lost, ..Paths::default() };
                let _ = scrape.reply.send(Exposition { paths, connections: Vec::new() });
            }
        });
        daemon
    }

    fn serve(scrapes: mpsc::Sender<Scrape>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut daemon = Self { endpoint: Endpoint::new(scrapes), folder, _tasks: JoinSet::new() };
        daemon.endpoint.set(Some(&unix(&daemon.socket()))).expect("binds");
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("metrics")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.expect("connects")
    }

    /// Sends bytes on a connection of its own; all that comes back.
    async fn say(&self, bytes: &str) -> String {
        exchange(self.connect().await, bytes).await
    }
}

fn unix(path: &Path) -> Metrics {
    Metrics { listen: Listen::Unix(path.into()), group: "root".into(), subflows: false }
}

/// An address with a port that was free a moment ago.
fn loopback() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("has one")
}

fn at(addr: SocketAddr) -> Metrics {
    Metrics { listen: Listen::Loopback(addr), ..unix(Path::new("/")) }
}

/// Sends bytes, and reads until the server closes.
async fn exchange(mut client: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    // What the server does not want to read it need not take.
    let _ = client.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("is text")
}

fn head_and_body(answer: &str) -> (Vec<&str>, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("has a head");
    (head.split("\r\n").collect(), body)
}

#[tokio::test]
async fn a_scrape_is_answered_and_the_connection_closed() {
    let daemon = Daemon::start();
    let answer = daemon.say(GET).await;
    let (head, body) = head_and_body(&answer);
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    let content = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(&content) && head.contains(&"connection: close"), "{head:?}");
    assert!(head.contains(&format!("content-length: {}", body.len()).as_str()), "{head:?}");
    assert!(body.contains("\nmptcp_pm_lost_records_total{record=\"alarm\"} 5\n"), "{body}");
    assert!(body.ends_with("\n# EOF\n"), "{body}");
}

#[tokio::test]
async fn a_query_and_a_client_that_has_said_all_change_nothing() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write_all(b"GET /metrics?name=x HTTP/1.0\r\n\r\n").await.expect("writes");
    client.shutdown().await.expect("half-closes");
    assert!(exchange(client, "").await.starts_with("HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn head_has_no_body() {
    let answer = Daemon::start().say(&GET.replace("GET", "HEAD")).await;
    let (head, body) = head_and_body(&answer);
    assert_eq!((head[0], body), ("HTTP/1.1 200 OK", ""));
}

#[tokio::test]
async fn everything_else_is_refused_with_a_sentence() {
    let daemon = Daemon::start();
    let answer = daemon.say(&GET.replace("GET", "POST")).await;
    let (head, body) = head_and_body(&answer);
    assert_eq!(
        (head[0], body),
        ("HTTP/1.1 405 Method Not Allowed", "The metrics can only be read: use GET.\n")
    );
    assert!(head.contains(&"allow: GET, HEAD"), "{head:?}");
    for path in ["/", "/metrics/", "/metric", "/status", "*"] {
        let answer = daemon.say(&GET.replace("/metrics", path)).await;
        let (head, body) = head_and_body(&answer);
        assert_eq!((head[0], body), ("HTTP/1.1 404 Not Found", "There is nothing but /metrics here.\n"));
    }
}

#[tokio::test]
async fn who_asks_for_another_machine_gets_nothing() {
    let daemon = Daemon::start();
    let ask = async |host: &str| daemon.say(&GET.replace("localhost", host)).await;
    for host in ["LOCALHOST:9101", "127.0.0.1", "127.0.0.1:9101", "[::1]:9101"] {
        assert!(ask(host).await.starts_with("HTTP/1.1 200 OK\r\n"), "{host}");
    }
    for host in ["evil.example", "evil.example:9101", "192.0.2.1", "[2001:db8::1]", "localhost.evil.example"]
    {
        let answer = ask(host).await;
        assert!(answer.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{host}: {answer}");
    }
}

#[tokio::test]
async fn garbage_is_a_bad_request() {
    let daemon = Daemon::start();
    for garbage in ["\0\u{fffd}\r\n\r\n", "{\"request\":\"ping\"}\r\n\r\n", "GET /metrics SMTP/1.1\r\n\r\n"] {
        let answer = daemon.say(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{garbage:?}: {answer:?}");
    }
    assert!(daemon.say(GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write_all(GET.trim_end().as_bytes()).await.expect("writes");
    let line = format!("\r\nx: {}", "x".repeat(1000));
    let mut sent = 0;
    while sent < 1 << 20 && client.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    assert!(sent < 1 << 20, "the server took a head of 1 MB");
    let exactly = |length: usize| {
        let rest = length - GET.len() - "x: \r\n".len();
        GET.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "x".repeat(rest)))
    };
    assert!(daemon.say(&exactly(MAX_HEAD)).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let answer = daemon.say(&exactly(MAX_HEAD + 1)).await;
    assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
}

#[tokio::test]
async fn the_ninth_client_is_closed_and_places_are_given_back() {
    let daemon = Daemon::start();
    let mut clients = Vec::new();
    for _ in 0..=MAX_CLIENTS {
        clients.push(daemon.connect().await);
    }
    let ninth = clients.pop().expect("is there");
    assert_eq!(exchange(ninth, "").await, "");
    for client in clients.drain(1..) {
        assert!(exchange(client, GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    drop(clients);
    // The server notices in its own time.
    let mut clients = Vec::new();
    while clients.len() < MAX_CLIENTS {
        let mut client = daemon.connect().await;
        client.write_all(b"GET ").await.expect("writes");
        if client.try_read(&mut [0]).is_err() {
            clients.push(client);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_is_closed_after_ten_seconds() {
    let daemon = Daemon::start();
    for half in ["", "GET /metrics HTTP/1.1\r\n"] {
        let start = Instant::now();
        assert_eq!(daemon.say(half).await, "");
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < 2 * PATIENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_is_closed_all_the_same() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let start = Instant::now();
    client.write_all(b"GET /").await.expect("writes");
    while client.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() < 2 * PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_called_busy() {
    let (scrapes, _never_taken) = mpsc::channel(1);
    let answer = Daemon::serve(scrapes).say(GET).await;
    let (head, body) = head_and_body(&answer);
    assert_eq!((head[0], body), ("HTTP/1.1 503 Service Unavailable", "The daemon is busy: see its log.\n"));
}

#[tokio::test]
async fn a_daemon_that_is_stopping_says_so() {
    let (scrapes, taken) = mpsc::channel(1);
    let daemon = Daemon::serve(scrapes);
    drop(taken);
    assert!(daemon.say(GET).await.ends_with("\r\n\r\nThe daemon is stopping: start it again.\n"));
}

#[tokio::test]
async fn the_endpoint_moves_and_ends_as_it_is_wanted() {
    let mut daemon = Daemon::start();
    let addr = loopback();
    daemon.endpoint.set(Some(&at(addr))).expect("binds");
    assert!(!daemon.socket().exists());
    let scrape = || async { exchange(TcpStream::connect(addr).await.expect("connects"), GET).await };
    assert!(scrape().await.starts_with("HTTP/1.1 200 OK\r\n"));
    // The same again rebinds nothing: who is connected stays.
    let client = TcpStream::connect(addr).await.expect("connects");
    daemon.endpoint.set(Some(&Metrics { subflows: true, ..at(addr) })).expect("stays");
    assert!(exchange(client, GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
    daemon.endpoint.set(None).expect("ends");
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn where_the_new_one_cannot_be_the_old_one_stays() {
    let mut daemon = Daemon::start();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = occupied.local_addr().expect("has one");
    let message = daemon.endpoint.set(Some(&at(addr))).expect_err("is refused").to_string();
    assert!(message.starts_with(&format!("cannot open the metrics endpoint at {addr}: ")), "{message}");
    let file = daemon.folder.path().join("file");
    std::fs::write(&file, "precious").expect("writes");
    let message = daemon.endpoint.set(Some(&unix(&file))).expect_err("is refused").to_string();
    assert!(message.contains("is there and is no socket"), "{message}");
    assert!(daemon.say(GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn another_group_is_given_the_socket_at_its_place() {
    let mut daemon = Daemon::start();
    let client = daemon.connect().await;
    let wanted = Metrics { group: "daemon".into(), ..unix(&daemon.socket()) };
    daemon.endpoint.set(Some(&wanted)).expect("changes");
    let group = nix::unistd::Group::from_name("daemon").expect("readable").expect("Debian has it");
    let file = std::fs::symlink_metadata(daemon.socket()).expect("is there");
    assert_eq!((file.gid(), file.mode() & 0o7777), (group.gid.as_raw(), 0o660));
    assert!(exchange(client, GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
}
