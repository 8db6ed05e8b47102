//! Ways into the readers of a peer's bytes, for the fuzz targets in `tests`. Nothing else is to use them.

use bytes::Bytes;

use super::{
    frames::{Frames, Kind},
    webtransport::{CapsuleError, CapsuleParser, Close},
};

/// The pieces that h3 gets to see of a stream, and whether it may end behind them; none if a frame is longer than any needs to be. `cut` says
/// how many of the bytes that are left come next.
pub fn http3_frames(is_control: bool, wire: &[u8], mut cut: impl FnMut(usize) -> usize) -> Option<(Vec<Bytes>, bool)> {
    let mut frames = Frames::new(if is_control { Kind::Control } else { Kind::Request });
    let (mut pieces, mut rest) = (vec![], wire);
    while !rest.is_empty() {
        let (part, left) = rest.split_at(cut(rest.len()));
        let mut input = Bytes::copy_from_slice(part);
        while let Some(piece) = frames.next(&mut input).ok()? {
            pieces.push(piece);
        }
        rest = left;
    }
    Some((pieces, frames.is_between_frames()))
}

/// What a session's stream of capsules closes it with, or that they are none.
pub fn capsules(wire: &[u8], mut cut: impl FnMut(usize) -> usize) -> Result<Close, CapsuleError> {
    let (mut parser, mut rest) = (CapsuleParser::default(), wire);
    while !rest.is_empty() {
        let (part, left) = rest.split_at(cut(rest.len()));
        if let Some(close) = parser.push(part)? {
            return Ok(close);
        }
        rest = left;
    }
    parser.finish()
}
