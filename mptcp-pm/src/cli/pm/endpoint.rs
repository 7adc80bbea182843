//! The commands about endpoints: what the kernel would let pass in silence is checked before and after.
use std::net::IpAddr;
use std::num::NonZeroU8;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{explained, silent};
use crate::cli::args::pm::{AddArgs, ChangeArgs};
use crate::cli::check::Machine;
use crate::cli::show;
use crate::cli::values::Target;
use crate::core::world::{Endpoint, EndpointFlags};
use crate::netlink::diag::Diag;
use crate::netlink::mptcp::{self, Mptcp, NewEndpoint, Token};

const LIST: &str = "`mptcp-pm endpoint list` shows those that exist";

pub(super) async fn list(mptcp: &mut Mptcp, token: Option<Token>, as_json: bool) -> Result<String> {
    let endpoints = match token {
        Some(token) => mptcp.endpoints_of(token).await.map_err(explained)?.context(
            "this kernel does not tell the addresses of one connection: it takes Linux 6.10 or later",
        )?,
        None => mptcp.endpoints().await.map_err(explained)?,
    };
    Ok(if as_json { show::json(&show::endpoints_json(&endpoints)) } else { show::endpoints(&endpoints) })
}

pub(super) async fn add(mptcp: &mut Mptcp, args: &AddArgs) -> Result<String> {
    let (flags, ifindex) = Machine::look()?.endpoint(args)?;
    let port = args.port.unwrap_or(0);
    let id = args.id.and_then(NonZeroU8::new);
    let new = NewEndpoint { addr: args.addr, port, id, ifindex, flags };
    mptcp.add_endpoint(&new).await.map_err(explained)?;
    let endpoints = mptcp.endpoints().await?;
    let added = endpoints.iter().find(|endpoint| endpoint.addr == new.addr && endpoint.port == port);
    let added = added
        .with_context(|| format!("{} was added as an endpoint, but something removed it again", new.addr))?;
    ensure_whole(added, flags)?;
    Ok(show::endpoints(std::slice::from_ref(added)))
}

/// Newer kernels drop flags that they do not know, and say nothing.
fn ensure_whole(added: &Endpoint, asked: EndpointFlags) -> Result<()> {
    let dropped = asked - added.flags;
    ensure!(
        dropped.is_empty(),
        "endpoint {} ({}) is there, but this kernel dropped {}: `mptcp-pm endpoint delete {0}` removes it",
        added.id,
        added.addr,
        dropped
    );
    Ok(())
}

pub(super) async fn change(mptcp: &mut Mptcp, args: &ChangeArgs) -> Result<String> {
    let endpoints = mptcp.endpoints().await?;
    let found = find(&endpoints, args.target, args.port)?;
    let mut flags = found.flags;
    flags.set(EndpointFlags::BACKUP, args.backup || !args.no_backup && flags.contains(EndpointFlags::BACKUP));
    let fullmesh = args.fullmesh || !args.no_fullmesh && flags.contains(EndpointFlags::FULLMESH);
    flags.set(EndpointFlags::FULLMESH, fullmesh);
    mptcp.set_flags(mptcp::Target::Id(found.id), flags).await.map_err(explained)?;
    let changed = mptcp.endpoint(found.id).await.map_err(explained)?;
    ensure!(
        changed.flags == flags,
        "endpoint {} has {} after the change, not {}: this kernel does not change the rest",
        changed.id,
        changed.flags,
        flags
    );
    Ok(show::endpoints(&[changed]))
}

/// The endpoint that is meant. Several may have one address, with different ports.
fn find(endpoints: &[Endpoint], target: Target, port: Option<u16>) -> Result<&Endpoint> {
    let is_it = |endpoint: &&Endpoint| match target {
        Target::Id(id) => endpoint.id == id,
        Target::Addr(addr) => endpoint.addr == addr,
    };
    let named = match target {
        Target::Id(id) => format!("id {id}"),
        Target::Addr(addr) => addr.to_string(),
    };
    let candidates: Vec<&Endpoint> = endpoints.iter().filter(is_it).collect();
    let of_port = |port| candidates.iter().find(|candidate| candidate.port == port).copied();
    match (candidates.as_slice(), port) {
        ([], _) => Err(anyhow!("no endpoint {named}: {LIST}")),
        (_, Some(port)) => {
            of_port(port).with_context(|| format!("no endpoint {named} with port {port}: {LIST}"))
        }
        ([only], None) => Ok(only),
        (_, None) => of_port(0).with_context(|| format!("several endpoints {named}: name one with --port")),
    }
}

/// The kernel deletes by id and ignores an address that is not the endpoint's.
pub(super) async fn delete(mptcp: &mut Mptcp, id: u8, addr: Option<IpAddr>) -> Result<String> {
    match addr {
        Some(addr) if id == 0 => ensure_begins(addr).await?,
        Some(addr) => {
            let endpoints = mptcp.endpoints().await?;
            let found = find(&endpoints, Target::Id(id), None)?;
            ensure!(found.addr == addr, "endpoint {id} is {}, not {addr}: nothing is deleted", found.addr);
        }
        None => {}
    }
    let deleted = mptcp.delete_endpoint(id, addr.filter(|_| id == 0)).await;
    match deleted {
        Err(error) if error.is_not_found() => bail!("no endpoint id {id}: {LIST}"),
        deleted => deleted.map_err(explained).map(silent),
    }
}

/// Id 0 is the address of initial subflows: the kernel says yes also where no connection has one. Without sock_diag
/// its word has to do.
async fn ensure_begins(addr: IpAddr) -> Result<()> {
    let Ok(read) = Diag::open()?.connections().await else { return Ok(()) };
    let begins = read.known.iter().any(|connection| connection.socket.local.ip() == addr);
    ensure!(begins, "no connection has its initial subflow from {addr}: `ss -Ma` shows connections");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: u8, addr: &str, port: u16) -> Endpoint {
        let flags = EndpointFlags::SIGNAL;
        Endpoint { id, addr: addr.parse().expect("parses"), port, ifindex: None, flags }
    }

    #[test]
    fn the_endpoint_that_is_meant_is_found_or_asked_for() {
        let list = [endpoint(1, "192.0.2.1", 5), endpoint(2, "192.0.2.1", 6), endpoint(3, "192.0.2.3", 7)];
        let at = |addr: &str| Target::Addr(addr.parse().expect("parses"));
        let id = |target, port| find(&list, target, port).map(|found| found.id).map_err(|e| e.to_string());
        assert_eq!(id(Target::Id(2), None), Ok(2));
        assert_eq!(id(at("192.0.2.1"), Some(6)), Ok(2));
        assert_eq!(id(at("192.0.2.3"), None), Ok(3), "its port need not be named when it is the only one");
        for (target, port, reason) in [
            (at("192.0.2.1"), None, "several endpoints 192.0.2.1: name one with --port"),
            (at("192.0.2.1"), Some(7), "no endpoint 192.0.2.1 with port 7"),
            (Target::Id(2), Some(5), "no endpoint id 2 with port 5"),
            (Target::Id(4), None, "no endpoint id 4"),
        ] {
            let error = id(target, port).expect_err(reason);
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn flags_that_the_kernel_dropped_are_named() {
        let added = endpoint(3, "192.0.2.1", 0);
        assert!(ensure_whole(&added, EndpointFlags::SIGNAL).is_ok());
        let error =
            ensure_whole(&added, EndpointFlags::SIGNAL | EndpointFlags::LAMINAR).expect_err("dropped");
        let expected = "endpoint 3 (192.0.2.1) is there, but this kernel dropped laminar: \
                        `mptcp-pm endpoint delete 3` removes it";
        assert_eq!(error.to_string(), expected);
    }
}
