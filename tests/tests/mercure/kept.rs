//! How long it is kept who was subscribed.

use fanwire_client::{HttpVersion, Item, Publication, Publisher};
use fanwire_protocol::LastEventId;
use fanwire_tests::{HubProcess, ISSUER, RESOURCE, Way, soon};

use crate::subscriptions::watcher;

#[tokio::test]
async fn events_about_subscriptions_have_a_class_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let secret = "a secret of the tests, long enough to be one";
    let flags = ["--subscriptions", "--allow-anonymous", "--resource", RESOURCE, "--token-issuer", ISSUER.name];
    let flags = [&flags[..], &["--token-secret", secret, "--history-events-max", "2"]].concat();
    let hub = HubProcess::start(directory.path(), &flags);
    let pattern = "/.well-known/mercure/subscriptions/exact/*";
    let watching = || {
        let mut options = hub.options(Way::SseH1).pattern(pattern).unwrap().pattern("x").unwrap().token(watcher());
        options.last_event_id = Some(LastEventId::Earliest);
        options
    };
    let mut watcher = Way::SseH1.connect(&watching()).await;
    let _feed = Way::SseH1.connect(&hub.options(Way::SseH1).topic("one").unwrap()).await;
    let joined = loop {
        if let Item::Event(event) = soon(watcher.next()).await.unwrap() {
            break event.event;
        }
    };
    let mut publisher = Publisher::new(hub.options(Way::SseH1).token(ISSUER.token(&["*"], &[])), HttpVersion::H1);
    for number in 0..20 {
        publisher.publish(&Publication::text("x", number.to_string())).await.unwrap();
    }
    // Of everything else two are kept; of this, all.
    let mut late = Way::SseH1.connect(&watching()).await;
    let mut told = vec![];
    while told.last().is_none_or(|event: &fanwire_protocol::Event| event.draft.data.bytes() != "19") {
        if let Item::Event(event) = soon(late.next()).await.unwrap() {
            told.push(event.event);
        }
    }
    assert_eq!((told.len(), &told[0]), (3, &joined), "{told:?}");
}
