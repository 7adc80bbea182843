//! MPTCP connections of the test itself, and what the kernel's own tools say of them.
use std::io::{Read, Write};
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::json;

/// A socket that speaks MPTCP.
pub fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).expect("an MPTCP socket")
}

/// A listener.
pub fn listen(at: &str) -> Socket {
    let listener = socket();
    listener.set_reuse_address(true).unwrap();
    listener.bind(&at.parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(8).unwrap();
    listener
}

/// Connects to a listener and talks, so that both ends know it to be fully established.
pub fn connect(listener: &Socket, to: &str) -> (Socket, Socket) {
    let client = socket();
    client.connect(&to.parse::<SocketAddr>().unwrap().into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    exchange(&client, &server);
    exchange(&server, &client);
    (client, server)
}

fn exchange(from: &Socket, to: &Socket) {
    (&*from).write_all(b"twelve bytes").unwrap();
    (&*to).read_exact(&mut [0; 12]).unwrap();
}

/// The local end of a socket.
pub fn local(socket: &Socket) -> String {
    socket.local_addr().unwrap().as_socket().unwrap().to_string()
}

/// The ends of all TCP sockets from an address, as `ss` prints them, subflows among them.
pub fn ends_from(addr: &str) -> Vec<(String, String)> {
    let output =
        std::process::Command::new("ss").args(["-tnH", "src", addr]).output().expect("ss(8) of iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let ends = |line: &str| {
        let mut words = line.split_whitespace().skip(3).map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    text.lines().map(ends).collect()
}

/// The endpoints as `endpoint list --json` has them: id, address, flags.
pub fn endpoints() -> Vec<(u64, String, Vec<String>)> {
    let list = json("endpoint list --json");
    let object = |object: &serde_json::Value| {
        let flags = object["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap().to_owned());
        (object["id"].as_u64().unwrap(), object["addr"].as_str().unwrap().to_owned(), flags.collect())
    };
    list.as_array().unwrap().iter().map(object).collect()
}
