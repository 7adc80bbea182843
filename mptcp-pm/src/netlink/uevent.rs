//! What the kernel tells of devices (`NETLINK_KOBJECT_UEVENT`, lib/kobject_uevent.c): text, not netlink messages.
use std::io;

use super::transport::{Datagrams as _, KernelSocket};

/// `NETLINK_KOBJECT_UEVENT` of include/uapi/linux/netlink.h.
const PROTOCOL: isize = 15;

/// The kernel's own group; udev's is another one.
const GROUP: u32 = 1;

/// The events of all devices.
#[derive(Debug)]
pub struct Uevents(KernelSocket);

impl Uevents {
    /// Begins to listen. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// Where the kernel gives no such socket.
    pub fn listen() -> io::Result<Self> {
        let socket = KernelSocket::open(PROTOCOL)?;
        socket.join(GROUP)?;
        Ok(Self(socket))
    }

    /// Waits until something happens to a device of a subsystem, or that is not known because messages were lost. By then
    /// all that waited has been read: until that is so, the kernel loses more of them without another word.
    ///
    /// # Errors
    /// Where the socket fails.
    pub async fn next(&mut self, subsystem: &str) -> io::Result<()> {
        let wanted = format!("SUBSYSTEM={subsystem}");
        loop {
            match self.0.receive().await {
                // Only the privileged can say so beside the kernel, and it is only a reason to look.
                Ok(datagram) if names(datagram.bytes, &wanted) => return Ok(()),
                Ok(_) => {}
                Err(error) if is_lossy(&error) => return self.discard(),
                Err(error) => return Err(error),
            }
        }
    }

    fn discard(&mut self) -> io::Result<()> {
        loop {
            match self.0.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if !is_lossy(&error) => return Err(error),
                _ => {}
            }
        }
    }
}

/// `ACTION@DEVPATH`, then `KEY=VALUE`, each with a zero at its end.
fn names(event: &[u8], wanted: &str) -> bool {
    event.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
}

fn is_lossy(error: &io::Error) -> bool {
    use nix::libc::{EMSGSIZE, ENOBUFS};
    matches!(error.raw_os_error(), Some(ENOBUFS | EMSGSIZE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsystem_is_found_as_a_whole() {
        let event =
            b"change@/devices/AC\0ACTION=change\0DEVPATH=/devices/AC\0SUBSYSTEM=power_supply\0SEQNUM=7\0";
        assert!(names(event, "SUBSYSTEM=power_supply"));
        assert!(!names(event, "SUBSYSTEM=power"));
    }
}
