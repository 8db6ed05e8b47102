//! What h3 gets to see of a peer's frames [RFC 9114 §7], so that it never holds more than one of them.
//!
//! h3 0.0.8 gathers a whole frame of whatever length the peer claims before it looks at it, reads up to two packets for
//! every tiny frame that it hands out, and takes an empty DATA frame for the end of a body. Here the frames are found
//! first: an unknown one is skipped by counting, any other but DATA is gathered under a limit and handed over whole,
//! and DATA goes through piece by piece without being copied.

use bytes::{Buf, Bytes, BytesMut};

use super::varint::Prefix;

/// Whose frames they are: the control stream has some that a request must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Request,
}

/// Cuts one stream into pieces that h3 can take.
#[derive(Debug)]
pub(super) struct Frames {
    kind: Kind,
    state: State,
}

/// A frame that nobody needs to send so long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

#[derive(Debug)]
enum State {
    Header(Prefix),
    Data { left: u64 },
    Gather { frame: BytesMut, left: usize },
    Skip { left: u64 },
}

impl Frames {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, state: State::Header(Prefix::default()) }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The next piece for h3 out of `input`, which is advanced; `None` when more input is needed.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, TooLong> {
        while !input.is_empty() {
            match &mut self.state {
                State::Header(header) => {
                    let taken = header.missing().min(input.len());
                    header.extend(&input[..taken]);
                    input.advance(taken);
                    let (Some(frame_type), Some(len)) = header.values() else { continue };
                    let header = std::mem::take(header);
                    if let Some(piece) = self.begin(frame_type, len, header.as_slice())? {
                        return Ok(Some(piece));
                    }
                }
                State::Data { left } => {
                    let piece = input.split_to(input.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                    *left -= piece.len() as u64;
                    if *left == 0 {
                        self.state = State::Header(Prefix::default());
                    }
                    return Ok(Some(piece));
                }
                State::Gather { frame, left } => {
                    let piece = input.split_to(input.len().min(*left));
                    frame.extend_from_slice(&piece);
                    *left -= piece.len();
                    if *left == 0 {
                        let frame = std::mem::take(frame).freeze();
                        self.state = State::Header(Prefix::default());
                        return Ok(Some(frame));
                    }
                }
                State::Skip { left } => {
                    let skipped = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    input.advance(skipped);
                    *left -= skipped as u64;
                    if *left == 0 {
                        self.state = State::Header(Prefix::default());
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the stream may end here. h3 takes a body for whole whose last frame is cut short.
    pub(super) fn is_between_frames(&self) -> bool {
        matches!(&self.state, State::Header(header) if header.is_empty())
    }

    fn begin(&mut self, frame_type: u64, len: u64, header: &[u8]) -> Result<Option<Bytes>, TooLong> {
        match (frame_type, self.kind) {
            (DATA, _) if len == 0 => Ok(None),
            (DATA, _) => {
                self.state = State::Data { left: len };
                Ok(Some(Bytes::copy_from_slice(header)))
            }
            // Nothing is ever pushed; h3 would log a warning for each of these.
            (CANCEL_PUSH | MAX_PUSH_ID, Kind::Control) => {
                self.skip(len);
                Ok(None)
            }
            // h3 closes the connection for it, and takes no length here.
            (WEBTRANSPORT_STREAM, _) => Ok(Some(Bytes::copy_from_slice(header))),
            (HEADERS..=MAX_PUSH_ID, _) if is_known(frame_type) => {
                let left = usize::try_from(len).map_err(|_| TooLong)?;
                if left > FRAME_BYTES_MAX {
                    return Err(TooLong);
                }
                if left == 0 {
                    return Ok(Some(Bytes::copy_from_slice(header)));
                }
                self.state = State::Gather { frame: BytesMut::from(header), left };
                Ok(None)
            }
            _ => {
                self.skip(len);
                Ok(None)
            }
        }
    }

    fn skip(&mut self, len: u64) {
        if len > 0 {
            self.state = State::Skip { left: len };
        }
    }
}

/// Frames that h3 has an opinion on, the ones that HTTP/2 left behind included [RFC 9114 §7.2.8].
fn is_known(frame_type: u64) -> bool {
    frame_type <= 0x09 || frame_type == MAX_PUSH_ID
}

/// The longest frame other than DATA that is gathered: twice the field section that is accepted, so that one a little
/// too large is answered with 431 rather than a reset. A connection holds one for each of its requests at worst.
pub(super) const FRAME_BYTES_MAX: usize = 32 * 1024;

const DATA: u64 = 0x00;
const HEADERS: u64 = 0x01;
const CANCEL_PUSH: u64 = 0x03;
const MAX_PUSH_ID: u64 = 0x0d;
/// [draft-ietf-webtrans-http3-02 §4.2]
const WEBTRANSPORT_STREAM: u64 = 0x41;

#[cfg(test)]
mod tests {
    use quinn_proto::VarInt;

    use super::*;
    use crate::transport::quic::varint;

    fn frame(frame_type: u32, payload: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        varint::encode(VarInt::from_u32(frame_type), &mut wire);
        varint::encode(VarInt::from_u64(payload.len() as u64).unwrap(), &mut wire);
        wire.extend_from_slice(payload);
        wire
    }

    fn cut(kind: Kind, wire: &[u8], chunk_bytes: usize) -> Result<Vec<Bytes>, TooLong> {
        let mut frames = Frames::new(kind);
        let mut pieces = Vec::new();
        for chunk in wire.chunks(chunk_bytes) {
            let mut input = Bytes::copy_from_slice(chunk);
            while let Some(piece) = frames.next(&mut input)? {
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    #[test]
    fn unknown_frames_and_empty_data_vanish() {
        let wire =
            [frame(0x21, &[1; 300]), frame(0, &[]), frame(1, b"head"), frame(0, b"body"), frame(0x40, &[])].concat();
        for chunk_bytes in [1, 3, 7, wire.len()] {
            let pieces = cut(Kind::Request, &wire, chunk_bytes).unwrap();
            assert_eq!(pieces.concat(), [frame(1, b"head"), frame(0, b"body")].concat(), "chunks of {chunk_bytes}");
            assert_eq!(pieces[0], frame(1, b"head"));
        }
    }

    #[test]
    fn a_frame_of_any_claimed_length_is_refused_unread() {
        let mut wire = vec![0x01];
        varint::encode(VarInt::MAX, &mut wire);
        assert_eq!(cut(Kind::Request, &wire, 1), Err(TooLong));
        assert_eq!(cut(Kind::Control, &frame(4, &vec![0; FRAME_BYTES_MAX + 1]), 1000), Err(TooLong));
    }

    #[test]
    fn tiny_data_frames_come_one_by_one() {
        let wire = frame(0, b"x").repeat(500);
        let pieces = cut(Kind::Request, &wire, wire.len()).unwrap();
        assert_eq!(pieces.len(), 1000);
        assert!(pieces.iter().all(|piece| piece.len() <= 2));
    }

    #[test]
    fn push_frames_vanish_from_the_control_stream_only() {
        let wire = frame(0x0d, &[7]);
        assert!(cut(Kind::Control, &wire, 1).unwrap().is_empty());
        assert_eq!(cut(Kind::Request, &wire, 1).unwrap().concat(), wire);
    }

    #[test]
    fn the_end_inside_a_frame_is_no_end() {
        for (frame_type, len) in [(0, 4), (1, 9), (0x21, 5), (1, 1)] {
            let mut frames = Frames::new(Kind::Request);
            let mut input = Bytes::from(frame(frame_type, b"headers")[..len].to_vec());
            while frames.next(&mut input).unwrap().is_some() {}
            assert_eq!(frames.is_between_frames(), len == 9, "{len} bytes of a frame of type {frame_type}");
        }
    }
}
