//! Reads the kernel's type information (BTF, `Documentation/bpf/btf.rst`) as far as finding members of structures needs
//! it: the bytes themselves and one index, because complete tables of the kernel's types would stay in a small daemon's
//! memory.

/// `BTF_MAGIC`, as a machine with the least significant byte first writes it.
const MAGIC: [u8; 2] = [0x9f, 0xeb];
const KIND_POINTER: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNCTION: u32 = 12;
/// The fixed part of a type: name, info, size or type.
const TYPE_LENGTH: usize = 12;
/// A member: name, type, offset.
const MEMBER_LENGTH: usize = 12;
/// Unnamed structures inside each other; the kernel's go three deep.
const DEEPEST: u32 = 16;

/// What a type is, as far as it is looked for by name.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A structure.
    Structure = KIND_STRUCT as isize,
    /// A function of the kernel.
    Function = KIND_FUNCTION as isize,
    /// Another name for a type.
    Definition = KIND_TYPEDEF as isize,
}

/// A member of a structure that is not a bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, from 0.
    pub index: u32,
    /// Where it is, bytes from the structure's start.
    pub offset: usize,
    /// Its size, bytes; unknown for kinds that this code does not follow.
    pub size: Option<usize>,
}

/// A BTF blob.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where each type begins; the type with id 1 is the first.
    types: Vec<u32>,
    strings: usize,
}

impl Btf {
    /// Takes a blob apart; `None` when it is not BTF, of another byte order, or damaged.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        if !bytes.starts_with(&MAGIC) {
            return None;
        }
        let field = |at| u32_at(&bytes, at).map(|value| value as usize);
        let header = field(4)?;
        let types = header.checked_add(field(8)?)?;
        let strings = header.checked_add(field(16)?)?;
        let types = index(&bytes, types, types.checked_add(field(12)?)?)?;
        Some(Self { bytes, types, strings })
    }

    /// All of it, as the kernel shows it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The offset of a structure's member in bits; members of unnamed structures and unions inside count as its own. A
    /// dot leads into a member that is itself a structure.
    pub fn bit(&self, structure: &str, field: &str) -> Option<u32> {
        let named = |at: &&u32| self.kind(**at) == Some(KIND_STRUCT) && self.is_named(**at, structure);
        self.types.iter().filter(named).find_map(|&at| self.bit_of(at, field, DEEPEST))
    }

    /// The number of a type.
    pub fn id(&self, kind: Kind, name: &str) -> Option<u32> {
        let is_it = |&at: &u32| self.kind(at) == Some(kind as u32) && self.is_named(at, name);
        // Number 0 is `void`, which is not in the table.
        self.types.iter().position(is_it).map(|index| index as u32 + 1)
    }

    /// The size of a type, bytes.
    pub fn size(&self, id: u32) -> Option<usize> {
        self.size_within(id, DEEPEST)
    }

    fn size_within(&self, id: u32, depth: u32) -> Option<usize> {
        let at = self.at(id)?;
        let inner = || self.size_within(self.word(at, 2)?, depth.checked_sub(1)?);
        match self.kind(at)? {
            KIND_POINTER => Some(size_of::<u64>()),
            // The type of the elements, that of the index, how many there are.
            KIND_ARRAY => self
                .size_within(self.word(at, 3)?, depth.checked_sub(1)?)?
                .checked_mul(self.word(at, 5)? as usize),
            // Integer, enumeration, float, enumeration of 64 bits: their size.
            1 | KIND_STRUCT | KIND_UNION | 6 | 16 | 19 => Some(self.word(at, 2)? as usize),
            // Type definition, volatile, const, restrict, type tag: another type.
            8..=11 | 18 => inner(),
            _ => None,
        }
    }

    /// A structure's own member.
    pub fn member(&self, structure: u32, name: &str) -> Option<Member> {
        let at = self.at(structure)?;
        let info = self.word(at, 1).filter(|info| kind(*info) == KIND_STRUCT)?;
        let place = |index| at + TYPE_LENGTH as u32 + index * MEMBER_LENGTH as u32;
        let index = (0..info & 0xffff).find(|index| self.is_named(place(*index), name))?;
        let bits = self.word(place(index), 2)?;
        let is_bit_field = info >> 31 == 1 && bits >> 24 != 0;
        let size = self.size(self.word(place(index), 1)?);
        (!is_bit_field).then_some(Member { index, offset: (bits & 0x00ff_ffff) as usize / 8, size })
    }

    fn at(&self, id: u32) -> Option<u32> {
        self.types.get(id.checked_sub(1)? as usize).copied()
    }

    fn bit_of(&self, at: u32, path: &str, depth: u32) -> Option<u32> {
        let (field, rest) = path.split_once('.').map_or((path, None), |(field, rest)| (field, Some(rest)));
        let info = self.word(at, 1)?;
        if !matches!(kind(info), KIND_STRUCT | KIND_UNION) || depth == 0 {
            return None;
        }
        // With the kind flag set, the upper eight bits are the width of a bit field.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        (0..info & 0xffff).find_map(|number| {
            let member = at + TYPE_LENGTH as u32 + number * MEMBER_LENGTH as u32;
            let offset = self.word(member, 2)? & mask;
            let inner = || self.defined(self.word(member, 1)?);
            if self.is_named(member, field) {
                return match rest {
                    None => Some(offset),
                    Some(rest) => self.bit_of(inner()?, rest, depth - 1)?.checked_add(offset),
                };
            }
            let unnamed = self.is_named(member, "");
            unnamed.then(|| self.bit_of(inner()?, path, depth - 1)).flatten()?.checked_add(offset)
        })
    }

    /// Where a type begins, or the one that it is another name for.
    fn defined(&self, id: u32) -> Option<u32> {
        let mut at = self.at(id)?;
        for _ in 0..DEEPEST {
            if self.kind(at)? != KIND_TYPEDEF {
                break;
            }
            at = self.at(self.word(at, 2)?)?;
        }
        Some(at)
    }

    fn kind(&self, at: u32) -> Option<u32> {
        self.word(at, 1).map(kind)
    }

    /// Whether the type or member at this place has this name.
    fn is_named(&self, at: u32, name: &str) -> bool {
        let start = self.word(at, 0).and_then(|offset| self.strings.checked_add(offset as usize));
        let text = start.and_then(|start| self.bytes.get(start..));
        text.and_then(|text| text.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
    }

    fn word(&self, at: u32, number: usize) -> Option<u32> {
        u32_at(&self.bytes, at as usize + 4 * number)
    }
}

/// Where each type between two places begins.
fn index(bytes: &[u8], mut at: usize, end: usize) -> Option<Vec<u32>> {
    let mut types = Vec::new();
    while at < end {
        types.push(u32::try_from(at).ok()?);
        at += TYPE_LENGTH + rest_length(u32_at(bytes, at + 4)?)?;
    }
    (at == end && end <= bytes.len()).then_some(types)
}

/// How many bytes follow the fixed part of a type; `None` for a kind that is newer than this code.
fn rest_length(info: u32) -> Option<usize> {
    let entries = (info & 0xffff) as usize;
    match kind(info) {
        // Integer, variable, declaration tag.
        1 | 14 | 17 => Some(4),
        // Forward, typedef, volatile, const, restrict, function, float, type tag.
        KIND_POINTER | 7..=KIND_FUNCTION | 16 | 18 => Some(0),
        KIND_ARRAY => Some(12),
        // Data section, enumeration of 64 bits.
        KIND_STRUCT | KIND_UNION | 15 | 19 => Some(entries * 12),
        // Enumeration, function prototype.
        6 | 13 => Some(entries * 8),
        _ => None,
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct s { int a; union { struct { int b; int c : 1; }; }; }`, each type as BTF has it.
    fn sample() -> Vec<u8> {
        let strings = b"\0s\0a\0b\0c\0int\0";
        let (s, a, b, c, int) = (1, 3, 5, 7, 9);
        let with_flag = 1 << 31;
        let types: [&[u32]; 4] = [
            &[int, 1 << 24, 4, 32],
            &[s, KIND_STRUCT << 24 | 2, 12, a, 1, 0, 0, 3, 32],
            &[0, KIND_UNION << 24 | 1, 8, 0, 4, 0],
            &[0, KIND_STRUCT << 24 | 2 | with_flag, 8, b, 1, 0, c, 1, 1 << 24 | 35],
        ];
        let types: Vec<u8> = types.concat().into_iter().flat_map(u32::to_le_bytes).collect();
        let sizes = [24, 0, types.len(), types.len(), strings.len()].map(|size| (size as u32).to_le_bytes());
        [&[0x9f, 0xeb, 1, 0], sizes.as_flattened(), &types, strings].concat()
    }

    #[test]
    fn members_are_found_through_what_has_no_name() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.bit("s", "a"), Some(0));
        assert_eq!(btf.bit("s", "b"), Some(32));
        assert_eq!(btf.bit("s", "c"), Some(32 + 35), "the width of a bit field is not part of its offset");
        assert_eq!(btf.bit("s", "d"), None);
        assert_eq!(btf.bit("int", "a"), None);
        assert_eq!(btf.bit("", "b"), Some(0));
    }

    #[test]
    fn types_have_a_number_a_size_and_members() {
        let btf = Btf::parse(sample()).unwrap();
        let s = btf.id(Kind::Structure, "s").unwrap();
        assert_eq!((s, btf.size(s)), (2, Some(12)));
        assert_eq!(btf.member(s, "a"), Some(Member { index: 0, offset: 0, size: Some(4) }));
        assert_eq!(btf.member(s, "b"), None, "it is not the structure's own");
        assert_eq!(btf.member(4, "c"), None, "a bit field has no place in bytes");
        assert_eq!((btf.id(Kind::Function, "s"), btf.size(0), btf.size(5)), (None, None, None));
    }

    #[test]
    fn another_byte_order_and_a_cut_are_refused() {
        let mut swapped = sample();
        swapped.swap(0, 1);
        assert!(Btf::parse(swapped).is_none());
        let whole = sample();
        assert!(Btf::parse(whole[..60].to_vec()).is_none());
    }

    #[test]
    fn the_kernels_own_is_read() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF");
        let btf = Btf::parse(bytes).unwrap();
        assert_eq!(btf.bit("list_head", "prev"), Some(64));
        assert_eq!(btf.bit("inet_connection_sock", "icsk_inet"), Some(0));
        assert_eq!(btf.bit("tcp_sock", "inet_conn.icsk_inet.sk"), Some(0));
        let (outer, inner) = (
            btf.bit("inet_connection_sock", "icsk_ack"),
            btf.bit("inet_connection_sock", "icsk_ack.lrcvtime"),
        );
        assert!(outer.is_some() && inner > outer, "{outer:?} {inner:?}");
        assert_eq!(btf.bit("inet_connection_sock", "icsk_ack.no_such_member"), None);
        let (outer, inner) = (btf.bit("sock_common", "skc_net"), btf.bit("sock_common", "skc_net.net"));
        assert!(outer.is_some() && inner == outer, "its type has another name: {outer:?} {inner:?}");
        let ops = btf.id(Kind::Structure, "tcp_congestion_ops").unwrap();
        let (flags, name) = (btf.member(ops, "flags").unwrap(), btf.member(ops, "name").unwrap());
        assert_eq!((flags.size, name.size), (Some(4), Some(16)));
        assert_eq!(btf.bit("tcp_congestion_ops", "name"), Some(name.offset as u32 * 8));
        assert!(btf.id(Kind::Function, "tcp_reno_ssthresh").is_some());
    }

    proptest! {
        #[test]
        fn damage_never_panics(places in prop::collection::vec((0usize..200, any::<u8>()), 0..20)) {
            let mut bytes = sample();
            for (place, value) in places {
                let length = bytes.len();
                bytes[place % length] = value;
            }
            if let Some(btf) = Btf::parse(bytes) {
                btf.bit("s", "c");
                btf.id(Kind::Structure, "s").and_then(|id| btf.member(id, "a"));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            bytes.splice(0..bytes.len().min(2), MAGIC);
            if let Some(btf) = Btf::parse(bytes) {
                btf.bit("s", "c");
            }
        }
    }
}
