//! Tests of the codecs and the transport without a kernel: captured bytes, random bytes, injected faults.
mod captured;
mod faults;
mod fuzz;

/// One captured message.
pub(super) struct Captured {
    /// Sent to the kernel, not received from it.
    pub to_kernel: bool,
    /// All of it, header included.
    pub bytes: Vec<u8>,
}

impl Captured {
    /// The message type.
    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The message without its netlink header.
    pub fn body(&self) -> &[u8] {
        &self.bytes[16..]
    }
}

/// The messages that were captured while a command ran; of all commands for an empty name.
pub(super) fn captures(command: &str) -> Vec<Captured> {
    let mut current = "";
    let mut messages = Vec::new();
    for line in include_str!("tests/captures.txt").lines() {
        match line.split_once(' ') {
            Some(("@", name)) => current = name,
            Some((direction @ (">" | "<"), hex)) if command.is_empty() || command == current => {
                messages.push(Captured { to_kernel: direction == ">", bytes: unhex(hex) });
            }
            _ => {}
        }
    }
    assert!(!messages.is_empty(), "no capture of {command}");
    messages
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
