//! The control stream of a WebTransport session.

use fanwire_client::{ControlError, Item, Publication};
use fanwire_protocol::Matcher;
use fanwire_tests::{Story, TestHub, Way, soon};

#[tokio::test]
async fn topics_are_added_and_removed_from_a_number_on() {
    let hub = TestHub::start();
    hub.publish_numbers("b", 0..3).await;
    let mut feed = Way::WebTransport.subscribe(&hub, &["a"]).await;
    let control = feed.control().expect("a session has a control stream");
    let b = [Matcher::exact("b").unwrap()];
    let from = soon(control.subscribe(&b)).await.unwrap();
    hub.publish_numbers("b", 3..5).await;
    hub.publish_numbers("a", 5..6).await;
    let mut changed = None;
    let mut numbers = vec![];
    while numbers.len() < 3 {
        match soon(feed.next()).await.unwrap() {
            Item::Changed(change) => changed = Some(change.from_seq),
            Item::Event(event) => {
                assert!(changed.is_some() && event.event.seq() > from);
                numbers.push(std::str::from_utf8(event.event.draft.data.bytes()).unwrap().to_owned());
            }
            _ => {}
        }
    }
    assert_eq!(
        (numbers, changed),
        (["3", "4", "5"].map(str::to_owned).to_vec(), Some(from.0)),
        "adding a topic replays nothing"
    );
    soon(control.unsubscribe(&b)).await.unwrap();
    hub.publish_numbers("b", 6..8).await;
    hub.publish_numbers("a", 8..9).await;
    loop {
        match soon(feed.next()).await.unwrap() {
            Item::Event(event) => break assert_eq!(event.event.draft.data.bytes(), "8"),
            Item::Changed(_) | Item::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_publishes_and_gets_answers() {
    let hub = TestHub::start();
    let mut feed = Way::WebTransport.subscribe(&hub, &["a"]).await;
    let control = feed.control().unwrap();
    let published =
        soon(control.publish(&Publication { id: Some("mine".into()), ..Publication::text("a", "x") })).await.unwrap();
    assert_eq!(published.id, "mine");
    let story = Story::read(&mut feed, 1).await;
    assert_eq!((story.texts(), Some(story.events[0].cursor)), (vec!["x"], published.cursor));
    let refused = soon(control.publish(&Publication::text("*", "x"))).await;
    assert!(matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "reserved_topic"), "{refused:?}");
    let refused =
        soon(control.subscribe(&(0..101).map(|i| Matcher::exact(&i.to_string()).unwrap()).collect::<Vec<_>>())).await;
    assert!(matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "too_many_matchers"), "{refused:?}");
    soon(control.publish(&Publication::text("a", "still there"))).await.unwrap();
}

#[tokio::test]
async fn a_change_of_a_feed_that_catches_up_holds_from_its_number_on() {
    let hub = TestHub::start();
    hub.publish_numbers("a", 0..2_000).await;
    let mut feed = Way::WebTransport.resume(&hub, &["a"], "earliest").await;
    let control = feed.control().unwrap();
    hub.publish_numbers("b", 2_000..2_100).await;
    let b = [Matcher::exact("b").unwrap()];
    let change = control.subscribe(&b);
    let (from, story) = tokio::join!(change, async {
        let mut numbers = vec![];
        while numbers.len() < 2_000 {
            if let Item::Event(event) = soon(feed.next()).await.unwrap() {
                numbers.push(std::str::from_utf8(event.event.draft.data.bytes()).unwrap().parse::<usize>().unwrap());
            }
        }
        numbers
    });
    // Where the feed's shard has got to, which may be a little behind the log.
    assert!((2_000..=2_100).contains(&from.unwrap().0));
    assert_eq!(story, (0..2_000).collect::<Vec<_>>());
}
