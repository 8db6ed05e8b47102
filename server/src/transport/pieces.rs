//! What a feed writes, in pieces: small ones that come together become one.

use bytes::{Bytes, BytesMut};

/// Joins small pieces, and hands large ones on as they are.
///
/// An event's encoding is shared by all its readers. Where several events go out together, counting a reference to each of them up
/// and down, from several cores, costs more than copying a few hundred bytes, and so does every piece that a stream has to keep.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    joined: BytesMut,
}

impl Pieces {
    /// For so many bytes in small pieces.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { joined: BytesMut::with_capacity(bytes) }
    }

    /// Where a few bytes may be put that are nobody else's.
    pub(super) fn own(&mut self) -> &mut BytesMut {
        &mut self.joined
    }

    /// Adds bytes that may be shared; what is finished with them goes to `out`.
    pub(super) fn put(&mut self, piece: &Bytes, out: &mut impl Extend<Bytes>) {
        if piece.len() <= COPIED_BYTES_MAX {
            self.joined.extend_from_slice(piece);
        } else {
            self.flush(out);
            out.extend([piece.clone()]);
        }
    }

    /// Gives `out` what was joined.
    pub(super) fn flush(&mut self, out: &mut impl Extend<Bytes>) {
        if !self.joined.is_empty() {
            out.extend([self.joined.split().freeze()]);
        }
    }
}

/// The longest piece that several events become for all who get the same. The readers of a shard share it, and one that reads slowly holds it.
pub(super) const JOINED_BYTES_MAX: usize = 64 * 1024;
/// The longest piece that is copied. A reader that doesn't read holds so much, at the most, for each event of a turn.
const COPIED_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_and_large_ones_stay_shared_in_their_order() {
        let large = Bytes::from(vec![b'l'; COPIED_BYTES_MAX + 1]);
        let (mut pieces, mut out) = (Pieces::default(), Vec::<Bytes>::new());
        for piece in [&Bytes::from_static(b"a"), &Bytes::from_static(b"b"), &large, &Bytes::from_static(b"c")] {
            pieces.put(piece, &mut out);
        }
        pieces.flush(&mut out);
        assert_eq!(out.len(), 3);
        assert_eq!((&out[0][..], &out[2][..]), (&b"ab"[..], &b"c"[..]));
        assert_eq!(out[1].as_ptr(), large.as_ptr(), "not copied");
    }
}
