//! In place of `ip` for `ip [-n NAMESPACE] mptcp …`; everything else is left to the real one, which the variable `REAL_IP`
//! names.
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::num::NonZeroU8;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use mptcp_pm::core::world::{Endpoint, EndpointFlags, Limits};
use mptcp_pm::netlink::mptcp::{Mptcp, NewEndpoint, Target};
use mptcp_pm::netlink::transport;
use nix::sched::{CloneFlags, setns};

use super::block_on;
use super::words::{Words, flag, interface_name, named};

/// The order in which the original names flags.
const ORDER: [&str; 6] = ["signal", "subflow", "backup", "fullmesh", "implicit", "laminar"];

/// Does what the words say.
pub fn run(words: &[OsString]) -> ExitCode {
    let text: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (namespace, ours) = match text.as_slice() {
        [option, namespace, object, rest @ ..]
            if ["-n", "-net", "-netns"].contains(&option.as_str()) && object == "mptcp" =>
        {
            (Some(namespace), rest)
        }
        [object, rest @ ..] if object == "mptcp" => (None, rest),
        _ => return pass_on(words),
    };
    let entered = namespace.map_or(Ok(()), |name| enter(name));
    match entered.and_then(|()| block_on(mptcp(&mut Words::of(ours)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(&error),
    }
}

/// Becomes the real one.
fn pass_on(words: &[OsString]) -> ExitCode {
    let real = env::var_os("REAL_IP").unwrap_or_else(|| OsString::from("/sbin/ip"));
    let error = Command::new(&real).args(words).exec();
    eprintln!("ip: starting {}: {error}", real.to_string_lossy());
    ExitCode::FAILURE
}

fn enter(namespace: &str) -> Result<()> {
    let file = format!("/run/netns/{namespace}");
    let file = File::open(&file).with_context(|| format!("open {file}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("enter the namespace")
}

/// A refusal of the kernel's ends with 2, as the original's does.
fn tell(error: &anyhow::Error) -> ExitCode {
    let Some(refused) = error.downcast_ref::<transport::Error>() else {
        eprintln!("ip: {error:#}");
        return ExitCode::FAILURE;
    };
    match refused.refusal().and_then(|refusal| refusal.text.as_deref()) {
        Some(text) => eprintln!("Error: {text}."),
        None => eprintln!("RTNETLINK answers: {}", refused.errno().map_or("error", |errno| errno.desc())),
    }
    ExitCode::from(2)
}

async fn mptcp(words: &mut Words<'_>) -> Result<()> {
    let mut mptcp = Mptcp::open().await?;
    match words.next()? {
        "limits" => limits(&mut mptcp, words).await,
        "endpoint" => endpoint(&mut mptcp, words).await,
        object => bail!("`ip mptcp {object}` is not stood in for"),
    }
}

async fn limits(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let mut limits = mptcp.limits().await?;
    if !words.skip("set") {
        let Limits { add_addr_accepted, subflows } = limits;
        println!("add_addr_accepted {add_addr_accepted} subflows {subflows} ");
        return Ok(());
    }
    while !words.is_empty() {
        match words.next()? {
            "add_addr_accepted" => limits.add_addr_accepted = words.value()?,
            "subflows" => limits.subflows = words.value()?,
            word => bail!("unknown limit {word}"),
        }
    }
    Ok(mptcp.set_limits(limits).await?)
}

async fn endpoint(mptcp: &mut Mptcp, words: &mut Words<'_>) -> Result<()> {
    let command = if words.is_empty() { "show" } else { words.next()? };
    match command {
        "add" => {
            let addr = words.address()?;
            let named = Named::read(words)?;
            let id = named.id.and_then(NonZeroU8::new);
            let new =
                NewEndpoint { addr, port: named.port, id, ifindex: named.interface, flags: named.flags };
            Ok(mptcp.add_endpoint(&new).await?)
        }
        "delete" => {
            words.skip("id");
            let id = words.id()?;
            let addr = if id == 0 { Some(words.address()?) } else { None };
            Ok(mptcp.delete_endpoint(id, addr).await?)
        }
        "change" => {
            let target = if words.skip("id") {
                Target::Id(words.id()?)
            } else {
                Target::Addr((words.address()?, 0).into())
            };
            Ok(mptcp.set_flags(target, Named::read(words)?.flags).await?)
        }
        "flush" => Ok(mptcp.flush().await?),
        "show" if words.skip("id") => {
            println!("{}", line(&mptcp.endpoint(words.id()?).await?));
            Ok(())
        }
        "show" => {
            mptcp.endpoints().await?.iter().for_each(|endpoint| println!("{}", line(endpoint)));
            Ok(())
        }
        command => bail!("unknown command {command}"),
    }
}

/// What may follow an address: flags alone, the rest in pairs.
#[derive(Default)]
struct Named {
    flags: EndpointFlags,
    id: Option<u8>,
    interface: Option<u32>,
    port: u16,
}

impl Named {
    fn read(words: &mut Words) -> Result<Self> {
        let mut named = Self::default();
        while !words.is_empty() {
            match words.next()? {
                "id" => named.id = Some(words.id()?),
                "dev" => named.interface = Some(words.interface()?),
                "port" => named.port = words.value()?,
                "nobackup" | "nofullmesh" => {}
                word => named.flags |= flag(word)?,
            }
        }
        Ok(named)
    }
}

/// An endpoint as the original writes it, with a blank at the end.
fn line(endpoint: &Endpoint) -> String {
    let mut line = format!("{} ", endpoint.addr);
    if endpoint.port != 0 {
        line += &format!("port {} ", endpoint.port);
    }
    line += &format!("id {} ", endpoint.id);
    let (names, left) = named(endpoint.flags, &ORDER);
    names.iter().for_each(|name| line += &format!("{name} "));
    if !left.is_empty() {
        line += &format!("rawflags {:x} ", left.bits());
    }
    if let Some(index) = endpoint.ifindex {
        line += &format!("dev {} ", interface_name(index).unwrap_or_else(|| format!("if{index}")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_the_originals_line() {
        let flags = EndpointFlags::SIGNAL | EndpointFlags::BACKUP;
        let addr = "10.0.1.1".parse().unwrap();
        let mut endpoint = Endpoint { id: 3, addr, port: 10100, ifindex: None, flags };
        assert_eq!(line(&endpoint), "10.0.1.1 port 10100 id 3 signal backup ");
        (endpoint.port, endpoint.flags) = (0, EndpointFlags::from_bits_retain(1 << 9));
        assert_eq!(line(&endpoint), "10.0.1.1 id 3 rawflags 200 ");
    }
}
