//! Positions in a log.

use std::{fmt, str::FromStr};

use crate::{EventId, EventIdError};

/// An event's number in its log: rises strictly, may skip; 0 is before the first event. At most [`Seq::MAX`], so that JavaScript can
/// hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The highest number: 2^53 − 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The random name of one log, 50 bits; written as ten characters of `0-9a-v`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    const CHARS: usize = 10;
    const BITS: u32 = 5 * Self::CHARS as u32;

    /// An epoch from random bits; those beyond 50 are ignored.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// The bits of [`Epoch::from_bits`].
    pub fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn ascii(self) -> [u8; Self::CHARS] {
        let mut out = [0; Self::CHARS];
        for (i, c) in out.iter_mut().enumerate() {
            let shift = 5 * (Self::CHARS - 1 - i);
            *c = b"0123456789abcdefghijklmnopqrstuv"[(self.0 >> shift) as usize & 31];
        }
        out
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ascii().iter().try_for_each(|&c| fmt::Write::write_char(f, char::from(c)))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() != Self::CHARS {
            return Err(CursorError);
        }
        text.bytes()
            .try_fold(0, |bits, c| {
                let digit = match c {
                    b'0'..=b'9' => c - b'0',
                    b'a'..=b'v' => c - b'a' + 10,
                    _ => return Err(CursorError),
                };
                Ok(bits << 5 | u64::from(digit))
            })
            .map(Self)
    }
}

/// A position in a log, valid on every transport: `#<epoch>:<seq>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log.
    pub epoch: Epoch,
    /// The last event before the position.
    pub seq: Seq,
}

impl Cursor {
    /// Appends the cursor's text.
    pub fn write_to(self, out: &mut Vec<u8>) {
        self.with_text(|text| out.extend_from_slice(text.as_bytes()));
    }

    /// Without an allocation, and in one piece: each event that is published is answered with one.
    fn with_text<T>(self, use_it: impl FnOnce(&str) -> T) -> T {
        let (mut text, mut number) = ([0; CURSOR_BYTES_MAX], itoa::Buffer::new());
        let number = number.format(self.seq.0).as_bytes();
        let len = SEQ_AT + number.len();
        text[0] = b'#';
        text[1..SEQ_AT - 1].copy_from_slice(&self.epoch.ascii());
        text[SEQ_AT - 1] = b':';
        text[SEQ_AT..len].copy_from_slice(number);
        use_it(std::str::from_utf8(&text[..len]).expect("all of it is ASCII"))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = text.strip_prefix('#').and_then(|rest| rest.split_once(':')).ok_or(CursorError)?;
        if seq.is_empty() || !seq.bytes().all(|c| c.is_ascii_digit()) {
            return Err(CursorError);
        }
        let seq = seq.parse().ok().map(Seq).filter(|&seq| seq <= Seq::MAX).ok_or(CursorError)?;
        Ok(Self { epoch: epoch.parse()?, seq })
    }
}

impl serde::Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> serde::Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is written #<epoch>:<seq>, with an epoch of ten characters of 0-9a-v")]
pub struct CursorError;

/// Where a subscriber asks its feed to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastEventId {
    /// At the oldest event kept.
    Earliest,
    /// After a position.
    Cursor(Cursor),
    /// After the first event with this publisher's id.
    Publisher(EventId),
}

impl LastEventId {
    /// Parses what a client gave back; an empty text is `None`, as EventSource sends nothing for it.
    ///
    /// What follows a cursor after `;` or a space is ignored: it is the rest of an SSE id of `control=1`.
    pub fn parse(text: &str) -> Result<Option<Self>, LastEventIdError> {
        if text.is_empty() {
            return Ok(None);
        }
        if text == "earliest" {
            return Ok(Some(Self::Earliest));
        }
        if text.starts_with('#') {
            let end = text.find([';', ' ']).unwrap_or(text.len());
            return Ok(Some(Self::Cursor(text[..end].parse()?)));
        }
        Ok(Some(Self::Publisher(EventId::new(text)?)))
    }
}

impl fmt::Display for LastEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Cursor(cursor) => cursor.fmt(f),
            Self::Publisher(id) => f.write_str(id.as_str()),
        }
    }
}

/// Why a text is no last event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LastEventIdError {
    /// It begins with `#` and is no cursor.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// It can't be a publisher's id.
    #[error(transparent)]
    Id(#[from] EventIdError),
}

/// Where the number begins in a cursor's text.
const SEQ_AT: usize = 1 + Epoch::CHARS + 1;
/// With the longest `u64`.
const CURSOR_BYTES_MAX: usize = SEQ_AT + 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        for bits in [0, 1, u64::MAX, 0x1234_5678_9abc] {
            let cursor = Cursor { epoch: Epoch::from_bits(bits), seq: Seq(42) };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
            let mut out = Vec::new();
            cursor.write_to(&mut out);
            assert_eq!(out, cursor.to_string().as_bytes());
            assert_eq!(cursor.to_string(), format!("#{}:42", cursor.epoch));
        }
        let longest = Cursor { epoch: Epoch::from_bits(0), seq: Seq(u64::MAX) };
        assert_eq!(longest.to_string(), format!("#0000000000:{}", u64::MAX));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for bad in [
            "",
            "#",
            "#0000000000",
            "#0000000000:",
            "#0000000000:+1",
            "#000000000w:1",
            "#000000000:1",
            "0000000000:1",
            "#0000000000:9007199254740992",
            "#0000000000:99999999999999999999",
            "#0000000000:1 ",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad}");
        }
    }

    #[test]
    fn a_last_event_id_may_carry_the_rest_of_a_control_id() {
        let cursor: Cursor = "#0a1b2c3d4e:42".parse().unwrap();
        for text in ["#0a1b2c3d4e:42", "#0a1b2c3d4e:42;t=1;n=a mine", "#0a1b2c3d4e:42 mine"] {
            assert_eq!(LastEventId::parse(text), Ok(Some(LastEventId::Cursor(cursor))));
        }
        assert_eq!(LastEventId::parse(""), Ok(None));
        assert_eq!(LastEventId::parse("earliest"), Ok(Some(LastEventId::Earliest)));
        assert!(matches!(LastEventId::parse("urn:uuid:1"), Ok(Some(LastEventId::Publisher(_)))));
        assert!(LastEventId::parse("#nope").is_err());
        assert!(LastEventId::parse("a\nb").is_err());
    }
}
