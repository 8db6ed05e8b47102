//! From frames to items. [PROTOCOL §5.2]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use fanwire_protocol::{
    Epoch,
    frame::{self, Decoder, Frame, Malformed},
    message::{Gap, Hello},
};

use crate::{FeedEvent, Item, ReceiveError};

/// Reads one feed.
#[derive(Debug)]
pub(crate) struct Reader {
    decoder: Decoder,
    epoch: Option<Epoch>,
    retry: Option<Duration>,
}

impl Reader {
    pub(crate) fn new(event_bytes_max: usize) -> Self {
        Self { decoder: Decoder::new(event_bytes_max), epoch: None, retry: None }
    }

    /// Takes bytes in and puts what they complete at the end of `items`, as far as it is sound.
    pub(crate) fn feed(&mut self, bytes: &Bytes, items: &mut VecDeque<Item>) -> Result<(), ReceiveError> {
        self.decoder.feed(bytes);
        while let Some(frame) = self.decoder.next()? {
            items.extend(self.item(frame)?);
        }
        Ok(())
    }

    /// Whether the feed may end here.
    pub(crate) fn is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    /// The last `retry` of an event.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn item(&mut self, frame: Frame) -> Result<Option<Item>, ReceiveError> {
        let item = item(frame, &mut self.epoch)?;
        if let Some(Item::Event(event)) = &item {
            self.retry = event.event.draft.retry.or(self.retry);
        }
        Ok(item)
    }
}

/// Reads a frame of a feed; none of a type that isn't known. HELLO and GAP say of which log the feed is.
pub(super) fn item(frame: Frame, epoch: &mut Option<Epoch>) -> Result<Option<Item>, ReceiveError> {
    let payload = frame.payload;
    Ok(Some(match frame.kind {
        frame::EVENT => {
            let epoch = epoch.ok_or(Malformed("an EVENT before HELLO"))?;
            let frame::FeedEvent { prev, event } = frame::read_event(epoch, payload)?;
            Item::Event(FeedEvent { prev: Some(prev), event })
        }
        frame::HELLO => {
            let hello: Hello = json("HELLO", &payload)?;
            *epoch = Some(hello.cursor.epoch);
            Item::Hello(hello)
        }
        frame::GAP => {
            let gap: Gap = json("GAP", &payload)?;
            *epoch = Some(gap.cursor.epoch);
            Item::Gap(gap)
        }
        frame::CHANGED => Item::Changed(json("CHANGED", &payload)?),
        frame::PING => Item::Ping(json("PING", &payload)?),
        frame::BYE => Item::Bye(json("BYE", &payload)?),
        _ => return Ok(None),
    }))
}

fn json<T: serde::de::DeserializeOwned>(name: &'static str, payload: &[u8]) -> Result<T, ReceiveError> {
    serde_json::from_slice(payload).map_err(|source| ReceiveError::Message { name, source })
}
