//! An event as bytes on disk.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use fanwire_protocol::{
    Cursor, Data, Draft, Event, EventId, EventType, Topic,
    frame::{get_varint, put_varint},
};

/// Encodes what a log keeps of an event besides its number.
pub(super) fn encode(draft: &Draft, at_ms: u64) -> Vec<u8> {
    let data = draft.data.bytes();
    let mut out = Vec::with_capacity(data.len() + 128);
    out.put_u8(RECORD_VERSION);
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
    out
}

/// Reads what [`encode`] wrote; `None` if it isn't that.
pub(super) fn decode(cursor: Cursor, record: &[u8]) -> Option<Event> {
    let (&version, mut input) = record.split_first()?;
    if version != RECORD_VERSION {
        return None;
    }
    let at_ms = get_varint(&mut input)?;
    let (&flags, rest) = input.split_first()?;
    input = rest;
    let has = |flag: u8| flags & flag != 0;
    let topics = get_varint(&mut input)?;
    let topics: Option<Vec<_>> = (0..topics).map(|_| Topic::new(get_name(&mut input)?).ok()).collect();
    let id = if has(FLAG_ID) { Some(EventId::new(get_name(&mut input)?).ok()?) } else { None };
    let kind = if has(FLAG_TYPE) { Some(EventType::new(get_name(&mut input)?).ok()?) } else { None };
    let retry = if has(FLAG_RETRY) { Some(Duration::from_millis(get_varint(&mut input)?)) } else { None };
    let data = Bytes::copy_from_slice(input);
    let data = if has(FLAG_BINARY) { Data::Binary(data) } else { Data::from_utf8(data)? };
    let mut draft = Draft::new(topics?, data).ok()?;
    (draft.id, draft.kind, draft.retry, draft.private) = (id, kind, retry, has(FLAG_PRIVATE));
    Some(Event { cursor, at_ms, draft })
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

const RECORD_VERSION: u8 = 1;
const FLAG_ID: u8 = 1;
const FLAG_TYPE: u8 = 2;
const FLAG_RETRY: u8 = 4;
const FLAG_BINARY: u8 = 8;
const FLAG_PRIVATE: u8 = 16;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Epoch, Seq};

    use super::*;

    #[test]
    fn a_record_comes_out_as_it_went_in_and_every_cut_of_it_is_refused_or_harmless() {
        let cursor = Cursor { epoch: Epoch::from_bits(1), seq: Seq(7) };
        let topics = vec![Topic::new("a").unwrap(), Topic::new("ü/b").unwrap()];
        for data in [Data::text("x\ny"), Data::text(""), Data::Binary(Bytes::from_static(b"\0\xff"))] {
            let mut draft = Draft::new(topics.clone(), data).unwrap();
            draft.id = Some(EventId::new("mine").unwrap());
            draft.kind = Some(EventType::new("update").unwrap());
            draft.retry = Some(Duration::from_millis(5));
            draft.private = true;
            let record = encode(&draft, 99);
            assert_eq!(decode(cursor, &record), Some(Event { cursor, at_ms: 99, draft }));
            for end in 0..record.len() {
                let _ = decode(cursor, &record[..end]);
            }
        }
        assert_eq!(decode(cursor, &[2, 0, 0]), None);
    }
}
