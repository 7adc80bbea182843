//! One HTTP request over any stream, without a client library: what a metrics endpoint and Prometheus answer.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::Host;
use crate::daemon::PATIENCE;

/// An answer, of which everything has come.
#[derive(Debug)]
pub struct Answer {
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// `GET` of a target over a stream that is connected. HTTP/1.0: the end of the stream ends the body, no chunks.
///
/// # Errors
/// When the other end does not answer in HTTP.
pub fn get(mut stream: impl Read + Write, target: &str) -> Result<Answer> {
    write!(stream, "GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n").context("send a request")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("read the answer")?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
    Ok(Answer { head: head.to_owned(), body: body.to_owned() })
}

/// The same by TCP inside a host.
///
/// # Errors
/// When nobody listens there, or does not answer in HTTP.
pub fn get_in(host: &Host, addr: SocketAddr, target: &str) -> Result<Answer> {
    host.run(|| {
        let stream = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        get(stream, target)
    })
}

impl Answer {
    /// Its number, as in `200`; none of what is no HTTP.
    pub fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }
}

/// Text as a value in a query (RFC 3986, section 2.1).
pub fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
