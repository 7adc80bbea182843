//! Reads the words after a command: some stand alone, the others come in pairs of a name and a value.
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use mptcp_pm::core::world::{EndpointFlags, IfIndex};
use nix::net::if_::{if_indextoname, if_nametoindex};

/// The bit that has no meaning, with which the tests find out what the kernel makes of such ones.
pub const UNKNOWN: EndpointFlags = EndpointFlags::from_bits_retain(1 << 7);

/// What is left of a command's words.
pub struct Words<'a>(&'a [String]);

impl<'a> Words<'a> {
    /// All of them.
    pub fn of(words: &'a [String]) -> Self {
        Self(words)
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one, which must be there.
    pub fn next(&mut self) -> Result<&'a str> {
        let (first, rest) = self.0.split_first().context("a word is missing at the end")?;
        self.0 = rest;
        Ok(first)
    }

    /// The next one, when it is this.
    pub fn skip(&mut self, word: &str) -> bool {
        let found = self.0.first().is_some_and(|first| first == word);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    /// The next one as a value.
    pub fn value<T: FromStr>(&mut self) -> Result<T> {
        let word = self.next()?;
        word.parse().map_err(|_| anyhow!("`{word}` is not what belongs there"))
    }

    /// The next one as an id; like the original, modulo 256.
    pub fn id(&mut self) -> Result<u8> {
        Ok((self.value::<u32>()? & 0xff) as u8)
    }

    /// The next one as an interface.
    pub fn interface(&mut self) -> Result<IfIndex> {
        let name = self.next()?;
        if_nametoindex(name).with_context(|| format!("interface {name}"))
    }

    /// The next one as an address.
    pub fn address(&mut self) -> Result<IpAddr> {
        self.value()
    }
}

/// The name of an interface, where there is such.
pub fn interface_name(index: IfIndex) -> Option<String> {
    // nix 0.31 gives an empty name where there is no such interface.
    if_indextoname(index).ok()?.into_string().ok().filter(|name| !name.is_empty())
}

/// One flag by the name that both tools have for it.
pub fn flag(word: &str) -> Result<EndpointFlags> {
    Ok(match word {
        "signal" => EndpointFlags::SIGNAL,
        "subflow" => EndpointFlags::SUBFLOW,
        "laminar" => EndpointFlags::LAMINAR,
        "backup" => EndpointFlags::BACKUP,
        "fullmesh" => EndpointFlags::FULLMESH,
        "implicit" => EndpointFlags::IMPLICIT,
        "unknown" => UNKNOWN,
        _ => bail!("unknown flag {word}"),
    })
}

/// The names of flags in an order, and the bits that are left.
pub fn named(flags: EndpointFlags, order: &[&'static str]) -> (Vec<&'static str>, EndpointFlags) {
    let mut left = flags;
    let mut names = Vec::new();
    for name in order {
        if let Ok(flag) = flag(name)
            && left.contains(flag)
        {
            names.push(*name);
            left -= flag;
        }
    }
    (names, left)
}
