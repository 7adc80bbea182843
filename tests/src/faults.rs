//! What a kernel in trouble does to netlink, done to the datagrams between a daemon's sockets and the kernel; seeded.
use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mptcp_pm::netlink::transport::{Between, come_between};
use netlink_sys::{AsyncSocket as _, SocketAddr, TokioSocket};
use nix::errno::Errno;
use tokio::time::Sleep;

use crate::Rng;

/// What can go wrong with one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The system call that sends fails, and the kernel hears nothing.
    Unsent,
    /// The kernel refuses what is asked (`NLMSG_ERROR`).
    Refused,
    /// What is asked is done, and never answered; of notifications and parts of dumps, the reader is told (`ENOBUFS`).
    Lost,
    /// The system call that receives fails, and what was to be received is gone.
    Unread,
    /// It comes late, and so does all that follows on this socket. Of notifications the kernel keeps as many as fit into the
    /// receive buffer meanwhile.
    Late,
    /// Its end is missing.
    Cut,
    /// Something comes before it that another process sent, or that answers another request.
    Foreign,
    /// It comes twice.
    Twice,
}

impl Fault {
    /// Each kind.
    pub const ALL: [Self; 8] = [
        Self::Unsent,
        Self::Refused,
        Self::Lost,
        Self::Unread,
        Self::Late,
        Self::Cut,
        Self::Foreign,
        Self::Twice,
    ];

    /// Those after which nobody waits for something that never comes.
    const QUICK: [Self; 7] =
        [Self::Unsent, Self::Refused, Self::Unread, Self::Late, Self::Cut, Self::Foreign, Self::Twice];
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name));
        found.with_context(|| format!("no fault is named {name:?}; there are {:?}", Self::ALL))
    }
}

/// What is to go wrong in one process.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Determines what becomes of the n-th datagram of the m-th socket.
    pub seed: u64,
    /// How likely a datagram meets a fault, in percent.
    pub percent: u64,
    /// How many faults there are; then all is well.
    pub budget: u64,
    /// Of these kinds.
    pub kinds: Vec<Fault>,
}

impl Plan {
    /// Four words: seed, percent, budget, and a fault's name or `all`.
    ///
    /// # Errors
    /// When one of them is something else.
    pub fn from_words(words: &[String]) -> Result<Self> {
        let [seed, percent, budget, kind] = words else { bail!("four words make a plan, not {words:?}") };
        let number = |word: &String| word.parse().with_context(|| format!("{word:?} is no number"));
        let kinds = match kind.as_str() {
            // An answer that never comes is waited for: it is rarer than the others.
            "all" => [&Fault::ALL[..], &Fault::QUICK, &Fault::QUICK].concat(),
            one => vec![one.parse()?],
        };
        Ok(Self { seed: number(seed)?, percent: number(percent)?, budget: number(budget)?, kinds })
    }

    /// From now on the netlink sockets that this thread opens meet these faults. Each is told on standard error, and
    /// the last one followed by [`SPENT`].
    pub fn begin(self) {
        let left = Arc::new(AtomicU64::new(self.budget));
        let opened = AtomicU64::new(0);
        come_between(move || {
            // Socket numbers apart, so that neighbours do not have the same luck.
            let rng = Rng::new(
                self.seed.wrapping_mul(0x1_0001).wrapping_add(opened.fetch_add(1, Ordering::Relaxed)),
            );
            Box::new(Trouble {
                plan: self.clone(),
                rng,
                left: Arc::clone(&left),
                asks: false,
                coming: VecDeque::new(),
                late: None,
                reader: None,
            })
        });
    }
}

/// Said when all faults have happened.
pub const SPENT: &str = "faults: none are left";

/// What stands between one socket and the kernel.
struct Trouble {
    plan: Plan,
    rng: Rng,
    left: Arc<AtomicU64>,
    /// It sends: what it receives answers it. The others have subscribed to notifications.
    asks: bool,
    /// What is received next, before anything of the kernel's.
    coming: VecDeque<io::Result<(Vec<u8>, u32)>>,
    late: Option<Pin<Box<Sleep>>>,
    /// Who waits to receive.
    reader: Option<Waker>,
}

impl Between for Trouble {
    fn send(&mut self, socket: &TokioSocket, datagram: &[u8]) -> Option<io::Result<()>> {
        const SENDING: [Errno; 5] =
            [Errno::EINTR, Errno::ENOMEM, Errno::ENOBUFS, Errno::EPERM, Errno::ECONNREFUSED];
        const ANSWERS: [Errno; 5] = [Errno::EPERM, Errno::EBUSY, Errno::ENOMEM, Errno::EINTR, Errno::EAGAIN];
        self.asks = true;
        match self.fault(&[Fault::Unsent, Fault::Refused])? {
            Fault::Unsent => Some(Err(self.one_of(&SENDING).into())),
            _ => {
                let port = own_port(socket).ok()?;
                let refusal = refusal(datagram, port, self.one_of(&ANSWERS));
                self.coming.push_back(Ok((refusal, 0)));
                self.reader.take().into_iter().for_each(Waker::wake);
                Some(Ok(()))
            }
        }
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        socket: &TokioSocket,
    ) -> Poll<io::Result<(Vec<u8>, u32)>> {
        self.reader = Some(context.waker().clone());
        loop {
            if let Some(late) = &mut self.late {
                ready!(late.as_mut().poll(context));
                self.late = None;
            }
            if let Some(coming) = self.coming.pop_front() {
                return Poll::Ready(coming);
            }
            let mut bytes = Vec::with_capacity(64 << 10);
            // What is there is read without asking the runtime, which now and then wants others to have a turn: a queue
            // that seems empty and is not would be a fault that no kernel has.
            let sender = match socket.socket_ref().recv_from(&mut bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_recv_from(context, &mut bytes))?
                }
                received => received?.1,
            };
            self.received(bytes, sender.port_number());
        }
    }
}

impl Trouble {
    /// The fault that this datagram meets, if it meets one of these.
    fn fault(&mut self, of: &[Fault]) -> Option<Fault> {
        let possible: Vec<_> = self.plan.kinds.iter().copied().filter(|kind| of.contains(kind)).collect();
        if possible.is_empty() || self.rng.bits() % 100 >= self.plan.percent {
            return None;
        }
        let fault = possible[(self.rng.bits() % possible.len() as u64) as usize];
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        eprintln!("fault: {fault:?}");
        if left == 1 {
            eprintln!("{SPENT}");
        }
        Some(fault)
    }

    fn one_of(&mut self, errors: &[Errno]) -> Errno {
        errors[(self.rng.bits() % errors.len() as u64) as usize]
    }

    /// Decides what becomes of a datagram.
    fn received(&mut self, mut bytes: Vec<u8>, sender: u32) {
        const READING: [Errno; 4] = [Errno::ENOBUFS, Errno::ENOMEM, Errno::EINTR, Errno::EIO];
        let on_the_way = [Fault::Lost, Fault::Unread, Fault::Late, Fault::Cut, Fault::Foreign, Fault::Twice];
        match self.fault(&on_the_way) {
            // The kernel loses neither a notification nor a part of a dump without a word.
            Some(Fault::Lost) if !self.asks || is_part(&bytes) => {
                self.coming.push_back(Err(Errno::ENOBUFS.into()));
            }
            Some(Fault::Lost) => {}
            Some(Fault::Unread) => {
                let errno = self.one_of(&READING);
                self.coming.push_back(Err(errno.into()));
            }
            Some(Fault::Late) => {
                let late = Duration::from_millis(1 + self.rng.bits() % 300);
                self.late = Some(Box::pin(tokio::time::sleep(late)));
                self.coming.push_back(Ok((bytes, sender)));
            }
            Some(Fault::Cut) => {
                let end = 1 + (self.rng.bits() % bytes.len().max(2) as u64) as usize;
                bytes.truncate(within_a_message(&bytes, end));
                self.coming.push_back(Ok((bytes, sender)));
            }
            Some(Fault::Foreign) => {
                self.foreign(&bytes);
                self.coming.push_back(Ok((bytes, sender)));
            }
            Some(Fault::Twice) => {
                self.coming.push_back(Ok((bytes.clone(), sender)));
                self.coming.push_back(Ok((bytes, sender)));
            }
            _ => self.coming.push_back(Ok((bytes, sender))),
        }
    }

    /// A lie of another process, or an answer that is not to the last request.
    fn foreign(&mut self, bytes: &[u8]) {
        let Some(header) = bytes.first_chunk::<16>() else { return };
        let port = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
        let lie = refusal(header, port, Errno::EPERM);
        if self.rng.bits().is_multiple_of(2) || !self.asks {
            self.coming.push_back(Ok((lie, 4711)));
        } else {
            let mut other = lie;
            // Its sequence number, so that it answers the request before.
            other[8] = other[8].wrapping_sub(1);
            self.coming.push_back(Ok((other, 0)));
        }
    }
}

/// The place nearest before `end` at which a message is cut: where one ends, nobody could tell that more was to come.
fn within_a_message(bytes: &[u8], end: usize) -> usize {
    let mut begin = 0;
    while let Some(length) = bytes.get(begin..).and_then(|rest| rest.first_chunk()) {
        let length = (u32::from_ne_bytes(*length) as usize).max(16);
        if end <= begin + length.next_multiple_of(4) {
            return end.clamp(begin + 1, begin + length - 1);
        }
        begin += length.next_multiple_of(4);
    }
    end
}

/// Whether more of the same answer is to come (`NLM_F_MULTI`).
fn is_part(bytes: &[u8]) -> bool {
    bytes.get(6).is_some_and(|flags| flags & 2 != 0)
}

fn own_port(socket: &TokioSocket) -> io::Result<u32> {
    let mut own = SocketAddr::new(0, 0);
    socket.socket_ref().get_address(&mut own)?;
    Ok(own.port_number())
}

/// The answer that refuses a request (`struct nlmsgerr`, include/uapi/linux/netlink.h).
fn refusal(request: &[u8], port: u32, errno: Errno) -> Vec<u8> {
    const NLMSG_ERROR: u16 = 2;
    const NLM_F_CAPPED: u16 = 0x100;
    let header = &request[..16];
    let mut bytes = 36_u32.to_ne_bytes().to_vec();
    bytes.extend(NLMSG_ERROR.to_ne_bytes());
    bytes.extend(NLM_F_CAPPED.to_ne_bytes());
    bytes.extend(&header[8..12]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend((-(errno as i32)).to_ne_bytes());
    bytes.extend(header);
    bytes
}
