//! A feed in datagrams: what comes in which order, and what is dropped.

use fanwire_client::{Connection, Delivery, Item, ReceiveError, Transport};
use fanwire_protocol::message::{Bye, ByeCode, Verdict};

use crate::{
    hub::{Hub, Say, Script, Serve, Then},
    sample::{bye, changed, cursor, gap, hello, items, ping, says},
};

async fn read(datagrams: Vec<Vec<Say>>, stream: Vec<Say>) -> (Vec<Item>, ReceiveError, Connection) {
    let hub = Hub::saying(Serve::WebTransport, Script { datagrams, ..Script::feed(stream, Then::End) }).await;
    let options = hub.options().delivery(Delivery::Datagram);
    let mut connection = Connection::connect(Transport::WebTransport, &options).await.unwrap();
    assert_eq!(hub.seen()[0].value("delivery"), Some("datagram"));
    let mut items = Vec::new();
    loop {
        match connection.next().await {
            Ok(item) => items.push(item),
            Err(error) => return (items, error, connection),
        }
    }
}

#[tokio::test]
async fn datagrams_wait_for_history_and_what_is_older_than_what_came_is_dropped() {
    let datagrams =
        vec![vec![says(9, 10), says(10, 11)], vec![says(8, 9)], vec![], vec![says(14, 15)], vec![says(10, 11)]];
    let stream = [hello(3, Verdict::Resumed), says(3, 4), gap(5, 7), says(7, 8), ping(8)];
    let expected = [&stream[..], &[says(9, 10), says(10, 11), says(14, 15)]].concat();
    let (got, error, connection) = read(datagrams, stream.to_vec()).await;
    assert_eq!(got, items(&expected, true));
    assert!(matches!(error, ReceiveError::Ended), "{error:?}");
    assert_eq!(connection.cursor(), Some(cursor(15)), "the newest that came");
}

#[tokio::test]
async fn what_comes_on_the_stream_is_held_to_the_same() {
    let last = bye(Bye::retry(ByeCode::Drain, "", 1));
    let before = [hello(3, Verdict::Live), ping(3), says(3, 9)];
    let after = [changed(1, 9), says(9, 10), ping(12), last];
    let (got, error, connection) = read(vec![], [&before[..], &[says(5, 6)], &after].concat()).await;
    assert_eq!(got, items(&[&before[..], &after].concat(), true));
    assert!(matches!(error, ReceiveError::Ended));
    assert_eq!(connection.cursor(), Some(cursor(12)));
}

#[tokio::test]
async fn what_breaks_the_protocol_is_an_error_after_what_was_sound() {
    let stream = [hello(3, Verdict::Live), ping(3)];
    for bad in [ping(4), hello(3, Verdict::Live), Say::Raw(vec![1, 9, 9]), Say::Raw(vec![1, 2, 3, 4])] {
        let (got, error, _) = read(vec![vec![says(3, 4)], vec![bad.clone()]], stream.to_vec()).await;
        assert_eq!(got, items(&[&stream[..], &[says(3, 4)]].concat(), true), "{bad:?}");
        assert!(matches!(error, ReceiveError::Malformed(_)), "{bad:?}: {error:?}");
    }
    let (got, error, _) = read(vec![], vec![says(3, 4)]).await;
    assert_eq!((got, matches!(error, ReceiveError::Malformed(_))), (vec![], true), "{error:?}");
}
