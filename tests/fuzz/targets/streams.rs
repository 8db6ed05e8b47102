//! What comes on streams: the frames of a session, of HTTP/3, and capsules.

use bytes::Bytes;
use fanwire::transport::quic::{CapsuleError, Close, fuzzing};
use fanwire_protocol::{
    Epoch, EventId, EventType, Topic,
    frame::{self, Decoder, Frame},
};

use crate::{
    fuzz,
    wire::{counted, varint},
};

#[test]
fn frames_are_the_same_however_they_are_cut() {
    let seeds: [&[u8]; 4] = [
        b"\x13\x11{\"request_id\": 1}",
        b"\x00\x02{}\x01\x0a\x00\x01\x05\x00\x01adata\x04\x02{}",
        b"\x21\x40\x05hello\x13\x00",
        b"\xc0\0\0\0\0\0\0\x13\x80\0\0\x02{}",
    ];
    fuzz(bolero::check!(), &seeds, |bytes, choices| {
        let decode = |cut: &mut dyn FnMut(usize) -> usize| {
            let (mut decoder, mut frames, mut rest) = (Decoder::new(FRAME_BYTES_MAX), vec![], bytes);
            loop {
                loop {
                    match decoder.next() {
                        Ok(Some(Frame { kind, payload })) => frames.push((kind, payload.to_vec())),
                        Ok(None) => break,
                        Err(_) => return (frames, Ending::TooLong),
                    }
                }
                if rest.is_empty() {
                    return (frames, if decoder.is_empty() { Ending::Between } else { Ending::Within });
                }
                let (part, left) = rest.split_at(cut(rest.len()));
                decoder.feed(part);
                rest = left;
            }
        };
        let whole = frames_by_the_book(bytes);
        assert_eq!(decode(&mut |all| all), whole);
        assert_eq!(decode(&mut |all| choices.among(1..=all)), whole);
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Between,
    Within,
    TooLong,
}

/// [PROTOCOL.md §5.2]
fn frames_by_the_book(mut wire: &[u8]) -> (Vec<(u64, Vec<u8>)>, Ending) {
    let mut frames = vec![];
    while !wire.is_empty() {
        let mut rest = wire;
        let (Some(kind), Some(length)) = (varint(&mut rest), varint(&mut rest)) else {
            return (frames, Ending::Within);
        };
        if length > FRAME_BYTES_MAX as u64 {
            return (frames, Ending::TooLong);
        }
        let Some((payload, behind)) = rest.split_at_checked(length as usize) else { return (frames, Ending::Within) };
        frames.push((kind, payload.to_vec()));
        wire = behind;
    }
    (frames, Ending::Between)
}

/// Short, so that some are too long.
const FRAME_BYTES_MAX: usize = 80;

#[test]
fn an_event_is_read_as_it_is_written_or_not_at_all() {
    let seeds: [&[u8]; 6] = [
        b"\x00\x01\x05\x00\x01adata",
        b"\x40\x42\x43\xc0\0\x01\x8c\0\0\0\0\x07\x02id\x01t\x05\x03\xc3\xa9/data\r\n",
        b"\x07\x08\x09\x08\x01a\xff\x00",
        b"\x07\x08\x09\x10\x01a\xff\x00",
        b"\x07\x08\x09\x40\x13\x08earliest\x07fanwire\x01*",
        b"\x07\x08\x09\x02\x07mercure\x14/.well-known/mercure{}",
    ];
    fuzz(bolero::check!(), &seeds, |payload, _| {
        let read = frame::read_event(Epoch::from_bits(7), Bytes::copy_from_slice(payload)).ok().map(|read| {
            let draft = read.event.draft;
            assert_eq!((read.event.cursor.epoch, draft.topics().len()), (Epoch::from_bits(7), 1));
            Read {
                numbers: [read.prev.0, read.event.cursor.seq.0, read.event.at_ms],
                id: draft.id.as_ref().map(|id| id.as_str().to_owned()),
                kind: draft.kind.as_ref().map(|kind| kind.as_str().to_owned()),
                retry_ms: draft.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap()),
                topic: draft.canonical().as_str().to_owned(),
                data: draft.data.bytes().to_vec(),
                is_binary: draft.data.is_binary(),
                is_private: draft.private,
            }
        });
        assert_eq!(read, event_by_the_book(payload));
    });
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    numbers: [u64; 3],
    id: Option<String>,
    kind: Option<String>,
    retry_ms: Option<u64>,
    topic: String,
    data: Vec<u8>,
    is_binary: bool,
    is_private: bool,
}

/// [PROTOCOL.md §5.3]
fn event_by_the_book(mut wire: &[u8]) -> Option<Read> {
    let numbers = [varint(&mut wire)?, varint(&mut wire)?, varint(&mut wire)?];
    let flags = varint(&mut wire)?;
    let has = |bit: u64| flags >> bit & 1 == 1;
    let name = |wire: &mut &[u8]| counted(wire).and_then(|name| String::from_utf8(name.to_vec()).ok());
    let id = if has(0) { Some(name(&mut wire)?) } else { None };
    let kind = if has(1) { Some(name(&mut wire)?) } else { None };
    let retry_ms = if has(2) { Some(varint(&mut wire)?) } else { None };
    let topic = name(&mut wire)?;
    let data = match std::str::from_utf8(wire) {
        _ if has(3) => wire.to_vec(),
        text => text.ok()?.replace("\r\n", "\n").replace('\r', "\n").into_bytes(),
    };
    let legal = Topic::of_event(&topic).is_ok()
        && id.as_ref().is_none_or(|id| EventId::new(id).is_ok())
        && kind.as_ref().is_none_or(|kind| EventType::of_event(kind).is_ok());
    legal.then_some(Read { numbers, id, kind, retry_ms, topic, data, is_binary: has(3), is_private: has(4) })
}

#[test]
fn http3_sees_the_frames_that_it_needs_and_no_others() {
    let seeds: [&[u8]; 7] = [
        b"\x01\x05\0\0\xd1\xd7\xc1\x00\x04body\x00\x00\x00\x01x\x01\x02\0\0",
        b"\x04\x04\x08\x01\x33\x01\x07\x01\0\x0d\x01\x07\x03\x01\x07",
        b"\x21\x03abc\x40\x21\x00\x80\x0f\x07\0\x04u=1, ",
        b"\x01\xc0\0\0\0\0\0\x80\0",
        b"\x01\x80\0\x80\x01",
        b"\x40\x41\x04\x41\0\x02\x01x\x09\x00",
        b"\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    fuzz(bolero::check!(), &seeds, |wire, choices| {
        let is_control = choices.bool();
        let whole = fuzzing::http3_frames(is_control, wire, |all| all);
        let cut = fuzzing::http3_frames(is_control, wire, |all| choices.among(1..=all));
        let text = |seen: &Option<(Vec<Bytes>, bool)>| seen.as_ref().map(|(pieces, end)| (pieces.concat(), *end));
        // What is refused may be refused earlier, or what comes before it may be cut otherwise: the bytes are the same.
        assert_eq!(text(&cut), text(&whole));
        assert_eq!(text(&whole), http3_by_the_book(is_control, wire));
        for (pieces, _) in whole.into_iter().chain(cut) {
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(pieces.iter().map(Bytes::len).sum::<usize>() <= wire.len());
        }
    });
}

/// The bytes that are left of a stream, and whether it ends between two frames; none if a frame that must be whole is too long. [RFC 9114 §7]
fn http3_by_the_book(is_control: bool, wire: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (mut seen, mut rest) = (vec![], wire);
    while !rest.is_empty() {
        let mut after = rest;
        let (Some(kind), Some(length)) = (varint(&mut after), varint(&mut after)) else {
            return Some((seen, false));
        };
        let head = &rest[..rest.len() - after.len()];
        let there = after.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        let is_whole = there as u64 == length;
        let (body, next) = after.split_at(there);
        match kind {
            // What is left of it is not looked for.
            0x41 => {
                seen.extend_from_slice(head);
                rest = after;
                continue;
            }
            0x00 if length == 0 => {}
            0x00 => {
                seen.extend_from_slice(head);
                seen.extend_from_slice(body);
            }
            0x03 | 0x0d if is_control => {}
            0x01..=0x09 | 0x0d => {
                if length > 32 * 1024 {
                    return None;
                }
                if is_whole {
                    seen.extend_from_slice(head);
                    seen.extend_from_slice(body);
                }
            }
            _ => {}
        }
        if !is_whole {
            return Some((seen, false));
        }
        rest = next;
    }
    Some((seen, true))
}

#[test]
fn a_session_is_closed_by_the_first_capsule_that_says_so() {
    let seeds: [&[u8]; 6] = [
        b"\x68\x43\x07\0\0\0\x07bye",
        b"\x68\x43\x04\0\0\0\x01",
        b"\x40\x99\x03abc\x80\0\x78\xae\0\x68\x43\x06\xff\xff\xff\xff\xc3\xa9",
        b"\x68\x43\x44\x04\0\0\0\x01",
        b"\x68\x43\x44\x05\0\0\0\x01",
        b"\x00\x02xy\x00\x00\xc0\0\0\0\0\0\x28\x43\x05\0\0\0\x02!",
    ];
    fuzz(bolero::check!(), &seeds, |wire, choices| {
        let whole = fuzzing::capsules(wire, |all| all);
        assert_eq!(fuzzing::capsules(wire, |all| choices.among(1..=all)), whole);
        assert_eq!(whole, capsules_by_the_book(wire));
    });
}

/// [RFC 9297 §3.2, draft-ietf-webtrans-http3-02 §5]
fn capsules_by_the_book(mut wire: &[u8]) -> Result<Close, CapsuleError> {
    while !wire.is_empty() {
        let (Some(kind), Some(length)) = (varint(&mut wire), varint(&mut wire)) else {
            return Err(CapsuleError::Truncated);
        };
        if kind == 0x2843 && !(4..=4 + 1024).contains(&length) {
            return Err(CapsuleError::CloseLength(length));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (body, rest) = wire.split_at_checked(length).ok_or(CapsuleError::Truncated)?;
        if kind == 0x2843 {
            let (code, reason) = body.split_first_chunk::<4>().unwrap();
            let reason = std::str::from_utf8(reason).map_err(|_| CapsuleError::Reason)?;
            return Ok(Close::new(u32::from_be_bytes(*code), reason));
        }
        wire = rest;
    }
    Ok(Close::default())
}
