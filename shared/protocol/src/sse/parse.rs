//! Reading an event stream. [WHATWG HTML §9.2.6]

use std::mem;

/// Cuts the bytes of an event stream into events. Push-driven, no I/O, bounded memory.
#[derive(Debug)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    block: Block,
    data_lines: usize,
    last_id: String,
    bytes_max: usize,
}

/// What a blank line dispatches, or a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// The last event id after this block. It stays from block to block.
    pub last_id: String,
    /// The `event` field, if any.
    pub kind: Option<String>,
    /// The data; `None` where the block fires no event (it had no `data` field).
    pub data: Option<String>,
    /// A `retry` field, in milliseconds.
    pub retry_ms: Option<u64>,
}

impl Parser {
    /// A parser that takes events of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            block: Block::default(),
            data_lines: 0,
            last_id: String::new(),
            bytes_max,
        }
    }

    /// Takes bytes in and gives every block that they complete to `on_block`.
    pub fn feed(&mut self, mut bytes: &[u8], mut on_block: impl FnMut(Block)) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            if mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let held = self.line.len() + self.block.data.as_ref().map_or(0, String::len);
            if held + part.len() > self.bytes_max {
                return Err(TooLong { bytes_max: self.bytes_max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some(block) = self.end_line() {
                on_block(block);
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Option<Block> {
        let line = mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&line);
        if mem::take(&mut self.at_start)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned().into();
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                let data = self.block.data.get_or_insert_default();
                if self.data_lines > 0 {
                    data.push('\n');
                }
                data.push_str(value);
                self.data_lines += 1;
            }
            "event" => self.block.kind = (!value.is_empty()).then(|| value.to_owned()),
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.block.retry_ms = value.parse().ok();
            }
            // A comment (an empty name), or a field that means nothing.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Block> {
        self.data_lines = 0;
        let block = mem::take(&mut self.block);
        Some(Block { last_id: self.last_id.clone(), ..block })
    }
}

/// An event is longer than the reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {bytes_max} bytes")]
pub struct TooLong {
    /// The limit.
    pub bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cursor, Data, Draft, Epoch, Event, EventId, EventType, Seq, Topic, sse};
    use proptest::prelude::*;

    fn parse(text: &[u8], cut: usize) -> Vec<Block> {
        let (mut parser, mut blocks) = (Parser::new(1 << 20), vec![]);
        for part in text.chunks(cut.max(1)) {
            parser.feed(part, |block| blocks.push(block)).unwrap();
        }
        blocks
    }

    #[test]
    fn the_standards_examples() {
        let text = b"\xef\xbb\xbf: a comment\r\rdata:YHOO\rdata: +2\r\n\r\nid: 1\nid\ndata\n\nevent: x\nretry: 10\n: c\nfoo: bar\ndata:  two\n\ndata: cut";
        for cut in 1..40 {
            let blocks = parse(text, cut);
            let data: Vec<_> = blocks.iter().map(|block| block.data.as_deref()).collect();
            assert_eq!(data, [None, Some("YHOO\n+2"), Some(""), Some(" two")]);
            assert_eq!((blocks[3].kind.as_deref(), blocks[3].retry_ms), (Some("x"), Some(10)));
        }
    }

    #[test]
    fn an_id_stays_until_the_next() {
        let blocks = parse(b"id: #a\n\ndata: 1\n\nid: b\0\ndata: 2\n\nid:\ndata: 3\n\n", 3);
        let ids: Vec<_> = blocks.iter().map(|block| &block.last_id[..]).collect();
        assert_eq!(ids, ["#a", "#a", "#a", ""]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::new(10);
        assert_eq!(parser.feed(b"data: 0123456789", |_| ()), Err(TooLong { bytes_max: 10 }));
        let mut parser = Parser::new(10);
        let endless = b"data: 1\n".repeat(10);
        assert!(parser.feed(&endless, |_| ()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_published(text in "\\PC*|[a\\r\\n:\u{2028} ]*", binary: bool, cut in 1usize..20) {
            let data = if binary { Data::Binary(text.clone().into()) } else { Data::text(&text) };
            let mut draft = Draft::new(vec![Topic::new("a;b c%").unwrap()], data.clone()).unwrap();
            draft.id = Some(EventId::new("an id: with #").unwrap());
            draft.kind = Some(EventType::new("a type").unwrap());
            let event = Event { cursor: Cursor { epoch: Epoch::from_bits(1), seq: Seq(9) }, at_ms: 5, draft };
            for (control, text) in [(false, sse::event(&event)), (true, sse::event_with_control_id(&event))] {
                let blocks = parse(&text, cut);
                prop_assert_eq!(blocks.len(), 1);
                prop_assert_eq!(blocks[0].data.as_deref().unwrap(), &*data.to_sse_text());
                prop_assert_eq!(blocks[0].kind.as_deref(), Some("a type"));
                if control {
                    let id = sse::ControlId::parse(&blocks[0].last_id).unwrap();
                    prop_assert_eq!(id, sse::ControlId { cursor: event.cursor, at_ms: Some(5), topic: Some("a;b c%".into()),
                        binary, publisher: Some("an id: with #".into()) });
                } else {
                    prop_assert_eq!(&blocks[0].last_id, "an id: with #");
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256), cut in 1usize..20) {
            parse(&bytes, cut);
        }
    }
}
