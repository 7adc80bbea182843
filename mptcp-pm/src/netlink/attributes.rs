//! Netlink attributes as enums: one line per attribute gives its number and the type of its value.
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, Nla, NlaBuffer, NlasIterator, Parseable,
};

/// The value of an attribute.
pub(super) trait Value: Sized {
    /// Added to the attribute's number on the wire (`NLA_F_NESTED` or nothing).
    const TYPE_FLAGS: u16 = 0;
    /// Its length in bytes, without padding.
    fn len(&self) -> usize;
    /// Writes it into a buffer of that length.
    fn emit(&self, buffer: &mut [u8]);
    /// Reads it back; the length must be exactly right.
    fn parse(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A number in network byte order, such as the ports in events; other numbers are in the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BigEndian(pub u16);

/// A value that is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// Reads all attributes of a buffer.
pub(super) fn parse_all<A>(bytes: &[u8]) -> Result<Vec<A>, DecodeError>
where
    A: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    NlasIterator::new(bytes).map(|attribute| A::parse(&attribute?)).collect()
}

/// Appends attributes to a message.
pub(super) fn append_all<A: Nla>(attributes: &[A], message: &mut Vec<u8>) {
    let start = message.len();
    message.resize(start + attributes.buffer_len(), 0);
    attributes.emit(&mut message[start..]);
}

/// Reads an attribute of any kind. Its two flags exclude each other (include/uapi/linux/netlink.h).
pub(super) fn unnamed(attribute: &NlaBuffer<&[u8]>) -> Result<DefaultNla, DecodeError> {
    if attribute.nested_flag() && attribute.network_byte_order_flag() {
        return Err(format!("attribute {} is nested and a number at once", attribute.kind()).into());
    }
    DefaultNla::parse(attribute)
}

/// Defines an enum of attributes with `Nla` and `Parseable`. What it does not name is kept whole in `Other`.
macro_rules! attributes {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident($value:ty) = $number:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant($value),)+
            /// An attribute that has no name here.
            Other(netlink_packet_core::DefaultNla),
        }

        impl netlink_packet_core::Nla for $name {
            fn value_len(&self) -> usize {
                match self {
                    $(Self::$variant(value) => $crate::netlink::attributes::Value::len(value),)+
                    Self::Other(other) => other.value_len(),
                }
            }

            fn kind(&self) -> u16 {
                match self {
                    $(Self::$variant(_) => $number | <$value as $crate::netlink::attributes::Value>::TYPE_FLAGS,)+
                    Self::Other(other) => other.kind(),
                }
            }

            fn emit_value(&self, buffer: &mut [u8]) {
                match self {
                    $(Self::$variant(value) => $crate::netlink::attributes::Value::emit(value, buffer),)+
                    Self::Other(other) => other.emit_value(buffer),
                }
            }
        }

        impl<'a> netlink_packet_core::Parseable<netlink_packet_core::NlaBuffer<&'a [u8]>> for $name {
            fn parse(
                buffer: &netlink_packet_core::NlaBuffer<&'a [u8]>,
            ) -> Result<Self, netlink_packet_core::DecodeError> {
                use netlink_packet_core::ErrorContext;
                Ok(match buffer.kind() {
                    $($number => Self::$variant(
                        <$value as $crate::netlink::attributes::Value>::parse(buffer.value())
                            .context(concat!("attribute ", stringify!($variant)))?,
                    ),)+
                    _ => Self::Other($crate::netlink::attributes::unnamed(buffer)?),
                })
            }
        }
    };
}

/// Numbers and addresses: a fixed length, and a way to and from an array of bytes.
macro_rules! fixed_length {
    ($($type:ty: $length:literal, $to:expr, $from:expr;)+) => {$(
        impl Value for $type {
            fn len(&self) -> usize {
                $length
            }

            fn emit(&self, buffer: &mut [u8]) {
                let bytes: [u8; $length] = ($to)(*self);
                buffer.copy_from_slice(&bytes);
            }

            fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
                <[u8; $length]>::try_from(bytes)
                    .map($from)
                    .map_err(|_| format!("{} bytes instead of {}", bytes.len(), $length).into())
            }
        }
    )+};
}

fixed_length! {
    u8: 1, u8::to_ne_bytes, u8::from_ne_bytes;
    u16: 2, u16::to_ne_bytes, u16::from_ne_bytes;
    u32: 4, u32::to_ne_bytes, u32::from_ne_bytes;
    i32: 4, i32::to_ne_bytes, i32::from_ne_bytes;
    u64: 8, u64::to_ne_bytes, u64::from_ne_bytes;
    BigEndian: 2, |value: Self| value.0.to_be_bytes(), |bytes| Self(u16::from_be_bytes(bytes));
    Ipv4Addr: 4, |value: Self| value.octets(), Self::from;
    Ipv6Addr: 16, |value: Self| value.octets(), Self::from;
}

/// A text that ends with a zero byte.
impl Value for String {
    fn len(&self) -> usize {
        self.len() + 1
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..self.len()].copy_from_slice(self.as_bytes());
        buffer[self.len()] = 0;
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self::from_utf8(text.to_vec())?)
    }
}

impl Value for Bytes {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(bytes.to_vec()))
    }
}

/// Attributes within an attribute.
impl<A> Value for Vec<A>
where
    A: Nla + for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    const TYPE_FLAGS: u16 = NLA_F_NESTED;

    fn len(&self) -> usize {
        self.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        Emitable::emit(&self.as_slice(), buffer);
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        parse_all(bytes)
    }
}
