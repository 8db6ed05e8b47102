//! Error codes of HTTP/3 and of WebTransport over it.

use quinn_proto::VarInt;

/// [RFC 9114 §8.1] Nothing went wrong.
pub(super) const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// [RFC 9114 §8.1] The server itself failed.
pub(super) const H3_INTERNAL_ERROR: VarInt = VarInt::from_u32(0x102);
/// [RFC 9114 §6.2] A stream of a type that isn't taken.
pub(super) const H3_STREAM_CREATION_ERROR: VarInt = VarInt::from_u32(0x103);
/// [RFC 9114 §7.1] A frame that is cut short.
pub(super) const H3_FRAME_ERROR: VarInt = VarInt::from_u32(0x106);
/// [RFC 9114 §8.1] The peer asks for more than it is worth.
pub(super) const H3_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);
/// [RFC 9114 §8.1] An id that can't be, such as a session on a stream that can carry none.
pub(super) const H3_ID_ERROR: VarInt = VarInt::from_u32(0x108);
/// [RFC 9114 §4.1.1] Not processed: the client may send it again elsewhere.
pub(super) const H3_REQUEST_REJECTED: VarInt = VarInt::from_u32(0x10b);
/// [RFC 9114 §8.1] The request's head never came.
pub(super) const H3_REQUEST_INCOMPLETE: VarInt = VarInt::from_u32(0x10d);
/// [RFC 9114 §4.1.2, RFC 9297 §3.3] A malformed message, malformed capsules included.
pub(super) const H3_MESSAGE_ERROR: VarInt = VarInt::from_u32(0x10e);
/// [draft-ietf-webtrans-http3-02 §5] The session of this stream has ended.
pub(super) const SESSION_GONE: VarInt = VarInt::from_u32(0x170d_7b68);
/// [draft-ietf-webtrans-http3-02 §4.5] The stream came before its session, and too many wait already.
pub(super) const BUFFERED_STREAM_REJECTED: VarInt = VarInt::from_u32(0x3994_bd84);

/// The HTTP/3 code that carries a WebTransport application's `code` [draft-ietf-webtrans-http3-02 §4.3].
pub fn to_http3(code: u32) -> VarInt {
    let code = u64::from(code);
    VarInt::from_u64(APPLICATION_FIRST + code + code / RESERVED_EVERY).unwrap_or(VarInt::MAX)
}

/// The WebTransport application's code in an HTTP/3 code, if that is what it is.
pub fn from_http3(code: VarInt) -> Option<u32> {
    let shifted = code.into_inner().checked_sub(APPLICATION_FIRST)?;
    // Every 0x1f-th code is a reserved one of HTTP/3 and never carries an application's.
    if (code.into_inner() - 0x21).is_multiple_of(RESERVED_EVERY + 1) {
        return None;
    }
    u32::try_from(shifted - shifted / (RESERVED_EVERY + 1)).ok()
}

const APPLICATION_FIRST: u64 = 0x52e4_a40f_a8db;
const RESERVED_EVERY: u64 = 0x1e;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn application_codes_map_both_ways() {
        for code in [0, 1, 0x1d, 0x1e, 0x1f, 0xff, 0x1234_5678, u32::MAX] {
            assert_eq!(from_http3(to_http3(code)), Some(code));
        }
        assert_eq!(to_http3(0).into_inner(), 0x52e4_a40f_a8db);
        assert_eq!(to_http3(u32::MAX).into_inner(), 0x52e5_ac98_3162);
    }

    #[test]
    fn reserved_codes_carry_nothing() {
        assert_eq!(from_http3(H3_NO_ERROR), None);
        assert_eq!(from_http3(VarInt::from_u64(0x52e4_a40f_a8db + 0x1e).unwrap()), None);
        assert_eq!(from_http3(VarInt::MAX), None);
    }
}
