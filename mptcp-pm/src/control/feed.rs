//! What happens, for the clients that monitor: the daemon tells it once, each of them hears it in its own time.
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::view::event::Event;

/// How many may listen at once: half of all clients.
pub const MAX_LISTENERS: usize = super::server::MAX_CLIENTS / 2;

/// As many events are kept for who is slow.
const KEPT: usize = 1024;

/// Where the daemon tells; its clones are the same one.
#[derive(Clone, Debug)]
pub struct Feed(broadcast::Sender<Arc<str>>);

/// What one client has still to be told.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Arc<str>>);

impl Default for Feed {
    /// Nobody listens yet.
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Feed {
    /// Whether anybody listens: else there is no reason to make an event.
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Tells those who listen, as one line of JSON.
    pub fn tell(&self, event: &impl Serialize) {
        // Without listeners nothing is kept.
        let _ = self.0.send(line(event));
    }

    /// Listens from now on; none where too many do already.
    pub fn listen(&self) -> Option<Listener> {
        (self.0.receiver_count() < MAX_LISTENERS).then(|| self.follow())
    }

    /// Listens from now on, however many do: for who hears on behalf of others.
    pub fn follow(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// The next line, with its end; that some were lost where it listened too slowly. For ever when the daemon has ended.
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Arc<str> {
        match self.0.recv().await {
            Ok(line) => line,
            Err(RecvError::Lagged(_)) => line(&Event::lost(SystemTime::now())),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn line(event: &impl Serialize) -> Arc<str> {
    // Events are plain data: there is nothing in them that JSON does not have.
    let mut line = serde_json::to_string(event).unwrap_or_default();
    line.push('\n');
    line.into()
}
