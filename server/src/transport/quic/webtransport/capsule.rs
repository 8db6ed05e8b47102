//! Capsules on a session's CONNECT stream [RFC 9297 §3.2, draft-ietf-webtrans-http3-02 §5].

use bytes::{BufMut, Bytes, BytesMut};
use quinn_proto::VarInt;
use thiserror::Error;

use super::Close;
use crate::transport::quic::varint::{self, Prefix};

/// Reads capsules as they arrive, in any pieces. Holds at most one header and one CLOSE_WEBTRANSPORT_SESSION;
/// everything else is skipped by counting, however long it claims to be.
#[derive(Debug, Default)]
pub(in crate::transport::quic) struct Parser {
    state: State,
}

/// Why the bytes are no capsules. It ends the session [RFC 9297 §3.3].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CapsuleError {
    /// No close has so many.
    #[error("a close capsule of {0} bytes")]
    CloseLength(u64),
    /// A reason that is no text.
    #[error("the reason of a close isn't UTF-8")]
    Reason,
    /// There is more to come, and it doesn't.
    #[error("the stream ended inside a capsule")]
    Truncated,
}

#[derive(Debug)]
enum State {
    Header(Prefix),
    Close { body: BytesMut, left: usize },
    Skip { left: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Prefix::default())
    }
}

impl Parser {
    /// Takes in the next bytes. The first close ends the session, and what comes after it isn't looked at.
    pub(in crate::transport::quic) fn push(&mut self, mut input: &[u8]) -> Result<Option<Close>, CapsuleError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Header(header) => {
                    let taken = header.missing().min(input.len());
                    header.extend(&input[..taken]);
                    input = &input[taken..];
                    if let (Some(capsule_type), Some(len)) = header.values() {
                        self.state = begin(capsule_type, len)?;
                    }
                }
                State::Close { body, left } => {
                    let taken = input.len().min(*left);
                    body.extend_from_slice(&input[..taken]);
                    *left -= taken;
                    input = &input[taken..];
                    if *left == 0 {
                        return parse_close(body).map(Some);
                    }
                }
                State::Skip { left } => {
                    let taken = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    input = &input[taken..];
                    if *left == 0 {
                        self.state = State::default();
                    }
                }
            }
        }
        Ok(None)
    }

    /// The peer's end of the stream: a close without a capsule has code 0 and no reason [draft-ietf-webtrans-http3-02
    /// §5].
    pub(in crate::transport::quic) fn finish(&self) -> Result<Close, CapsuleError> {
        match &self.state {
            State::Header(header) if header.is_empty() => Ok(Close::default()),
            _ => Err(CapsuleError::Truncated),
        }
    }
}

/// The capsule that closes a session.
pub(super) fn close(close: &Close) -> Bytes {
    let mut wire = BytesMut::new();
    let len = CODE_BYTES + close.reason().len();
    varint::encode(CLOSE_SESSION, &mut wire);
    varint::encode(VarInt::from_u32(u32::try_from(len).unwrap_or(u32::MAX)), &mut wire);
    wire.put_u32(close.code);
    wire.put_slice(close.reason().as_bytes());
    wire.freeze()
}

/// The capsule that asks the peer to wind a session up.
pub(super) fn drain() -> Bytes {
    let mut wire = BytesMut::new();
    varint::encode(DRAIN_SESSION, &mut wire);
    varint::encode(VarInt::from_u32(0), &mut wire);
    wire.freeze()
}

fn begin(capsule_type: u64, len: u64) -> Result<State, CapsuleError> {
    if capsule_type == CLOSE_SESSION.into_inner() {
        let left = usize::try_from(len).map_err(|_| CapsuleError::CloseLength(len))?;
        if !(CODE_BYTES..=CODE_BYTES + REASON_BYTES_MAX).contains(&left) {
            return Err(CapsuleError::CloseLength(len));
        }
        return Ok(State::Close { body: BytesMut::new(), left });
    }
    Ok(if len == 0 { State::default() } else { State::Skip { left: len } })
}

fn parse_close(body: &[u8]) -> Result<Close, CapsuleError> {
    let (code, reason) = body.split_first_chunk::<CODE_BYTES>().ok_or(CapsuleError::Truncated)?;
    let reason = std::str::from_utf8(reason).map_err(|_| CapsuleError::Reason)?;
    Ok(Close::new(u32::from_be_bytes(*code), reason))
}

/// The longest reason of a close [draft-ietf-webtrans-http3-02 §5].
pub(super) const REASON_BYTES_MAX: usize = 1024;

const CODE_BYTES: usize = 4;
/// CLOSE_WEBTRANSPORT_SESSION [draft-ietf-webtrans-http3-02 §8.5].
const CLOSE_SESSION: VarInt = VarInt::from_u32(0x2843);
/// DRAIN_WEBTRANSPORT_SESSION [draft-ietf-webtrans-http3-06 §4.6]; a peer that doesn't know it skips it.
const DRAIN_SESSION: VarInt = VarInt::from_u32(0x78ae);

#[cfg(test)]
mod tests {
    use super::*;

    fn capsule(capsule_type: u64, body: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        varint::encode(VarInt::from_u64(capsule_type).unwrap(), &mut wire);
        varint::encode(VarInt::from_u64(body.len() as u64).unwrap(), &mut wire);
        wire.extend_from_slice(body);
        wire
    }

    #[test]
    fn a_close_is_read_behind_grease_in_any_pieces() {
        let sent = Close::new(4003, "déjà vu");
        let wire = [capsule(0x17 + 0x29 * 12_345, &[7; 5000]), capsule(0, &[]), close(&sent).to_vec()].concat();
        for chunk_bytes in [1, 2, 5, wire.len()] {
            let mut parser = Parser::default();
            let got: Vec<_> = wire.chunks(chunk_bytes).filter_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(got, std::slice::from_ref(&sent), "chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn a_capsule_that_claims_everything_is_counted_not_kept() {
        let mut wire = vec![0x40, 0x99];
        varint::encode(VarInt::MAX, &mut wire);
        let mut parser = Parser::default();
        assert_eq!(parser.push(&wire), Ok(None));
        assert_eq!(parser.push(&vec![0; 1 << 20]), Ok(None));
        assert!(matches!(parser.state, State::Skip { .. }));
        assert_eq!(parser.finish(), Err(CapsuleError::Truncated));
    }

    #[test]
    fn malformed_closes_are_errors() {
        let short = capsule(0x2843, &[0, 0, 0]);
        assert_eq!(Parser::default().push(&short), Err(CapsuleError::CloseLength(3)));
        let long = capsule(0x2843, &[b'x'; 4 + REASON_BYTES_MAX + 1]);
        assert_eq!(Parser::default().push(&long), Err(CapsuleError::CloseLength(1029)));
        let binary = capsule(0x2843, &[0, 0, 0, 1, 0xff, 0xfe]);
        assert_eq!(Parser::default().push(&binary), Err(CapsuleError::Reason));
    }

    #[test]
    fn an_end_without_a_capsule_is_a_close_with_zero() {
        assert_eq!(Parser::default().finish(), Ok(Close::default()));
        let mut parser = Parser::default();
        parser.push(&drain()).unwrap();
        assert_eq!(parser.finish(), Ok(Close::default()));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let cut = Close::new(1, &"é".repeat(1000));
        assert_eq!(cut.reason().len(), REASON_BYTES_MAX);
        let odd = Close::new(1, &format!("x{}", "é".repeat(1000)));
        assert_eq!(odd.reason().len(), REASON_BYTES_MAX - 1);
        assert_eq!(Parser::default().push(&close(&odd)), Ok(Some(odd)));
    }
}
