//! What NetworkManager asks whether the Internet is reached: a server that says so, or answers as a captive portal does.
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::Host;

/// What those from a network are to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The Internet.
    Internet,
    /// A captive portal.
    Portal,
}

/// The server; dropping it ends it.
pub struct Beacon {
    listener: Arc<TcpListener>,
    /// The second byte of the addresses of those who are behind a portal.
    behind: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Beacon {
    /// Starts it on a host's port 80.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(host: &Host) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        let listener = Arc::new(host.run(|| TcpListener::bind(any)).context("bind the beacon")?);
        let behind = Arc::new(Mutex::new(Vec::new()));
        let (accepting, portal) = (Arc::clone(&listener), Arc::clone(&behind));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = accepting.accept() {
                let portal = portal.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Who has gone does not want to know.
                drop(answer(stream, peer.ip(), &portal));
            }
        });
        Ok(Self { listener, behind, thread: Some(thread) })
    }

    /// What those from the network 10.N.0.0/16 get from now on.
    pub fn set(&self, net: u8, reached: Reached) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.retain(|known| *known != net);
        if reached == Reached::Portal {
            behind.push(net);
        }
    }
}

fn answer(mut stream: TcpStream, peer: IpAddr, portal: &[u8]) -> std::io::Result<()> {
    let mut request = [0; 2048];
    let _ = stream.read(&mut request)?;
    let is_behind = matches!(peer, IpAddr::V4(peer) if portal.contains(&peer.octets()[1]));
    let body = if is_behind { "Please accept our terms" } else { "NetworkManager is online" };
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

impl Drop for Beacon {
    fn drop(&mut self) {
        // Ends the waiting for the next one.
        drop(SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
