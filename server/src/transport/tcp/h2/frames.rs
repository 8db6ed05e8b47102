//! Frames of HTTP/2, as far as they are looked at outside of h2. [RFC 9113 §4.1]

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) payload_bytes: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// Where in its frames one direction of a connection is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    /// How much of a head came.
    known: usize,
    /// How much of what isn't a head is still to come.
    left: usize,
    /// A block of fields goes on in the next frame.
    in_fields: bool,
}

impl Head {
    pub(super) fn data(stream: u32, payload_bytes: usize) -> Self {
        Self { payload_bytes, kind: DATA, flags: 0, stream }
    }

    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let ([_, high, middle, low], [a, b, c, d]) =
            ((self.payload_bytes as u32).to_be_bytes(), self.stream.to_be_bytes());
        [high, middle, low, self.kind, self.flags, a, b, c, d]
    }

    fn read([high, middle, low, kind, flags, a, b, c, d]: [u8; HEAD_BYTES]) -> Self {
        let payload_bytes = u32::from_be_bytes([0, high, middle, low]) as usize;
        // The first bit means nothing.
        Self { payload_bytes, kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]) }
    }
}

impl Frames {
    /// `before`: how many bytes come before the first frame.
    pub(super) fn new(before: usize) -> Self {
        Self { head: [0; HEAD_BYTES], known: 0, left: before, in_fields: false }
    }

    /// Whether a frame has ended, nothing came of the next, and that may be any.
    pub(super) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0 && !self.in_fields
    }

    /// Goes on up to the end of a head, or where there is none to the end of `bytes`, of which the rest is left.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let passed = self.left.min(bytes.len());
        self.left -= passed;
        *bytes = &bytes[passed..];
        if self.left > 0 {
            return None;
        }
        let more = bytes.len().min(HEAD_BYTES - self.known);
        self.head[self.known..][..more].copy_from_slice(&bytes[..more]);
        self.known += more;
        *bytes = &bytes[more..];
        if self.known < HEAD_BYTES {
            return None;
        }
        let head = Head::read(self.head);
        (self.known, self.left) = (0, head.payload_bytes);
        // [RFC 9113 §4.3]
        self.in_fields = matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION) && head.flags & END_HEADERS == 0;
        Some(head)
    }
}

/// What gives a stream, or with 0 the connection, more to send. [RFC 9113 §6.9]
pub(super) fn window_update(stream: u32, increment: usize) -> [u8; WINDOW_UPDATE_BYTES] {
    let mut frame = [0; WINDOW_UPDATE_BYTES];
    let (head, payload) = frame.split_at_mut(HEAD_BYTES);
    head.copy_from_slice(&Head { payload_bytes: payload.len(), kind: WINDOW_UPDATE, flags: 0, stream }.bytes());
    payload.copy_from_slice(&(increment as u32).to_be_bytes());
    frame
}

/// What a client sends before its first frame. [RFC 9113 §3.4]
pub(super) const PREFACE_BYTES: usize = 24;
pub(super) const HEAD_BYTES: usize = 9;
pub(super) const WINDOW_UPDATE_BYTES: usize = HEAD_BYTES + 4;
/// The largest payload that every peer takes. [RFC 9113 §6.5.2]
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Of SETTINGS: those of the other side are taken in.
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_frames_are_cut() {
        let heads = [
            Head { payload_bytes: 0, kind: SETTINGS, flags: ACK, stream: 0 },
            Head::data(1, 70_000),
            Head { payload_bytes: 4, kind: WINDOW_UPDATE, flags: 0, stream: 0x7fff_ffff },
            Head::data(3, 1),
        ];
        let mut all = vec![b'p'; PREFACE_BYTES];
        for head in heads {
            all.extend(head.bytes());
            all.extend(vec![0xff; head.payload_bytes]);
        }
        for size in [1, 2, 8, 9, 10, 13, 1_000, all.len()] {
            let (mut frames, mut found, mut ends) = (Frames::new(PREFACE_BYTES), Vec::new(), 0);
            for mut cut in all.chunks(size) {
                while !cut.is_empty() {
                    found.extend(frames.next(&mut cut));
                    ends += usize::from(size == 1 && frames.is_between());
                }
            }
            assert_eq!(found, heads, "in pieces of {size}");
            assert!(frames.is_between());
            assert!(size > 1 || ends == heads.len() + 1, "between {ends} times");
        }
    }

    #[test]
    fn nothing_comes_between_the_frames_of_a_block_of_fields() {
        let mut frames = Frames::new(0);
        for (kind, flags, is_between) in
            [(HEADERS, 1, false), (CONTINUATION, 0, false), (CONTINUATION, END_HEADERS, true), (HEADERS, 5, true)]
        {
            let head = Head { payload_bytes: 2, kind, flags, stream: 1 };
            let bytes = [&head.bytes()[..], &[0; 2]].concat();
            let mut left = &bytes[..];
            while !left.is_empty() {
                frames.next(&mut left);
            }
            assert_eq!(frames.is_between(), is_between, "{head:?}");
        }
    }

    #[test]
    fn a_window_update_is_what_the_standard_says() {
        assert_eq!(window_update(5, 0x4000), [0, 0, 4, 8, 0, 0, 0, 0, 5, 0, 0, 0x40, 0]);
    }
}
