//! The generic-netlink controller: which number a family and its multicast groups have on this kernel.
use netlink_packet_core::{DecodeError, Emitable, NLA_F_NESTED, Nla, NlaBuffer, Parseable};
use netlink_packet_generic::{
    GenlHeader,
    constants::{CTRL_CMD_GETFAMILY, GENL_HDRLEN},
};

use crate::netlink::attributes::{append_all, parse_all};

attributes! {
    /// What the controller says of a family (`CTRL_ATTR_*`, `include/uapi/linux/genetlink.h`).
    pub enum FamilyAttribute {
        /// Its number.
        Id(u16) = 1,
        /// Its name.
        Name(String) = 2,
        /// Its multicast groups.
        Groups(Vec<Group>) = 7,
    }
}

attributes! {
    /// A multicast group (`CTRL_ATTR_MCAST_GRP_*`).
    pub enum GroupAttribute {
        /// Its name.
        Name(String) = 1,
        /// Its number.
        Id(u32) = 2,
    }
}

/// A family as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Its number: the type of its messages.
    pub id: u16,
    /// Its multicast groups: name and number.
    pub groups: Vec<(String, u32)>,
}

/// The body of the question for a family.
pub fn encode(name: &str) -> Vec<u8> {
    let mut body = vec![0; GENL_HDRLEN];
    GenlHeader { cmd: CTRL_CMD_GETFAMILY, version: 1 }.emit(&mut body);
    append_all(&[FamilyAttribute::Name(name.to_owned())], &mut body);
    body
}

/// Reads the controller's answer.
///
/// # Errors
/// An answer that is cut short or says no number.
pub fn decode(body: &[u8]) -> Result<Family, DecodeError> {
    GenlHeader::parse(body)?;
    let mut family = Family::default();
    for attribute in parse_all(&body[GENL_HDRLEN..])? {
        match attribute {
            FamilyAttribute::Id(id) => family.id = id,
            FamilyAttribute::Groups(groups) => {
                family.groups = groups.iter().filter_map(name_and_number).collect()
            }
            FamilyAttribute::Name(_) | FamilyAttribute::Other(_) => {}
        }
    }
    if family.id == 0 { Err("a family without a number".into()) } else { Ok(family) }
}

/// An entry of the list of groups: its attribute number only counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    number: u16,
    attributes: Vec<GroupAttribute>,
}

impl Nla for Group {
    fn value_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn kind(&self) -> u16 {
        self.number | NLA_F_NESTED
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl<'a> Parseable<NlaBuffer<&'a [u8]>> for Group {
    fn parse(buffer: &NlaBuffer<&'a [u8]>) -> Result<Self, DecodeError> {
        Ok(Self { number: buffer.kind(), attributes: parse_all(buffer.value())? })
    }
}

fn name_and_number(group: &Group) -> Option<(String, u32)> {
    let (mut name, mut number) = (None, None);
    for attribute in &group.attributes {
        match attribute {
            GroupAttribute::Name(value) => name = Some(value.clone()),
            GroupAttribute::Id(value) => number = Some(*value),
            GroupAttribute::Other(_) => {}
        }
    }
    name.zip(number)
}
