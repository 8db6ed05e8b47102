//! Who is subscribed, in the words of Mercure 0.x: the events, and the list.

use fanwire_client::Token;
use fanwire_tests::{Answer, Ask, HubProcess, ISSUER, Story, TestHub, Version, Way, Whole, all, soon, tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const ALL: &str = "/.well-known/mercure/subscriptions";
/// As clients in the field have it.
const EVERY: &str = "/.well-known/mercure/subscriptions{/topic}{/subscriber}";
const CONTEXT: &str = "https://mercure.rocks/";

fn telling() -> TestHub {
    hub(|config| {
        config.subscriptions_max = Some(1_000);
        config.auth.allow_anonymous = true;
    })
}

fn watcher() -> String {
    bearer(&sign(&grants(&[], &[EVERY])))
}

async fn list(hub: &TestHub, version: Version, path: &str) -> Whole {
    Ask::get(path).header("authorization", watcher()).whole(version, hub).await
}

/// Asks until there are so many.
async fn listed(hub: &TestHub, path: &str, count: usize) -> Value {
    soon(async {
        loop {
            let answer = list(hub, Version::H1, path).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/ld+json"));
            let json = answer.json();
            if json["subscriptions"].as_array().unwrap().len() == count {
                return json;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
}

/// The next events about subscriptions that these selectors don't take.
async fn told(feed: &mut Answer, count: usize) -> Vec<Value> {
    let mut documents = Vec::new();
    while documents.len() < count {
        let text = feed.until("\n\n").await;
        assert!(!text.contains("event:"), "they have no type: {text}");
        for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let json: Value = serde_json::from_str(data).unwrap();
            assert_eq!((&json["@context"], &json["type"]), (&json!(CONTEXT), &json!("Subscription")));
            if json["topic"] != EVERY {
                documents.push(json);
            }
        }
    }
    documents
}

#[tokio::test]
async fn every_version_is_told_of_feeds_of_any_kind() {
    // What is told comes a second late: each version has a hub of its own, and all are waited for at once.
    all(Version::ALL.map(|version| async move {
        let hub = telling();
        let mut watcher = open(ask(&[EVERY]).header("authorization", watcher()), version, &hub).await;
        let payload = json!({ "user": "https://example.com/users/1", "groups": [1, 2] });
        let claims = json!({ "mercure": { "subscribe": [], "payload": payload } });
        let selectors = ["https://example.com/{selector}", "a"];
        let of_0x = open(ask(&selectors).header("authorization", bearer(&sign(&claims))), version, &hub).await;
        let mut told_of = told(&mut watcher, 2).await;
        told_of.sort_by_key(|document| document["topic"].to_string());
        for (document, topic) in told_of.iter().zip(["a", "https://example.com/{selector}"]) {
            assert_eq!(
                (&document["topic"], &document["active"], &document["payload"]),
                (&json!(topic), &json!(true), &payload)
            );
        }
        assert_eq!(told_of[0]["subscriber"], told_of[1]["subscriber"]);
        let id = told_of[1]["id"].as_str().unwrap();
        let subscriber = told_of[1]["subscriber"].as_str().unwrap().replace(':', "%3A");
        assert_eq!(id, format!("{ALL}/https%3A%2F%2Fexample.com%2F%7Bselector%7D/{subscriber}"));
        // What the events tell, the list has.
        let mut one = list(&hub, version, id).await.json();
        assert!(one["lastEventID"].as_str().unwrap().starts_with('#'));
        one.as_object_mut().unwrap().remove("lastEventID");
        assert_eq!(one, told_of[1], "{version:?}");
        drop(of_0x);
        assert!(told(&mut watcher, 2).await.iter().all(|it| it["active"] == false), "{version:?}");
        assert_eq!(list(&hub, version, id).await.status.as_u16(), 404);
        // A feed of 1.0 that has asked for a topic is told of; one that asks for a URL pattern can't be.
        let mut options = Way::WebTransport.options(&hub).pattern("/b/:id").unwrap().topic("b").unwrap();
        options.token = Some(ISSUER.token(&[], &[]));
        let of_1 = Way::WebTransport.connect(&options).await;
        let begun = told(&mut watcher, 1).await;
        assert_eq!((&begun[0]["topic"], &begun[0]["active"]), (&json!("b"), &json!(true)), "{version:?}");
        drop(of_1);
        let ended = told(&mut watcher, 1).await;
        assert_eq!((&ended[0]["topic"], &ended[0]["active"]), (&json!("b"), &json!(false)), "{version:?}");
    }))
    .await;
}

#[tokio::test]
async fn the_list_is_json_ld_with_the_id_to_go_on_from() {
    let hub = telling();
    let empty = list(&hub, Version::H1, ALL).await.json();
    let expected = json!({ "@context": CONTEXT, "id": ALL, "type": "Subscriptions", "lastEventID": "earliest", "subscriptions": [] });
    assert_eq!(empty, expected);
    let first = open(ask(&["https://example.com/{x}", "a"]), Version::H1, &hub).await;
    let second = open(ask(&["a", "*"]), Version::H2Tls, &hub).await;
    let all = listed(&hub, ALL, 4).await;
    assert_eq!((&all["@context"], &all["id"]), (&json!(CONTEXT), &json!(ALL)));
    for document in all["subscriptions"].as_array().unwrap() {
        assert!(document["@context"].is_null() && document["type"] == "Subscription" && document["active"] == true);
    }
    let of_template = format!("{ALL}/https%3A%2F%2Fexample.com%2F%7Bx%7D");
    for (path, count) in
        [(format!("{ALL}/a"), 2), (format!("{ALL}/%2A"), 1), (of_template.clone(), 1), (format!("{ALL}/b"), 0)]
    {
        assert_eq!(listed(&hub, &path, count).await["id"], json!(path));
    }
    for version in Version::ALL {
        let answer = list(&hub, version, ALL).await;
        let tag = answer.header("etag").to_owned();
        assert!(answer.header("link").contains("rel=\"mercure\""), "{version:?}");
        let again = Ask::get(ALL).header("authorization", watcher()).header("if-none-match", tag);
        assert_eq!(again.whole(version, &hub).await.status.as_u16(), 304, "{version:?}");
        // In the words of 1.0 it is where it was.
        let today =
            Ask::get("/events/subscriptions").header("authorization", bearer(ISSUER.token(&[], &["*"]).as_str()));
        let today = today.whole(version, &hub).await;
        assert_eq!(
            (today.header("content-type"), today.json()["type"].as_str()),
            ("application/json", Some("subscriptions"))
        );
        let deleted = Ask::get(of_template.clone()).method("DELETE".parse().unwrap()).whole(version, &hub).await;
        assert_eq!((deleted.status.as_u16(), deleted.header("allow")), (405, "GET, HEAD, OPTIONS"), "{version:?}");
    }
    // Nothing is missed behind the id of the list.
    drop((first, second));
    let id: String = url::form_urlencoded::byte_serialize(all["lastEventID"].as_str().unwrap().as_bytes()).collect();
    let later = ask(&[EVERY]);
    let later = Ask { path: format!("{}&lastEventID={id}", later.path), ..later }.header("authorization", watcher());
    let mut feed = open(later, Version::H1, &hub).await;
    assert!(told(&mut feed, 4).await.iter().all(|document| document["active"] == false));
}

#[tokio::test]
async fn only_those_who_are_granted_it_are_told() {
    let hub = telling();
    let feed = open(ask(&["a"]), Version::H1, &hub).await;
    let all = listed(&hub, ALL, 1).await;
    let one = all["subscriptions"][0]["id"].as_str().unwrap();
    let of_topic = "/.well-known/mercure/subscriptions/{topic}";
    for version in Version::ALL {
        for (path, granted, status) in [
            (ALL, None, 401),
            (ALL, Some(&[][..]), 403),
            (ALL, Some(&["*"]), 200),
            (ALL, Some(&[ALL]), 200),
            (ALL, Some(&[of_topic]), 403),
            ("/.well-known/mercure/subscriptions/a", Some(&[of_topic]), 200),
            (one, Some(&[of_topic]), 403),
            (one, Some(&["/.well-known/mercure/subscriptions/{topic}/{subscriber}"]), 200),
            (one, Some(&[one]), 200),
            (
                "/.well-known/mercure/subscriptions/a/urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6",
                Some(&["*"]),
                404,
            ),
            ("/.well-known/mercure/subscriptions/a/b/c", Some(&["*"]), 404),
        ] {
            let token = granted.map(|granted: &[&str]| sign(&grants(&["*"], granted)));
            // Whichever way it is shown.
            let in_query = token.as_ref().map(|token| Ask::get(format!("{path}?authorization={token}")));
            let in_header = token.map(|token| Ask::get(path).header("authorization", bearer(&token)));
            for ask in in_query.into_iter().chain([in_header.unwrap_or_else(|| Ask::get(path))]) {
                assert_eq!(ask.whole(version, &hub).await.status.as_u16(), status, "{version:?} {path} {granted:?}");
            }
        }
    }
    drop(feed);
    // Those who aren't granted the events don't get them.
    let mut stranger = open(ask(&["*"]), Version::H1, &hub).await;
    let watched = open(ask(&["b"]), Version::H1, &hub).await;
    listed(&hub, &format!("{ALL}/b"), 1).await;
    publish(&hub, &[("topic", "x"), ("data", "end")]).await;
    assert_eq!(data(&mut stranger).await, ["end"]);
    drop(watched);
    let off = super::hub(|_| ());
    assert_eq!(list(&off, Version::H1, ALL).await.status.as_u16(), 404, "it is off by default");
}

/// Whoever watches with 1.0 sees feeds of 0.x, templates by a type of their own.
#[tokio::test]
async fn feeds_of_0x_are_told_to_1_0_as_well() {
    let hub = telling();
    let token: Token =
        ISSUER.token_with_patterns((&[], &[]), (&[], &["/.well-known/mercure/subscriptions/uritemplate/*"]));
    let options =
        Way::SseH1.options(&hub).pattern("/.well-known/mercure/subscriptions/uritemplate/*").unwrap().token(token);
    let mut watcher = Way::SseH1.connect(&options).await;
    soon(watcher.next()).await.unwrap();
    let feed = open(ask(&["/{b}"]), Version::H1, &hub).await;
    let story = Story::read(&mut watcher, 1).await;
    let json: Value = serde_json::from_slice(story.events[0].draft.data.bytes()).unwrap();
    assert_eq!((&json["match_type"], &json["match"]), (&json!("uritemplate"), &json!("/{b}")));
    drop(feed);
}

#[tokio::test]
async fn after_a_crash_what_was_active_is_told_to_be_over() {
    let directory = tempfile::tempdir().unwrap();
    let secret = std::str::from_utf8(SECRET).unwrap();
    let flags =
        ["--subscriptions", "--allow-anonymous", "--mercure-0x", "http", "--token-mercure-0x", "publish,subscribe"];
    let mut hub = HubProcess::start(directory.path(), &[&flags[..], &["--token-secret", secret]].concat());
    let token = sign(&grants(&[], &[EVERY]));
    // The events of one topic, up to so many.
    let told = async |hub: &HubProcess, count: usize| {
        let authority = hub.http_url().strip_prefix("http://").unwrap().strip_suffix("/events").unwrap().to_owned();
        let mut stream = tcp(authority.parse().unwrap()).await;
        let query = "topic=/.well-known/mercure/subscriptions/one/{subscriber}&lastEventID=earliest";
        let request = format!("GET {HUB}?{query}&authorization={token} HTTP/1.0\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while text.matches("\ndata: ").count() < count || !text.ends_with("\n\n") {
            let read = soon(stream.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "it ended with {text}");
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        let documents = text.lines().filter_map(|line| line.strip_prefix("data: "));
        documents.map(|json| serde_json::from_str(json).unwrap()).collect::<Vec<Value>>()
    };
    let feed = Way::SseH1.connect(&hub.options(Way::SseH1).topic("one").unwrap()).await;
    let before = told(&hub, 1).await;
    assert_eq!((before.len(), &before[0]["topic"], &before[0]["active"]), (1, &json!("one"), &json!(true)));
    hub.crash();
    drop(feed);
    hub.again();
    let after = told(&hub, 2).await;
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    let ended = json!(false);
    assert_eq!(
        (&after[1]["id"], &after[1]["type"], &after[1]["active"]),
        (&before[0]["id"], &before[0]["type"], &ended)
    );
}
