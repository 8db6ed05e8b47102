//! Whole requests and connections, against a hub: each gets its answer, and nobody else notices.

use std::{collections::HashMap, time::Duration};

use fanwire::hub::{Limits, Publication, publication_from_json};
use fanwire_protocol::{Cursor, Draft, Event, sse};
use fanwire_tests::{
    Answer, Ask, TestHub, Version, panics,
    raw_http3::{RawHttp3, frame},
    soon, watch_for_panics,
};
use serde_json::{Value, json};

use crate::{fuzz, input::Choices};

#[test]
fn each_line_of_a_batch_is_published_or_refused_alone() {
    let seeds: [&[u8]; 6] = [
        b"{\"topic\": \"a\", \"data\": \"x\"}\n\n  \r\n{\"topic\": [\"a\", \"b\"], \"id\": \"1\", \"type\": \"t\"}\n",
        b"{\"topic\": \"a\", \"data\": {\"n\": 1}, \"private\": true, \"retry\": 5}\r\n{\"topic\": \"\"}",
        b"{\"topic\": \"a\", \"data_base64\": \"AAEC/w==\"}\n[1]\nnull\n{}",
        b"{\"topic\": \"a\", \"idempotency_key\": \"k\"}\n{\"topic\": \"a\", \"id\": \"#1\"}\n",
        b"{\"topic\": \"a\", \"idempotency_key\": \"j\", \"private\": true}\n{\"topic\": \"a\", \"idempotency_key\": \"j\", \"private\": true, \"data\": 1}\n",
        b"{\"topic\": \"/.well-known/mercure/x\"}\n{\"topic\": \"a\\u0000\"}\n\xff\n",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    watch_for_panics();
    let limits = Limits::default();
    // One on which an input failed isn't used again.
    let mut standing = None;
    fuzz(bolero::check!(), &seeds, |body, choices| {
        let Standing { hub, mut feed, mut last, mut by_key } =
            standing.take().unwrap_or_else(|| runtime.block_on(Standing::new()));
        let version = if choices.among(0..=3) > 0 { Version::H1 } else { Version::H2c };
        let ask = Ask::post("application/x-ndjson", body.to_vec());
        let answer = runtime.block_on(ask.whole(version, &hub));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
        let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
        let text = answer.text();
        let mut heard = vec![];
        let outcomes: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(outcomes.len(), lines.len(), "{text}");
        for ((index, line), outcome) in lines.into_iter().zip(outcomes) {
            match publication_from_json(line, &limits) {
                Ok(Publication { draft, key }) => {
                    match key.as_ref().and_then(|key| by_key.get(&key.text)) {
                        Some((event, first)) if *event == draft => {
                            let again = (outcome["repeated"].as_bool(), outcome["cursor"].as_str());
                            assert_eq!(again, (Some(true), Some(&**first)), "{outcome}");
                            continue;
                        }
                        Some(_) => {
                            assert_eq!(outcome["error"]["code"], "idempotency_key_reused", "{outcome}");
                            continue;
                        }
                        None => assert!(outcome["repeated"].is_null(), "{outcome}"),
                    }
                    let cursor: Cursor = outcome["cursor"].as_str().unwrap().parse().unwrap();
                    by_key.extend(key.map(|key| (key.text, (draft.clone(), cursor.to_string()))));
                    assert_eq!(cursor.seq.0, last + 1, "what is refused takes no number: {outcome}");
                    last = cursor.seq.0;
                    let event = Event { cursor, at_ms: 0, draft };
                    assert_eq!(outcome["id"], event.public_id());
                    if !event.draft.private {
                        heard.extend_from_slice(&sse::event(&event));
                    }
                }
                Err(refused) => {
                    let said = (&outcome["line"], &outcome["error"]["code"]);
                    assert_eq!(said, (&json!(index + 1), &json!(refused.code)));
                }
            }
        }
        let got = runtime.block_on(next(&mut feed, heard.len()));
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&heard));
        assert_eq!(panics(), [] as [&str; 0]);
        // Keys are kept with their events, and not for ever.
        standing = (last < 1000).then_some(Standing { hub, feed, last, by_key });
    });
}

/// A hub, one who hears all of it, the number of its last event, and which events have a key.
struct Standing {
    hub: TestHub,
    feed: Answer,
    last: u64,
    by_key: HashMap<String, (Draft, String)>,
}

impl Standing {
    async fn new() -> Self {
        let hub = TestHub::with(|config| config.limits.heartbeat_default = Duration::from_secs(24 * 3600));
        let mut feed = Ask::get("/events?match=*").over(Version::H1, &hub).await;
        feed.until(": fanwire\n").await;
        Self { hub, feed, last: 0, by_key: HashMap::new() }
    }
}

/// What is next on a feed: so many bytes, and whatever else came with them.
async fn next(feed: &mut Answer, bytes: usize) -> Vec<u8> {
    let mut got = vec![];
    while got.len() < bytes {
        got.extend_from_slice(&soon(feed.piece()).await.expect("a feed that goes on"));
    }
    got
}

#[test]
fn whatever_comes_on_a_quic_connection_is_its_own_business() {
    let publish = frame(0x13, br#"{"request_id": 1, "topic": "a", "data": "x"}"#);
    let seeds: [&[u8]; 8] = [
        &publish,
        b"\x12\x2b{\"request_id\": 2, \"match_urlpattern\": [\"/:a\"]}",
        b"\x00\x0b\x68\x43\x07\0\0\0\x07bye\x00\x03\x40\x99\x00",
        b"\x01\x0f\0\0\xd1\xd7\x50\x09localhost\xc1\x00\x04body\x00\x00",
        b"\x04\x04\x08\x01\x33\x01\x07\x01\0\x0d\x01\x07",
        b"\x02\x20\x3f\x45\x41a\x01b\x80\x03\x81",
        b"\x40\x41\x04\x10\x02{}\x40\x54\x04",
        b"\x21\x03abc\xc0\0\0\0\0\0\0\x40\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hub = runtime.block_on(async { TestHub::start() });
    watch_for_panics();
    let mut connection = None;
    fuzz(bolero::check!(), &seeds, |bytes, choices| {
        runtime.block_on(async {
            let http3 = match connection.take() {
                Some(http3) => http3,
                None => RawHttp3::connect(&hub).await,
            };
            if let Some(http3) = throw(http3, bytes, choices).await {
                connection = Some(http3);
            }
            let answer = Ask::get("/livez").whole(Version::H1, &hub).await;
            assert_eq!(answer.status, 200);
        });
        assert_eq!(panics(), [] as [&str; 0]);
    });
}

/// Writes bytes somewhere on a connection; gives it back if it is still one.
async fn throw(mut http3: RawHttp3, bytes: &[u8], choices: &mut Choices) -> Option<RawHttp3> {
    let wait = Duration::from_millis(20);
    let session = |http3: &RawHttp3| {
        let authority = http3.authority.clone();
        vec![
            (":method", "CONNECT".to_owned()),
            (":protocol", "webtransport".to_owned()),
            (":scheme", "https".to_owned()),
            (":authority", authority),
            (":path", "/events?topic=a".to_owned()),
        ]
    };
    let thrown = async {
        match choices.among(0..=5) {
            0 => http3.control.write_all(bytes).await.ok()?,
            1 => {
                let (mut send, mut recv) = http3.connection.open_bi().await.ok()?;
                send.write_all(bytes).await.ok()?;
                let _ = send.finish();
                let _ = recv.read_to_end(64 * 1024).await;
            }
            2 => {
                let mut send = http3.connection.open_uni().await.ok()?;
                send.write_all(bytes).await.ok()?;
                let _ = if choices.bool() { send.finish() } else { send.reset(quinn::VarInt::from_u32(9)) };
            }
            3 => http3.connection.send_datagram(bytes.to_vec().into()).ok()?,
            on => {
                let fields = session(&http3);
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (mut connect, _recv) = http3.try_request(&fields).await?;
                if on == 4 {
                    // Capsules, or not.
                    connect.write_all(bytes).await.ok()?;
                } else {
                    let id = quinn::VarInt::from(connect.id()).into_inner();
                    let (mut send, _recv) = http3.connection.open_bi().await.ok()?;
                    let mut stream = vec![0x40, 0x41];
                    fanwire_protocol::frame::put_varint(&mut stream, id);
                    stream.extend_from_slice(bytes);
                    send.write_all(&stream).await.ok()?;
                    let _ = send.finish();
                }
                let _ = connect.reset(quinn::VarInt::from_u32(0x10c));
            }
        }
        Some(())
    };
    // What the hub doesn't answer is left behind.
    let is_open = tokio::time::timeout(wait, thrown).await.is_ok_and(|thrown| thrown.is_some());
    (is_open && http3.connection.close_reason().is_none()).then_some(http3)
}
