//! From an event stream's bytes to items.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use fanwire_protocol::{
    Data, Draft, Event, EventId, EventType, Topic,
    frame::Malformed,
    message::{Message, SSE_EVENT_TYPE},
    sse::{Block, ControlId, Parser},
};

use crate::{FeedEvent, Item, PlainEvent, ReceiveError};

/// Reads one feed.
#[derive(Debug)]
pub(crate) struct Reader {
    parser: Parser,
    blocks: Vec<Block>,
    control: bool,
    last_event_id: String,
    retry: Option<Duration>,
}

impl Reader {
    pub(crate) fn new(control: bool, event_bytes_max: usize) -> Self {
        Self {
            parser: Parser::new(event_bytes_max),
            blocks: Vec::new(),
            control,
            last_event_id: String::new(),
            retry: None,
        }
    }

    /// Takes bytes in and puts what they complete at the end of `items`, as far as it is sound.
    pub(crate) fn feed(&mut self, bytes: &Bytes, items: &mut VecDeque<Item>) -> Result<(), ReceiveError> {
        let Self { parser, blocks, .. } = self;
        let fed = parser.feed(bytes, |block| blocks.push(block));
        for block in std::mem::take(&mut self.blocks) {
            items.extend(self.item(block)?);
        }
        Ok(fed?)
    }

    /// As an EventSource has it.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The last `retry` that came.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn item(&mut self, block: Block) -> Result<Option<Item>, ReceiveError> {
        let Block { last_id, kind, data, retry_ms } = block;
        let retry = retry_ms.map(Duration::from_millis);
        self.retry = retry.or(self.retry);
        self.last_event_id.clone_from(&last_id);
        let Some(data) = data else { return Ok(None) };
        if !self.control {
            return Ok(Some(Item::Plain(PlainEvent { id: last_id, kind, data })));
        }
        if kind.as_deref() == Some(SSE_EVENT_TYPE) {
            return Ok(message(&data)?.map(Item::from));
        }
        let event = event(&last_id, kind.as_deref(), data, retry)?;
        Ok(Some(Item::Event(FeedEvent { prev: None, event })))
    }
}

/// A control message; none if its name isn't known. [PROTOCOL §3]
fn message(json: &str) -> Result<Option<Message>, ReceiveError> {
    let bad = |name| move |source| ReceiveError::Message { name, source };
    let wrapped: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(bad("control"))?;
    for (name, value) in wrapped {
        return Ok(Some(match &*name {
            "hello" => Message::Hello(serde_json::from_value(value).map_err(bad("hello"))?),
            "gap" => Message::Gap(serde_json::from_value(value).map_err(bad("gap"))?),
            "ping" => Message::Ping(serde_json::from_value(value).map_err(bad("ping"))?),
            "changed" => Message::Changed(serde_json::from_value(value).map_err(bad("changed"))?),
            "bye" => Message::Bye(serde_json::from_value(value).map_err(bad("bye"))?),
            _ => continue,
        }));
    }
    Ok(None)
}

/// An event, from its control id and its fields. [PROTOCOL §4.2]
fn event(id: &str, kind: Option<&str>, data: String, retry: Option<Duration>) -> Result<Event, Malformed> {
    let id = ControlId::parse(id).ok_or(Malformed("an event without a cursor: does the hub know control=1?"))?;
    let topic = id.topic.as_deref().ok_or(Malformed("an event without a topic"))?;
    let topic = Topic::of_event(topic).map_err(|_| Malformed("an event with a topic that is none"))?;
    let data = if id.binary {
        Data::from_base64(&data).map_err(|_| Malformed("an event whose binary isn't base64"))?
    } else {
        // A parsed data field has no CR.
        Data::from_utf8(data.into()).ok_or(Malformed("an event whose text isn't UTF-8"))?
    };
    let mut draft = Draft::new(vec![topic], data).map_err(|_| Malformed("an event without a topic"))?;
    draft.id =
        id.publisher.as_deref().map(EventId::new).transpose().map_err(|_| Malformed("an event with a bad id"))?;
    draft.kind = kind.map(EventType::of_event).transpose().map_err(|_| Malformed("an event with a bad type"))?;
    draft.retry = retry;
    Ok(Event { cursor: id.cursor, at_ms: id.at_ms.unwrap_or_default(), draft })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(control: bool, text: &str) -> (Reader, VecDeque<Item>, Result<(), ReceiveError>) {
        let (mut reader, mut items) = (Reader::new(control, 1 << 20), VecDeque::new());
        let result =
            text.as_bytes().chunks(3).try_for_each(|part| reader.feed(&Bytes::copy_from_slice(part), &mut items));
        (reader, items, result)
    }

    #[test]
    fn unknown_messages_and_members_are_skipped() {
        let text = "retry: 2000\n: hi\nevent: fanwire\ndata: {\"weather\": 1}\n\nevent: fanwire\ndata: {\"weather\": 1, \"ping\": {\"watermark\": \"#0a1b2c3d4e:42\", \"x\": 1}}\n\n";
        let (reader, items, result) = read(true, text);
        result.unwrap();
        assert!(items.len() == 1 && matches!(items[0], Item::Ping(_)));
        assert_eq!(reader.retry(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_breaks_the_protocol_is_an_error_after_what_was_sound() {
        let good = "id: #0a1b2c3d4e:1;t=1;n=a\ndata: x\n\n";
        for bad in [
            "data: no id of its own\nid:\n\n",
            "id: mine\ndata: x\n\n",
            "id: #0a1b2c3d4e:2;t=1\ndata: x\n\n",
            "id: #0a1b2c3d4e:2;n=a;b\ndata: ?\n\n",
            "event: fanwire\ndata: {\"ping\": {}}\n\n",
            "event: fanwire\ndata: x\n\n",
        ] {
            let (_, items, result) = read(true, &format!("{good}{bad}"));
            assert!(result.is_err() && items.len() == 1, "{bad}");
        }
    }

    #[test]
    fn a_plain_feed_has_raw_ids() {
        let (reader, items, result) =
            read(false, "id: a\n\nevent: fanwire\ndata: {}\n\nid: b\ndata: 1\ndata: 2\n\nid: c\n\n");
        result.unwrap();
        let plain = |id: &str, kind: Option<&str>, data: &str| {
            Item::Plain(PlainEvent { id: id.into(), kind: kind.map(Into::into), data: data.into() })
        };
        assert_eq!(items, [plain("a", Some("fanwire"), "{}"), plain("b", None, "1\n2")]);
        assert_eq!(reader.last_event_id(), "c");
    }
}
