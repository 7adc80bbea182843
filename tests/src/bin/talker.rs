//! A program that talks over MPTCP, to be run under any name, user and cgroup: what its connections belong to is its own.
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

const HELP: &str = "\
Talks over MPTCP until its input ends. Prints its local port when it is ready.

Usage: talker connect ADDR:PORT | talker listen";

/// How often something is said.
const PACE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ready = match words[..] {
        ["connect", peer] => connect(peer),
        ["listen"] => listen(),
        _ => Err(anyhow::anyhow!(HELP)),
    };
    match ready.and_then(until_the_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("talker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn until_the_end(port: u16) -> Result<()> {
    println!("{port}");
    io::stdin().read_to_end(&mut Vec::new()).context("read the input").map(drop)
}

/// Opens a connection, and has everything come back that is said on it.
fn connect(peer: &str) -> Result<u16> {
    let peer: SocketAddr = peer.parse().context("understand the peer's address")?;
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::MPTCP))?;
    socket.connect(&peer.into()).with_context(|| format!("connect to {peer}"))?;
    let mut stream: TcpStream = socket.into();
    let port = stream.local_addr()?.port();
    // Once, so that the connection is established on both sides.
    say(&mut stream)?;
    thread::spawn(move || {
        while say(&mut stream).is_ok() {
            thread::sleep(PACE);
        }
    });
    Ok(port)
}

fn say(stream: &mut TcpStream) -> Result<()> {
    const WORDS: [u8; 100] = [b'x'; 100];
    stream.write_all(&WORDS)?;
    let mut back = [0; WORDS.len()];
    stream.read_exact(&mut back)?;
    if back != WORDS {
        bail!("something else came back");
    }
    Ok(())
}

/// Listens on a free port, and gives everything back.
fn listen() -> Result<u16> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(16)?;
    let listener: TcpListener = socket.into();
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    Ok(port)
}
