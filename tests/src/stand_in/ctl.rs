//! In place of `pm_nl_ctl` of the kernel's tests (tools/testing/selftests/net/mptcp): the same words, lines and statuses.
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use mptcp_pm::core::world::{Endpoint, EndpointFlags, Limits};
use mptcp_pm::netlink::mptcp::{Events, Mptcp, NewEndpoint, NewSubflow, Notice, Target};
use mptcp_pm::netlink::transport;
use socket2::{Domain, Protocol, Socket, Type};

use super::words::{Words, flag, interface_name, named};
use super::{block_on, event};

/// The order in which the original names flags.
const ORDER: [&str; 7] = ["signal", "subflow", "laminar", "backup", "fullmesh", "implicit", "unknown"];

/// Does what the words say; too few or an unknown command are no failure to the original.
pub fn run(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words = Words::of(&words);
    let Ok(command) = words.next() else { return usage() };
    let done = match command {
        "listen" => listen(&mut words),
        "events" => block_on(events()),
        "add" | "del" | "get" | "dump" | "flush" | "limits" | "set" | "ann" | "rem" | "csf" | "dsf" => {
            block_on(request(command, &mut words))
        }
        _ => return usage(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("pm_nl_ctl add|ann|rem|csf|dsf|get|set|del|flush|dump|events|listen|accept [<args>]");
    ExitCode::SUCCESS
}

/// A refusal of the kernel's in the original's words.
fn tell(error: &anyhow::Error) {
    match error.downcast_ref::<transport::Error>().and_then(transport::Error::errno) {
        Some(errno) => {
            eprintln!("netlink error -{} ({})", errno as i32, errno.desc());
            eprintln!("./pm_nl_ctl: bailing out due to netlink error[s]");
        }
        None => eprintln!("./pm_nl_ctl: {error:#}"),
    }
}

async fn request(command: &str, words: &mut Words<'_>) -> Result<()> {
    let mut mptcp = Mptcp::open().await?;
    match command {
        "add" => add(&mut mptcp, words).await,
        "del" => {
            let id = words.id()?;
            // The tests name an empty one where there is none.
            let addr = if id == 0 { Some(words.address()?) } else { None };
            Ok(mptcp.delete_endpoint(id, addr).await?)
        }
        "get" => get(&mut mptcp, words).await,
        "dump" => dump(&mut mptcp, words).await,
        "flush" => Ok(mptcp.flush().await?),
        "limits" => limits(&mut mptcp, words).await,
        "set" => set(&mut mptcp, words).await,
        "ann" => announce(&mut mptcp, words).await,
        "rem" => {
            let named = Named::read(words)?;
            Ok(mptcp.remove(named.token()?, named.id.context("there is no id")?).await?)
        }
        _ => subflow(&mut mptcp, command, words).await,
    }
}

async fn add(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let addr = words.address()?;
    let named = Named::read(words)?;
    let id = named.id.and_then(NonZeroU8::new);
    if named.port != 0 && !named.flags.contains(EndpointFlags::SIGNAL) {
        bail!("flags must have signal when using port");
    }
    if named.flags.contains(EndpointFlags::SIGNAL | EndpointFlags::FULLMESH) {
        bail!("error flag fullmesh");
    }
    let new = NewEndpoint { addr, port: named.port, id, ifindex: named.interface, flags: named.flags };
    Ok(mptcp.add_endpoint(&new).await?)
}

async fn get(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let id = words.id()?;
    let endpoint = match Named::read(words)?.token {
        Some(token) => mptcp.endpoint_of(token, id).await?,
        None => mptcp.endpoint(id).await?,
    };
    println!("{}", line(&endpoint));
    Ok(())
}

async fn dump(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let endpoints = match Named::read(words)?.token {
        // The original has no error for a dump.
        Some(token) => mptcp.endpoints_of(token).await.ok().flatten().unwrap_or_default(),
        None => mptcp.endpoints().await?,
    };
    endpoints.iter().for_each(|endpoint| println!("{}", line(endpoint)));
    Ok(())
}

async fn limits(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    if words.is_empty() {
        let Limits { add_addr_accepted, subflows } = mptcp.limits().await?;
        println!("accept {add_addr_accepted}\nsubflows {subflows}");
        return Ok(());
    }
    let limits = Limits { add_addr_accepted: words.value()?, subflows: words.value()? };
    Ok(mptcp.set_limits(limits).await?)
}

async fn set(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let by_id = words.skip("id");
    let target = if by_id { Err(words.id()?) } else { Ok(words.address()?) };
    let named = Named::read(words)?;
    let target = match target {
        Err(_) if named.port != 0 => bail!("port can't be used with id"),
        Err(id) => Target::Id(id),
        Ok(addr) => Target::Addr((addr, named.port).into()),
    };
    match named.token {
        Some(token) => Ok(mptcp.set_flags_of(token, target, named.remote(), named.flags).await?),
        None => Ok(mptcp.set_flags(target, named.flags).await?),
    }
}

async fn announce(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let addr = words.address()?;
    let named = Named::read(words)?;
    let id = named.id.context("there is no id")?;
    Ok(mptcp.announce(named.token()?, id, (addr, named.port).into(), named.interface).await?)
}

/// `csf` creates a subflow, `dsf` destroys one.
async fn subflow(mptcp: &mut Mptcp, command: &str, words: &mut Words<'_>) -> Result<()> {
    let named = Named::read(words)?;
    let token = named.token()?;
    let local = named.local.context("there is no local address")?;
    let remote = named.remote().context("there is no remote address")?;
    if command == "dsf" {
        return Ok(mptcp.subflow_destroy(token, (local, named.local_port).into(), remote).await?);
    }
    let local_id = named.id.context("there is no id")?;
    let new = NewSubflow { local, local_id, ifindex: None, backup: false, remote };
    Ok(mptcp.subflow_create(token, &new).await?)
}

/// What comes in pairs, in any order.
#[derive(Default)]
struct Named {
    flags: EndpointFlags,
    id: Option<u8>,
    interface: Option<u32>,
    port: u16,
    token: Option<u32>,
    local: Option<IpAddr>,
    local_port: u16,
    remote_addr: Option<IpAddr>,
    remote_port: u16,
}

impl Named {
    fn read(words: &mut Words) -> Result<Self> {
        let mut named = Self::default();
        while !words.is_empty() {
            match words.next()? {
                "flags" => named.flags = flags(words.next()?)?,
                "id" | "lid" => named.id = Some(words.id()?),
                "dev" => named.interface = Some(words.interface()?),
                "port" => named.port = words.value()?,
                "token" => named.token = Some(words.value()?),
                "lip" => named.local = Some(words.address()?),
                "lport" => named.local_port = words.value()?,
                "rip" => named.remote_addr = Some(words.address()?),
                "rport" => named.remote_port = words.value()?,
                // The tests pass on what they have not been given.
                "" => {}
                word => bail!("unknown keyword {word}"),
            }
        }
        Ok(named)
    }

    fn token(&self) -> Result<u32> {
        self.token.context("there is no token")
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.remote_addr.map(|addr| (addr, self.remote_port).into())
    }
}

/// Flags with commas between them; `nobackup` and `nofullmesh` are for none.
fn flags(list: &str) -> Result<EndpointFlags> {
    let words = list.split(',').filter(|word| !matches!(*word, "nobackup" | "nofullmesh"));
    words.map(flag).collect()
}

/// An endpoint as the original writes it.
fn line(endpoint: &Endpoint) -> String {
    let (names, left) = named(endpoint.flags, &ORDER);
    let mut flags = names.join(",");
    if !left.is_empty() {
        flags += &format!("{}0x{:x}", if flags.is_empty() { "" } else { "," }, left.bits());
    }
    let dev = endpoint.ifindex.map(|index| match interface_name(index) {
        Some(name) => format!("dev {name} "),
        None => format!("dev unknown/{index}"),
    });
    let port = if endpoint.port == 0 { String::new() } else { format!(" {}", endpoint.port) };
    format!("id {} flags {flags} {}{}{port}", endpoint.id, dev.unwrap_or_default(), endpoint.addr)
}

/// Listens until it is ended.
fn listen(words: &mut Words) -> Result<()> {
    let addr = SocketAddr::new(words.address()?, words.value()?);
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::MPTCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into()).with_context(|| format!("listen at {addr}"))?;
    socket.listen(30)?;
    loop {
        thread::park();
    }
}

/// Writes the events, each at once, until it is ended.
async fn events() -> Result<()> {
    let mut events = Events::open().await?;
    loop {
        match events.next().await? {
            Notice::Event(event) => eprint!("{}", event::line(&event) + "\n"),
            Notice::Lost => bail!("events were lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flags: EndpointFlags, port: u16) -> Endpoint {
        Endpoint { id: 1, addr: "10.0.1.1".parse().unwrap(), port, ifindex: None, flags }
    }

    #[test]
    fn an_endpoint_has_the_originals_line() {
        assert_eq!(line(&of(EndpointFlags::empty(), 0)), "id 1 flags  10.0.1.1");
        let flags = EndpointFlags::SIGNAL | EndpointFlags::BACKUP | EndpointFlags::LAMINAR;
        assert_eq!(line(&of(flags, 10100)), "id 1 flags signal,laminar,backup 10.0.1.1 10100");
        let bits = EndpointFlags::from_bits_retain(1 << 2 | 1 << 7 | 1 << 9);
        assert_eq!(line(&of(bits, 0)), "id 1 flags backup,unknown,0x200 10.0.1.1");
    }

    #[test]
    fn pairs_come_in_any_order() {
        let read = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            Named::read(&mut Words::of(&words))
        };
        let named = read("id 258 token 4294967295 flags signal,backup port 10100").unwrap();
        assert_eq!((named.id, named.token, named.port), (Some(2), Some(u32::MAX), 10100));
        assert_eq!(named.flags, EndpointFlags::SIGNAL | EndpointFlags::BACKUP);
        assert_eq!(read("flags nobackup,nofullmesh").unwrap().flags, EndpointFlags::empty());
        assert!(read("flags loud").is_err() && read("token").is_err() && read("colour red").is_err());
    }
}
