//! QUIC's variable-length integers [RFC 9000 §16].

use bytes::BufMut;
use fanwire_protocol::frame::{get_varint, put_varint};
use quinn_proto::VarInt;

/// Appends `value` in its shortest form.
pub(super) fn encode(value: VarInt, out: &mut impl BufMut) {
    put_varint(out, value.into_inner());
}

/// A few varints that arrive byte by byte, such as the header of a stream, a frame or a capsule.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    bytes: [u8; BYTES_MAX],
    len: usize,
}

impl Prefix {
    /// The varints that are complete, at most two of them.
    pub(super) fn values(&self) -> (Option<u64>, Option<u64>) {
        let Some((first, used)) = decode(self.as_slice()) else {
            return (None, None);
        };
        let second = decode(&self.as_slice()[used..]).map(|(value, _)| value);
        (Some(first), second)
    }

    /// How many bytes must still arrive before [`values`](Self::values) can say more. Never zero before both are there.
    pub(super) fn missing(&self) -> usize {
        let mut rest = self.as_slice();
        while let Some(&byte) = rest.first() {
            let size = encoded_len(byte);
            if rest.len() < size {
                return size - rest.len();
            }
            rest = &rest[size..];
        }
        1
    }

    /// Takes in what [`missing`](Self::missing) asked for; bytes beyond the room for two varints are not taken.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let taken = bytes.len().min(BYTES_MAX - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut rest = bytes;
    let value = get_varint(&mut rest)?;
    Some((value, bytes.len() - rest.len()))
}

fn encoded_len(first: u8) -> usize {
    1 << (first >> 6)
}

/// Two varints of the longest form.
const BYTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_byte_by_byte() {
        for value in [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, (1 << 62) - 1] {
            let mut wire = Vec::new();
            encode(VarInt::from_u64(value).unwrap(), &mut wire);
            encode(VarInt::from_u32(0x54), &mut wire);
            let mut prefix = Prefix::default();
            for &byte in &wire {
                assert!(prefix.values().1.is_none());
                assert!(prefix.missing() >= 1);
                prefix.extend(&[byte]);
            }
            assert_eq!(prefix.values(), (Some(value), Some(0x54)));
        }
    }

    #[test]
    fn missing_never_asks_for_a_byte_too_many() {
        let mut prefix = Prefix::default();
        assert_eq!(prefix.missing(), 1);
        prefix.extend(&[0xc0]);
        assert_eq!(prefix.missing(), 7);
        prefix.extend(&[0; 7]);
        assert_eq!(prefix.missing(), 1);
        prefix.extend(&[0x40]);
        assert_eq!(prefix.missing(), 1);
    }
}
