//! An event as bytes on disk.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use fanwire_protocol::{
    Cursor, Data, Draft, Event, EventId, EventType, Seq, Topic,
    frame::{get_varint, put_varint},
};

/// Encodes what a log keeps of an event besides its number. A checksum over both is in front: four bytes, and a nanosecond for every
/// ten bytes of the event.
pub(super) fn encode(seq: Seq, draft: &Draft, at_ms: u64) -> Vec<u8> {
    let data = draft.data.bytes();
    let mut out = Vec::with_capacity(data.len() + 128);
    out.put_u8(RECORD_VERSION);
    out.put_u32(0);
    put_varint(&mut out, at_ms);
    let flags = [
        (draft.id.is_some(), FLAG_ID),
        (draft.kind.is_some(), FLAG_TYPE),
        (draft.retry.is_some(), FLAG_RETRY),
        (draft.data.is_binary(), FLAG_BINARY),
        (draft.private, FLAG_PRIVATE),
    ];
    out.put_u8(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
    put_varint(&mut out, draft.topics().len() as u64);
    draft.topics().iter().for_each(|topic| put_name(&mut out, topic.as_str()));
    let names = [draft.id.as_ref().map(EventId::as_str), draft.kind.as_ref().map(EventType::as_str)];
    names.into_iter().flatten().for_each(|name| put_name(&mut out, name));
    if let Some(retry) = draft.retry {
        put_varint(&mut out, retry.as_millis() as u64);
    }
    out.extend_from_slice(data);
    let checksum = checksum(seq, &out[RECORD_HEAD_BYTES..]);
    out[1..RECORD_HEAD_BYTES].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// Reads what [`encode`] wrote; `None` if it isn't that, or no longer.
pub(super) fn decode(cursor: Cursor, record: &[u8]) -> Option<Event> {
    let mut input = match *record.first()? {
        // Written by hubs before checksums.
        1 => &record[1..],
        RECORD_VERSION => {
            let (head, rest) = record.split_at_checked(RECORD_HEAD_BYTES)?;
            if head[1..] != checksum(cursor.seq, rest).to_be_bytes() {
                return None;
            }
            rest
        }
        _ => return None,
    };
    let at_ms = get_varint(&mut input)?;
    let (&flags, rest) = input.split_first()?;
    input = rest;
    let has = |flag: u8| flags & flag != 0;
    let topics = get_varint(&mut input)?;
    let topics: Option<Vec<_>> = (0..topics).map(|_| Topic::of_event(get_name(&mut input)?).ok()).collect();
    let id = if has(FLAG_ID) { Some(EventId::new(get_name(&mut input)?).ok()?) } else { None };
    let kind = if has(FLAG_TYPE) { Some(EventType::of_event(get_name(&mut input)?).ok()?) } else { None };
    let retry = if has(FLAG_RETRY) { Some(Duration::from_millis(get_varint(&mut input)?)) } else { None };
    let data = Bytes::copy_from_slice(input);
    let data = if has(FLAG_BINARY) { Data::Binary(data) } else { Data::from_utf8(data)? };
    let mut draft = Draft::new(topics?, data).ok()?;
    (draft.id, draft.kind, draft.retry, draft.private) = (id, kind, retry, has(FLAG_PRIVATE));
    Some(Event { cursor, at_ms, draft })
}

/// Of an event under its number, so that one in another's place is noticed too.
fn checksum(seq: Seq, event: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.0.to_be_bytes());
    hasher.update(event);
    hasher.finalize()
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put_varint(out, name.len() as u64);
    out.extend_from_slice(name.as_bytes());
}

fn get_name<'a>(input: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::try_from(get_varint(input)?).ok()?;
    let (name, rest) = input.split_at_checked(len)?;
    *input = rest;
    std::str::from_utf8(name).ok()
}

const RECORD_VERSION: u8 = 2;
/// The version and the checksum.
const RECORD_HEAD_BYTES: usize = 5;
const FLAG_ID: u8 = 1;
const FLAG_TYPE: u8 = 2;
const FLAG_RETRY: u8 = 4;
const FLAG_BINARY: u8 = 8;
const FLAG_PRIVATE: u8 = 16;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Epoch, Seq};

    use super::*;

    fn cursor() -> Cursor {
        Cursor { epoch: Epoch::from_bits(1), seq: Seq(7) }
    }

    fn drafts() -> impl Iterator<Item = Draft> {
        let topics = vec![Topic::new("a").unwrap(), Topic::new("ü/b").unwrap()];
        [Data::text("x\ny"), Data::text(""), Data::Binary(Bytes::from_static(b"\0\xff"))].into_iter().map(move |data| {
            let mut draft = Draft::new(topics.clone(), data).unwrap();
            draft.id = Some(EventId::new("mine").unwrap());
            draft.kind = Some(EventType::new("update").unwrap());
            draft.retry = Some(Duration::from_millis(5));
            draft.private = true;
            draft
        })
    }

    #[test]
    fn a_record_comes_out_as_it_went_in_and_no_other_way() {
        let cursor = cursor();
        for draft in drafts() {
            let record = encode(cursor.seq, &draft, 99);
            assert_eq!(decode(cursor, &record), Some(Event { cursor, at_ms: 99, draft }));
            for end in 0..record.len() {
                assert_eq!(decode(cursor, &record[..end]), None);
            }
            // A version that becomes the first one has no checksum.
            for bit in 8..8 * record.len() {
                let mut rotten = record.clone();
                rotten[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(cursor, &rotten), None, "bit {bit}");
            }
            assert_eq!(decode(Cursor { seq: Seq(8), ..cursor }, &record), None, "it is another event's");
        }
        assert_eq!(decode(cursor, &[3, 0, 0]), None);
        assert_eq!(decode(cursor, &[]), None);
    }

    #[test]
    fn what_hubs_wrote_before_checksums_is_read() {
        let cursor = cursor();
        for draft in drafts() {
            let record = encode(cursor.seq, &draft, 99);
            let first = [&[1], &record[RECORD_HEAD_BYTES..]].concat();
            assert_eq!(decode(cursor, &first), Some(Event { cursor, at_ms: 99, draft }));
            for end in 0..first.len() {
                let _ = decode(cursor, &first[..end]);
            }
        }
    }
}
