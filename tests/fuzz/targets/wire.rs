//! QUIC's numbers, read without the hub's help.

/// Takes a variable-length integer off the front; none if it isn't all there. [RFC 9000 §16]
pub(crate) fn varint(wire: &mut &[u8]) -> Option<u64> {
    let bytes = 1usize << (wire.first()? >> 6);
    let (number, rest) = wire.split_at_checked(bytes)?;
    let mut whole = [0; 8];
    whole[8 - bytes..].copy_from_slice(number);
    whole[8 - bytes] &= 0b0011_1111;
    *wire = rest;
    Some(u64::from_be_bytes(whole))
}

/// Takes a number, and as many bytes behind it as it says.
pub(crate) fn counted<'a>(wire: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = usize::try_from(varint(wire)?).ok()?;
    let (bytes, rest) = wire.split_at_checked(count)?;
    *wire = rest;
    Some(bytes)
}
