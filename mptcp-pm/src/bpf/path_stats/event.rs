//! What the ring buffer of `path_stats` tells.
use mptcp_common::path_stats::{Sample, Tag, Timeout};
use zerocopy::FromBytes;

/// One thing that happened to a subflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was established, or found.
    Opened(Sample),
    /// It has ended; these are its last figures.
    Closed(Sample),
    /// Its retransmission timer expired.
    Timeout(Timeout),
    /// Something moves, and the daemon wanted to know.
    Awake,
    /// It lives, as somebody has asked.
    Read(Sample),
}

impl Event {
    /// Reads a record: a tag, and what belongs to it.
    pub fn parse(record: &[u8]) -> Option<Self> {
        let (tag, body) = u64::read_from_prefix(record).ok()?;
        match tag {
            tag if tag == Tag::Opened as u64 => Sample::read_from_bytes(body).ok().map(Self::Opened),
            tag if tag == Tag::Closed as u64 => Sample::read_from_bytes(body).ok().map(Self::Closed),
            tag if tag == Tag::Timeout as u64 => Timeout::read_from_bytes(body).ok().map(Self::Timeout),
            tag if tag == Tag::Awake as u64 => body.is_empty().then_some(Self::Awake),
            tag if tag == Tag::Read as u64 => Sample::read_from_bytes(body).ok().map(Self::Read),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(tag: u64, body: &[u8]) -> Vec<u8> {
        [&tag.to_ne_bytes(), body].concat()
    }

    #[test]
    fn each_tag_has_a_body_of_its_own_length() {
        let sample = [7; size_of::<Sample>()];
        assert!(matches!(Event::parse(&record(1, &sample)), Some(Event::Opened(_))));
        let Some(Event::Closed(closed)) = Event::parse(&record(2, &sample)) else { panic!("a closing") };
        assert_eq!(closed.kept.token, 0x0707_0707);
        assert!(matches!(Event::parse(&record(3, &[0; size_of::<Timeout>()])), Some(Event::Timeout(_))));
        assert_eq!(Event::parse(&record(4, &[])), Some(Event::Awake));
        assert!(matches!(Event::parse(&record(5, &sample)), Some(Event::Read(_))));
    }

    #[test]
    fn what_is_too_short_too_long_or_unknown_is_refused() {
        let sample = [0; size_of::<Sample>()];
        assert_eq!(Event::parse(&[]), None);
        assert_eq!(Event::parse(&record(1, &sample[1..])), None);
        assert_eq!(Event::parse(&record(4, &[0])), None);
        assert_eq!(Event::parse(&record(0, &sample)), None);
        assert_eq!(Event::parse(&record(6, &sample)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Event::parse(&bytes);
        }
    }
}
