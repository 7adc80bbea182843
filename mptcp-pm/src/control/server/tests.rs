//! Tests of the control socket's server: clients that behave badly, over real sockets.
mod monitor;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::*;

/// A server in a folder of its own, before a daemon that answers every request with its uid.
struct Daemon {
    control: Control,
    feed: Feed,
    _folder: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Daemon {
    fn start() -> Self {
        let (calls, mut taken) = mpsc::channel::<Call>(1);
        let mut daemon = Self::serve(calls);
        daemon.tasks.spawn(async move {
            while let Some(call) = taken.recv().await {
                let _ = call.reply.send(Reply::Ok(json!({"request": call.request, "uid": call.peer.uid})));
            }
        });
        daemon
    }

    fn serve(calls: mpsc::Sender<Call>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let control = Control { socket: folder.path().join("control"), group: "root".into() };
        let server = Server::bind(&control).expect("binds");
        let mut tasks = JoinSet::new();
        let feed = Feed::default();
        tasks.spawn(server.serve(calls, feed.clone()));
        Self { control, feed, _folder: folder, tasks }
    }

    async fn connect(&self) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(&self.control.socket).await.expect("connects"))
    }

    /// Asks on a connection of its own.
    async fn ping(&self) -> Value {
        let mut client = self.connect().await;
        ask(&mut client, b"{\"request\":\"ping\"}\n").await.unwrap_or_default()
    }
}

/// Sends bytes and reads one reply; none where the server has closed.
async fn ask(client: &mut BufReader<UnixStream>, bytes: &[u8]) -> Option<Value> {
    // What the server does not want to read it need not take.
    let _ = client.write_all(bytes).await;
    let mut line = String::new();
    client.read_line(&mut line).await.ok()?;
    serde_json::from_str(&line).ok()
}

fn message(reply: Option<Value>) -> String {
    reply.expect("is answered")["error"]["message"].as_str().expect("is an error").to_owned()
}

/// Whether the server has closed, with nothing more to read.
async fn is_closed(client: &mut BufReader<UnixStream>) -> bool {
    client.read_u8().await.is_err()
}

#[tokio::test]
async fn requests_are_answered_in_order_on_one_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let reply = ask(&mut client, b"{\"request\":\"ping\"}\n{\"request\":\"status\"}\n").await;
    assert_eq!(reply.expect("is answered")["ok"]["request"], json!({"request": "ping"}));
    let uid = geteuid().as_raw();
    let expected = json!({"ok": {"request": {"request": "status"}, "uid": uid}});
    assert_eq!(ask(&mut client, b"").await, Some(expected));
}

#[tokio::test]
async fn a_last_line_needs_no_end() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    client.write_all(b"{\"request\":\"ping\"}").await.expect("writes");
    client.shutdown().await.expect("half-closes");
    assert!(ask(&mut client, b"").await.expect("is answered")["ok"].is_object());
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn garbage_is_answered_and_the_client_is_closed() {
    let daemon = Daemon::start();
    for garbage in [&b"\n"[..], b"\xff\xfe\0\n", b"{\"request\":\"pong\"}\n", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = daemon.connect().await;
        assert!(message(ask(&mut client, garbage).await).starts_with("not a request"));
        assert!(is_closed(&mut client).await);
    }
    assert!(daemon.ping().await["ok"].is_object());
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let chunk = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 100 && client.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100, "the server took 100 MB without an end of line");
    assert_eq!(message(ask(&mut client, b"").await), "request longer than 65536 bytes");
    assert!(daemon.ping().await["ok"].is_object());
}

#[tokio::test]
async fn the_longest_line_is_read() {
    let daemon = Daemon::start();
    let request = "{\"request\":\"ping\"}";
    let mut line = request.to_owned() + &" ".repeat(MAX_REQUEST - request.len() - 1) + "\n";
    let mut client = daemon.connect().await;
    assert!(ask(&mut client, line.as_bytes()).await.expect("is answered")["ok"].is_object());
    line.insert(0, ' ');
    assert_eq!(message(ask(&mut client, line.as_bytes()).await), "request longer than 65536 bytes");
}

#[tokio::test]
async fn the_seventeenth_client_is_told_and_closed() {
    let daemon = Daemon::start();
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(daemon.connect().await);
    }
    for client in &mut clients[..MAX_CLIENTS] {
        assert!(ask(client, b"{\"request\":\"ping\"}\n").await.expect("is answered")["ok"].is_object());
    }
    for client in &mut clients[MAX_CLIENTS..] {
        assert_eq!(message(ask(client, b"").await), "16 clients are served already");
        assert!(is_closed(client).await);
    }
    clients.remove(0);
    // The server notices in its own time.
    while !daemon.ping().await["ok"].is_object() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_is_closed_after_ten_seconds() {
    let daemon = Daemon::start();
    for half in [&b""[..], b"{\"request\":"] {
        let mut client = daemon.connect().await;
        let start = tokio::time::Instant::now();
        assert_eq!(message(ask(&mut client, half).await), "no request within 10 s");
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < 2 * PATIENCE);
        assert!(is_closed(&mut client).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_is_closed_all_the_same() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    let start = tokio::time::Instant::now();
    while client.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() < 2 * PATIENCE);
}

#[tokio::test]
async fn clients_that_vanish_leave_their_places() {
    let daemon = Daemon::start();
    for part in [&b""[..], b"{\"req", b"{\"request\":\"ping\"}\n"] {
        for _ in 0..MAX_CLIENTS {
            let mut client = daemon.connect().await;
            client.write_all(part).await.expect("writes");
        }
        while !daemon.ping().await["ok"].is_object() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_answer_is_called_busy() {
    let (calls, _never_taken) = mpsc::channel(1);
    let daemon = Daemon::serve(calls);
    assert_eq!(daemon.ping().await["error"]["message"], "the daemon is busy");
}

#[tokio::test]
async fn a_daemon_that_is_stopping_says_so() {
    let (calls, taken) = mpsc::channel(1);
    let daemon = Daemon::serve(calls);
    drop(taken);
    assert_eq!(daemon.ping().await["error"]["message"], "the daemon is stopping");
}

#[tokio::test]
async fn the_socket_goes_with_the_server() {
    let mut daemon = Daemon::start();
    assert!(daemon.control.socket.exists());
    daemon.tasks.shutdown().await;
    assert!(!daemon.control.socket.exists());
}
