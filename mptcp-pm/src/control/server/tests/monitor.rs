//! Clients that monitor: they are told everything in order, bounded in number, in time and in what is kept for them.
use super::*;

const REQUEST: &[u8] = b"{\"request\":\"monitor\"}\n";

impl Daemon {
    /// A client that has been told that it is heard.
    async fn listener(&self) -> BufReader<UnixStream> {
        let mut client = self.connect().await;
        let reply = ask(&mut client, REQUEST).await.expect("is answered");
        assert_eq!(reply["ok"]["request"], json!({"request": "monitor"}));
        client
    }

    /// Waits until the server has noticed that nobody listens any more.
    async fn await_silence(&self) {
        while self.feed.is_heard() {
            tokio::task::yield_now().await;
        }
    }
}

/// The next event.
async fn next(client: &mut BufReader<UnixStream>) -> Value {
    ask(client, b"").await.expect("another line")
}

#[tokio::test]
async fn each_hears_what_is_told_after_its_reply_in_order() {
    let daemon = Daemon::start();
    daemon.feed.tell(&json!("nobody hears this"));
    let mut first = daemon.listener().await;
    daemon.feed.tell(&json!({"number": 1}));
    let mut second = daemon.listener().await;
    for number in 2..1000 {
        daemon.feed.tell(&json!({"number": number}));
    }
    for number in 1..1000 {
        assert_eq!(next(&mut first).await, json!({"number": number}));
    }
    for number in 2..1000 {
        assert_eq!(next(&mut second).await, json!({"number": number}));
    }
}

#[tokio::test]
async fn it_may_have_asked_for_other_things_before() {
    let daemon = Daemon::start();
    let mut client = daemon.connect().await;
    assert!(ask(&mut client, b"{\"request\":\"ping\"}\n").await.expect("is answered")["ok"].is_object());
    assert!(ask(&mut client, REQUEST).await.expect("is answered")["ok"].is_object());
    daemon.feed.tell(&json!(1));
    assert_eq!(next(&mut client).await, json!(1));
}

#[tokio::test]
async fn one_that_goes_or_says_more_is_not_listening() {
    let daemon = Daemon::start();
    drop(daemon.listener().await);
    daemon.await_silence().await;
    let mut client = daemon.listener().await;
    assert!(daemon.feed.is_heard());
    client.write_all(b"x").await.expect("writes");
    assert!(is_closed(&mut client).await);
    daemon.await_silence().await;
    let mut client = daemon.connect().await;
    client.write_all(&[REQUEST, REQUEST].concat()).await.expect("writes");
    assert!(next(&mut client).await["ok"].is_object());
    assert!(is_closed(&mut client).await);
}

#[tokio::test]
async fn the_ninth_is_refused_and_others_are_served() {
    let daemon = Daemon::start();
    let mut listeners = Vec::new();
    for _ in 0..MAX_LISTENERS {
        listeners.push(daemon.listener().await);
    }
    let mut ninth = daemon.connect().await;
    assert_eq!(message(ask(&mut ninth, REQUEST).await), "8 clients monitor already");
    assert!(is_closed(&mut ninth).await);
    assert!(daemon.ping().await["ok"].is_object());
    listeners.remove(0);
    // The server notices in its own time.
    loop {
        let mut client = daemon.connect().await;
        if ask(&mut client, REQUEST).await.is_some_and(|reply| reply["ok"].is_object()) {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_nothing_to_be_told_may_stay() {
    let daemon = Daemon::start();
    let mut client = daemon.listener().await;
    tokio::time::sleep(1000 * PATIENCE).await;
    daemon.feed.tell(&json!(1));
    assert_eq!(next(&mut client).await, json!(1));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_is_closed_after_ten_seconds() {
    let daemon = Daemon::start();
    let _client = daemon.listener().await;
    let start = tokio::time::Instant::now();
    // More than a socket's buffer holds.
    daemon.feed.tell(&"x".repeat(8 << 20));
    while daemon.feed.is_heard() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() >= PATIENCE && start.elapsed() < 2 * PATIENCE);
}

#[tokio::test]
async fn one_that_is_too_slow_is_told_that_it_lost_the_oldest() {
    let daemon = Daemon::start();
    let mut client = daemon.listener().await;
    // The server does not run meanwhile.
    const TOLD: u64 = 5000;
    for number in 0..TOLD {
        daemon.feed.tell(&json!({"number": number}));
    }
    let lost = next(&mut client).await;
    assert_eq!(lost["event"], "lost");
    assert!(lost["time"].as_f64() > Some(1.7e9), "{lost}");
    let mut expected = next(&mut client).await["number"].as_u64().expect("an event");
    assert!(expected > 0);
    while expected < TOLD - 1 {
        expected += 1;
        assert_eq!(next(&mut client).await, json!({"number": expected}));
    }
}

#[tokio::test]
async fn without_an_answer_of_the_daemon_nothing_is_told() {
    let (calls, taken) = mpsc::channel(1);
    let daemon = Daemon::serve(calls);
    drop(taken);
    let mut client = daemon.connect().await;
    assert_eq!(message(ask(&mut client, REQUEST).await), "the daemon is stopping");
    assert!(is_closed(&mut client).await);
    assert!(!daemon.feed.is_heard());
}
