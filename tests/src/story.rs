//! What a subscriber was told, to be compared.

use fanwire_client::{Connection, Item};
use fanwire_protocol::{
    Event, Seq,
    message::{Gap, Hello},
};

use crate::soon;

/// What a user sees of an event: id, type, topic, bytes, and whether they are binary.
pub fn seen(event: &Event) -> (String, Option<String>, String, Vec<u8>, bool) {
    let draft = &event.draft;
    (
        event.public_id(),
        draft.kind.as_ref().map(|kind| kind.as_str().to_owned()),
        draft.canonical().as_str().to_owned(),
        draft.data.bytes().to_vec(),
        draft.data.is_binary(),
    )
}

/// Everything a connection has brought so far, in order.
#[derive(Debug, Default)]
pub struct Story {
    /// The beginning.
    pub hello: Option<Hello>,
    /// The events.
    pub events: Vec<Event>,
    /// The gaps.
    pub gaps: Vec<Gap>,
}

impl Story {
    /// Reads until so many events are there. Anything but events, gaps, pings and the hello is a failure.
    pub async fn read(connection: &mut Connection, count: usize) -> Self {
        let mut story = Self::default();
        story.read_more(connection, count).await;
        story
    }

    /// Reads until `count` events are there in all.
    pub async fn read_more(&mut self, connection: &mut Connection, count: usize) {
        while self.events.len() < count {
            // Pings come also where no event ever does.
            soon(self.read_past_pings(connection)).await;
        }
    }

    async fn read_past_pings(&mut self, connection: &mut Connection) {
        loop {
            match connection.next().await.expect("the feed goes on") {
                Item::Hello(hello) => self.hello = Some(hello),
                Item::Event(event) => self.events.push(event.event),
                Item::Gap(gap) => self.gaps.push(gap),
                Item::Ping(_) => continue,
                other => panic!("{other:?} after {} events", self.events.len()),
            }
            return;
        }
    }

    /// The events' texts.
    pub fn texts(&self) -> Vec<&str> {
        self.events.iter().map(|event| std::str::from_utf8(event.draft.data.bytes()).expect("text")).collect()
    }

    /// The events' numbers, as [`crate::TestHub::publish_numbers`] made them.
    pub fn numbers(&self) -> Vec<usize> {
        self.texts().iter().map(|text| text.parse().expect("a number")).collect()
    }

    /// Checks that what is missing between `after` and `upto` lies in gaps, and that nothing in a gap was delivered.
    pub fn check_gaps(&self, after: u64, upto: u64) {
        for seq in after + 1..=upto {
            let delivered = self.events.iter().any(|event| event.seq() == Seq(seq));
            let lost = self.gaps.iter().any(|gap| gap.contains(Seq(seq)));
            assert!(delivered != lost, "{seq}: delivered {delivered}, in a gap {lost}");
        }
    }
}
