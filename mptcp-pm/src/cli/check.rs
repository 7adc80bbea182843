//! What the kernel would accept although it is wrong: checked against this machine's interfaces first.
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use nix::net::if_::if_nametoindex;

use super::args::pm::{AddArgs, AnnounceArgs};
use crate::core::world::{EndpointFlags, Family, IfIndex};
use crate::interfaces;

/// The interfaces and the addresses of this network namespace.
pub(super) struct Machine {
    /// Each interface's name, with each of its addresses.
    addresses: Vec<(String, Option<IpAddr>)>,
}

impl Machine {
    /// Asks the system.
    pub(super) fn look() -> Result<Self> {
        let addresses = interfaces::addresses().context("cannot list the addresses of this machine")?;
        Ok(Self { addresses })
    }

    /// The flags and the interface of an endpoint to add.
    pub(super) fn endpoint(&self, args: &AddArgs) -> Result<(EndpointFlags, Option<IfIndex>)> {
        let flags = flags(args);
        // Announced without a port, the address may be that of a translator in front of this machine.
        if flags != EndpointFlags::SIGNAL || args.port.is_some() {
            self.local(args.addr, args.dev.as_deref())?;
        }
        Ok((flags, self.ifindex(args.dev.as_deref())?))
    }

    /// The interface of an address to announce.
    pub(super) fn announcement(&self, args: &AnnounceArgs) -> Result<Option<IfIndex>> {
        if args.port.is_some() || args.dev.is_some() {
            self.local(args.addr, args.dev.as_deref())?;
        }
        self.ifindex(args.dev.as_deref())
    }

    /// The interface of a subflow to create.
    pub(super) fn subflow(
        &self,
        local: IpAddr,
        dev: Option<&str>,
        remote: SocketAddr,
    ) -> Result<Option<IfIndex>> {
        same_family(local, remote.ip())?;
        self.local(local, dev)?;
        self.ifindex(dev)
    }

    fn ifindex(&self, dev: Option<&str>) -> Result<Option<IfIndex>> {
        let Some(dev) = dev else { return Ok(None) };
        match if_nametoindex(dev) {
            Ok(index) => Ok(Some(index)),
            Err(_) => bail!("no interface {dev:?}: there are {}", self.names()),
        }
    }

    /// Refuses an address that is not of this machine, or of another interface than is said.
    fn local(&self, addr: IpAddr, dev: Option<&str>) -> Result<()> {
        ensure!(
            !addr.is_unspecified() && !addr.is_multicast(),
            "{addr} is no address of one interface: name one that `ip address` shows"
        );
        self.ifindex(dev)?;
        let has = |(_, candidate): &&(String, Option<IpAddr>)| *candidate == Some(addr);
        let names: Vec<&str> = self.addresses.iter().filter(has).map(|(name, _)| name.as_str()).collect();
        ensure!(!names.is_empty(), "{addr} is no address of this machine: name one that `ip address` shows");
        match dev {
            Some(dev) if !names.contains(&dev) => {
                bail!(
                    "{addr} is on {}, not on {dev}: name that interface, or leave --dev out",
                    names.join(", ")
                )
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.addresses.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }
}

/// Refuses a subflow between two families.
pub(super) fn same_family(local: IpAddr, remote: IpAddr) -> Result<()> {
    ensure!(
        Family::of(&local) == Family::of(&remote),
        "{local} and {remote} are of different families: a subflow needs two addresses of one"
    );
    Ok(())
}

fn flags(args: &AddArgs) -> EndpointFlags {
    let given = [
        (args.signal, EndpointFlags::SIGNAL),
        (args.subflow, EndpointFlags::SUBFLOW),
        (args.backup, EndpointFlags::BACKUP),
        (args.fullmesh, EndpointFlags::FULLMESH),
        (args.laminar, EndpointFlags::LAMINAR),
    ];
    given.into_iter().filter_map(|(given, flag)| given.then_some(flag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Args, Command, pm::EndpointCommand};
    use clap::Parser;

    /// What a machine with `lo` and one more interface says to `endpoint add …`.
    fn add(line: &str) -> Result<(EndpointFlags, Option<IfIndex>), String> {
        let words = ["mptcp-pm", "endpoint", "add"].into_iter().chain(line.split(' '));
        let args = Args::try_parse_from(words).expect("parses");
        let Command::Endpoint(EndpointCommand::Add(args)) = args.command else { panic!("another command") };
        let address = |name: &str, addr: &str| (name.to_owned(), Some(addr.parse().expect("parses")));
        let addresses =
            vec![address("lo", "127.0.0.1"), address("wan", "192.0.2.1"), ("wan".to_owned(), None)];
        Machine { addresses }.endpoint(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_right_is_resolved() {
        let index = if_nametoindex("lo").expect("every namespace has it");
        assert_eq!(add("127.0.0.1 --dev lo --subflow"), Ok((EndpointFlags::SUBFLOW, Some(index))));
        let all =
            EndpointFlags::SUBFLOW | EndpointFlags::BACKUP | EndpointFlags::FULLMESH | EndpointFlags::LAMINAR;
        assert_eq!(add("192.0.2.1 --subflow --backup --fullmesh --laminar"), Ok((all, None)));
    }

    #[test]
    fn what_the_kernel_would_accept_although_wrong_is_refused() {
        for (line, expected) in [
            ("192.0.2.1 --subflow --dev nosuch0", "no interface \"nosuch0\": there are lo, wan"),
            ("192.0.2.2 --subflow", "192.0.2.2 is no address of this machine"),
            ("192.0.2.1 --subflow --dev lo", "192.0.2.1 is on wan, not on lo"),
            ("192.0.2.2 --signal --port 5000", "192.0.2.2 is no address of this machine"),
            ("0.0.0.0 --backup", "0.0.0.0 is no address of one interface"),
            ("ff02::1 --laminar", "ff02::1 is no address of one interface"),
            ("192.0.2.2 --signal --dev nosuch0", "no interface \"nosuch0\""),
        ] {
            let message = add(line).expect_err(line);
            assert!(message.starts_with(expected), "{line}: {message}");
        }
    }

    #[test]
    fn an_address_that_is_only_announced_may_be_a_translators() {
        assert_eq!(add("198.51.100.1 --signal"), Ok((EndpointFlags::SIGNAL, None)));
    }

    #[test]
    fn a_subflow_needs_one_family() {
        let machine = Machine { addresses: vec![("lo".into(), Some("127.0.0.1".parse().expect("parses")))] };
        let local = "127.0.0.1".parse().expect("parses");
        assert!(machine.subflow(local, None, "[::1]:80".parse().expect("parses")).is_err());
        assert!(machine.subflow(local, None, "127.0.0.2:80".parse().expect("parses")).is_ok());
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        assert!(Machine::look().expect("looks").names().contains("lo"));
    }
}
