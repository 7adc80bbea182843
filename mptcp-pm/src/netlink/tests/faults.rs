//! Faults injected below the transport: late, foreign, cut, lost and missing answers.
use std::{collections::VecDeque, future::pending, io, time::Duration};

use futures_util::FutureExt as _;
use netlink_packet_core::{NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR};
use nix::{errno::Errno, libc};

use crate::{
    core::world::{EndpointFlags, Limits},
    netlink::{
        mptcp::{Events, Mptcp, NewEndpoint, Notice},
        transport::{Client, Datagram, Datagrams, Fault},
    },
};

const PORT: u32 = 42;
const KIND: u16 = 28;

/// One thing that the socket does when it is read.
#[derive(Debug)]
enum Step {
    /// Gives a datagram from a sender.
    Give(u32, Vec<u8>),
    /// Fails.
    Fail(Errno),
}

/// A socket that follows a script; at its end it is silent for ever.
#[derive(Debug)]
struct Script {
    steps: VecDeque<Step>,
    sent: usize,
    buffer: Vec<u8>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), sent: 0, buffer: Vec::new() }
    }
}

impl Datagrams for Script {
    fn port(&self) -> u32 {
        PORT
    }

    async fn send(&mut self, _: &[u8]) -> io::Result<()> {
        self.sent += 1;
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<Datagram<'_>> {
        match self.steps.pop_front() {
            Some(Step::Give(sender, bytes)) => {
                self.buffer = bytes;
                Ok(Datagram { sender, bytes: &self.buffer })
            }
            Some(Step::Fail(errno)) => Err(errno.into()),
            None => pending().await,
        }
    }
}

fn message(kind: u16, flags: u16, sequence: u32, port: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(port.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn part(sequence: u32, flags: u16, body: &[u8]) -> Vec<u8> {
    message(KIND, NLM_F_MULTIPART | flags, sequence, PORT, body)
}

fn done(sequence: u32) -> Vec<u8> {
    message(NLMSG_DONE, NLM_F_MULTIPART, sequence, PORT, &[0; 4])
}

fn error(sequence: u32, errno: i32) -> Vec<u8> {
    let mut body = (-errno).to_ne_bytes().to_vec();
    body.extend(message(KIND, 0, sequence, 0, &[]));
    message(NLMSG_ERROR, 0x100, sequence, PORT, &body)
}

fn give(bytes: Vec<u8>) -> Step {
    Step::Give(0, bytes)
}

fn client(steps: impl IntoIterator<Item = Step>) -> Client<Script> {
    Client::new(Script::new(steps), Duration::from_millis(20))
}

#[tokio::test]
async fn answers_to_others_are_passed_over() {
    let mut client = client([
        give(message(KIND, 0, 7, PORT, b"late")),
        give(message(KIND, 0, 1, PORT + 1, b"not ours")),
        Step::Give(1234, message(KIND, 0, 1, PORT, b"not the kernel's")),
        give([message(KIND, 0, 9, PORT, b"late"), message(KIND, 0, 1, PORT, b"ours")].concat()),
    ]);
    assert_eq!(client.get(KIND, &[]).await.unwrap(), b"ours");
}

#[tokio::test]
async fn a_late_answer_does_not_answer_the_next_request() {
    let mut client = client([]);
    assert!(matches!(client.change(KIND, &[]).await, Err(Fault::NoAnswer(_))));
    client = Client::new(
        Script::new([give(error(1, 0)), give(error(2, libc::EEXIST))]),
        Duration::from_millis(20),
    );
    assert!(client.change(KIND, &[]).await.is_ok());
    assert!(matches!(client.change(KIND, &[]).await, Err(Fault::Refused(_))));
}

#[tokio::test]
async fn a_dump_is_gathered_until_it_is_done() {
    let mut client = client([
        give([part(1, 0, b"one."), part(1, 0, b"two.")].concat()),
        give([part(1, 0, b"three"), done(1)].concat()),
    ]);
    assert_eq!(client.dump(KIND, &[]).await.unwrap(), [&b"one."[..], b"two.", b"three"]);
}

#[tokio::test]
async fn an_interrupted_dump_is_repeated_and_given_up_in_the_end() {
    let interrupted = |sequence| give([part(sequence, NLM_F_DUMP_INTR, b"half"), done(sequence)].concat());
    let mut client1 = client([interrupted(1), give([part(2, 0, b"full"), done(2)].concat())]);
    assert_eq!(client1.dump(KIND, &[]).await.unwrap(), [b"full"]);
    let mut client2 = client((1..=4).map(interrupted));
    assert!(matches!(client2.dump(KIND, &[]).await, Err(Fault::Inconsistent)));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_only_when_that_changes_nothing() {
    let mut get = client([
        Step::Fail(Errno::ENOBUFS),
        Step::Fail(Errno::EMSGSIZE),
        give(message(KIND, 0, 3, PORT, b"here")),
    ]);
    assert_eq!(get.get(KIND, &[]).await.unwrap(), b"here");
    let mut change = client([Step::Fail(Errno::ENOBUFS), give(error(2, 0))]);
    let lost = change.change(KIND, &[]).await.unwrap_err();
    assert!(matches!(lost, Fault::Socket(error) if error.raw_os_error() == Some(libc::ENOBUFS)));
}

#[tokio::test]
async fn cut_and_senseless_answers_are_errors() {
    let whole = message(KIND, 0, 1, PORT, b"whole");
    for end in 1..whole.len() - 4 {
        let cut = client([give(whole[..end].to_vec())]).get(KIND, &[]).await;
        assert!(matches!(cut, Err(Fault::Malformed(_))), "{end}: {cut:?}");
    }
    let acknowledged = client([give(error(1, 0))]).get(KIND, &[]).await;
    assert!(matches!(acknowledged, Err(Fault::Malformed(_))));
    let short = client([give(message(NLMSG_ERROR, 0, 1, PORT, &[0; 2]))]).change(KIND, &[]).await;
    assert!(matches!(short, Err(Fault::Malformed(_))));
}

#[tokio::test]
async fn a_dump_can_fail_at_its_end() {
    let failed = message(NLMSG_DONE, NLM_F_MULTIPART, 1, PORT, &(-libc::ENOENT).to_ne_bytes());
    let error = client([give([part(1, 0, b"some"), failed].concat())]).dump(KIND, &[]).await.unwrap_err();
    assert!(matches!(error, Fault::Refused(refusal) if refusal.errno == Errno::ENOENT));
}

/// The controller's answer: family 28, no groups.
fn family() -> Step {
    give(message(16, 0, 1, PORT, &[1, 2, 0, 0, 6, 0, 1, 0, KIND as u8, 0, 0, 0]))
}

/// What 6.1 says to an endpoint that it does not want, for whatever reason.
fn refusal_of_6_1(sequence: u32) -> Step {
    let text = b"too many addresses or duplicate one\0";
    let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
    body.extend(message(KIND, 0, sequence, 0, &[]));
    body.extend((4 + text.len() as u16).to_ne_bytes());
    body.extend(1_u16.to_ne_bytes());
    body.extend(text);
    give(message(NLMSG_ERROR, 0x300, sequence, PORT, &body))
}

#[tokio::test]
async fn what_6_1_means_is_read_off_its_endpoints() {
    // An endpoint with id 1 and address 10.0.0.1.
    let existing = [3, 1, 0, 0, 20, 0, 1, 128, 5, 0, 2, 0, 1, 0, 0, 0, 8, 0, 3, 0, 10, 0, 0, 1];
    for (addr, id, meant) in [
        ("10.0.0.1", None, Errno::EEXIST),
        ("10.0.0.2", std::num::NonZeroU8::new(1), Errno::EBUSY),
        ("10.0.0.2", None, Errno::ERANGE),
    ] {
        let dump = give([part(3, 0, &existing), done(3)].concat());
        let mut mptcp = Mptcp::over(client([family(), refusal_of_6_1(2), dump])).await.unwrap();
        let new = NewEndpoint {
            addr: addr.parse().unwrap(),
            port: 0,
            id,
            ifindex: None,
            flags: EndpointFlags::SUBFLOW,
        };
        let error = mptcp.add_endpoint(&new).await.unwrap_err();
        assert_eq!(error.errno(), Some(meant), "{error}");
    }
}

#[tokio::test]
async fn a_kernel_without_mptcp_is_named() {
    let error = Mptcp::over(client([give(error(1, libc::ENOENT))])).await.unwrap_err();
    assert!(error.to_string().contains("this kernel has no MPTCP path manager"), "{error}");
}

#[tokio::test]
async fn a_missing_privilege_is_named() {
    let mut mptcp = Mptcp::over(client([family(), give(error(2, libc::EPERM))])).await.unwrap();
    let error = mptcp.set_limits(Limits { subflows: 2, add_addr_accepted: 0 }).await.unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EPERM));
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}

#[tokio::test]
async fn a_connection_is_named_as_the_command_line_takes_it() {
    let mut mptcp = Mptcp::over(client([family(), give(error(2, libc::ESRCH))])).await.unwrap();
    let error = mptcp.remove(0x1234_5678, 1).await.unwrap_err();
    assert!(error.to_string().contains("connection 0x12345678"), "{error}");
}

#[tokio::test]
async fn a_loss_of_events_is_told_when_the_others_have_been_read() {
    let closed = message(KIND, 0, 0, 0, &[3, 1, 0, 0, 8, 0, 1, 0, 1, 0, 0, 0]);
    let steps = [
        Step::Fail(Errno::ENOBUFS),
        Step::Fail(Errno::EMSGSIZE),
        give(message(KIND + 1, 0, 0, 0, b"another family's")),
        Step::Give(1234, closed.clone()),
        give(closed[..20].to_vec()),
        give(closed),
    ];
    let mut events = Events::over(Script::new(steps), KIND);
    assert!(events.next().await.is_err(), "an event that is cut short");
    let Notice::Event(event) = events.next().await.unwrap() else { panic!("no event") };
    assert_eq!(event.token(), Some(1));
    // Not before all that waits has been read: until then the kernel may lose more.
    assert_eq!(events.next().await.unwrap(), Notice::Lost);
    assert!(events.next().now_or_never().is_none(), "a loss is told once");
}
