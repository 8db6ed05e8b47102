//! More history than the hub may hold in memory.

use std::time::Duration;

use fanwire_client::{Connection, HttpVersion, Item, Publication, Publisher};
use fanwire_protocol::LastEventId;
use fanwire_tests::{HubProcess, Way, is_full, soon};

/// What a hub may hold that streams history to a few readers, whatever the history's size: the store's cache of 64 MiB, what is under way
/// to each reader, what the allocator keeps of it, and the program itself.
const RESIDENT_KIB_MAX: u64 = 256 * 1024;
const EVENT_BYTES: usize = 256 * 1024;
/// What the hub takes in one request.
const BATCH_EVENTS: usize = 24;

#[tokio::test]
async fn history_beyond_memory_is_streamed_at_its_readers_pace() {
    let data = tempfile::tempdir().unwrap();
    let mut hub = HubProcess::start(data.path(), &["--history-bytes-max", "10GB"]);
    let events = if is_full() { 8000 } else { 1600 };
    let mut publisher = Publisher::new(hub.options(Way::SseH1), HttpVersion::H1);
    for first in (0..events).step_by(BATCH_EVENTS) {
        let batch = (first..events.min(first + BATCH_EVENTS)).map(|number| Publication::text("t", text(number)));
        publisher.publish_batch(&batch.collect::<Vec<_>>()).await.unwrap();
    }
    // Only what reading takes is to be counted.
    hub.terminate();
    assert!(hub.ended().await.success());
    hub.again();
    let before_kib = hub.resident_peak_kib();
    let readers = [(Way::SseH1, 0), (Way::WebTransport, 0), (Way::SseH2Tls, 1)];
    let readers = readers.map(|(way, pause_ms)| {
        let options = hub.options(way).topic("t").unwrap().last_event_id(LastEventId::Earliest);
        tokio::spawn(async move {
            let mut connection = soon(Connection::connect(way.transport(), &options)).await.unwrap();
            let mut next = 0;
            while next < events {
                if let Item::Event(event) = soon(connection.next()).await.unwrap() {
                    assert!(event.event.draft.data.bytes() == text(next).as_bytes(), "{way:?}: not event {next}");
                    next += 1;
                    // Some take their time, and every so often a break.
                    let pause_ms = if pause_ms > 0 && next % 400 == 0 { 1000 } else { pause_ms };
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            }
        })
    });
    for reader in readers {
        reader.await.unwrap();
    }
    let (peak_kib, history_kib) = (hub.resident_peak_kib(), (events * EVENT_BYTES / 1024) as u64);
    eprintln!(
        "{history_kib} KiB of history to three readers: {before_kib} KiB resident before, {peak_kib} KiB at the most"
    );
    assert!(peak_kib < RESIDENT_KIB_MAX, "{peak_kib} KiB resident");
    assert!(history_kib > RESIDENT_KIB_MAX * 3 / 2, "the history would fit");
}

fn text(number: usize) -> String {
    format!("{number:08}").repeat(EVENT_BYTES / 8)
}
