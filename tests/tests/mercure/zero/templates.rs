//! URI templates as selectors: of subscribers and of tokens.

use fanwire_tests::Version;

use super::*;

const BOOKS: &str = "https://example.com/books/{id}";
const BOOK: &str = "https://example.com/books/1";

/// What a subscriber with these selectors, and these in its token, sees of some events, live and when it comes back.
async fn seen(
    hub: &TestHub,
    version: Version,
    selectors: &[&str],
    granted: &[&str],
    events: &[&[(&str, &str)]],
) -> Vec<String> {
    let token = bearer(&sign(&grants(&[], granted)));
    let selectors = [selectors, &["end"]].concat();
    let start = publish(hub, &[("topic", "start"), ("data", "")]).await;
    let mut feed = open(ask(&selectors).header("authorization", &token), version, hub).await;
    for event in events {
        publish(hub, event).await;
    }
    publish(hub, &[("topic", "end"), ("data", "end")]).await;
    let live = data(&mut feed).await;
    let again = ask(&selectors).header("authorization", &token).header("last-event-id", start);
    assert_eq!(
        data(&mut open(again, version, hub).await).await,
        live,
        "{version:?} {selectors:?}: history is as what was live"
    );
    live
}

#[tokio::test]
async fn a_template_takes_what_it_can_be_expanded_to_and_itself() {
    let hub = hub(|_| ());
    let public = [
        &[("topic", BOOK), ("data", "a book")][..],
        &[("topic", "https://example.com/books/1/2"), ("data", "no book")],
        &[("topic", BOOKS), ("data", "the template itself")],
        &[("topic", "x"), ("topic", BOOK), ("data", "an alternate topic")],
        &[("topic", "a{b"), ("data", "no template")],
    ];
    for version in Version::ALL {
        for (selectors, expected) in [
            (&[BOOKS][..], &["a book", "the template itself", "an alternate topic", "end"][..]),
            (
                &[BOOKS, BOOK, "*"],
                &["a book", "no book", "the template itself", "an alternate topic", "no template", "end"],
            ),
            (&["a{b"], &["no template", "end"]),
            (&["https://example.com{/x*}"], &["a book", "no book", "an alternate topic", "end"]),
            (&["{x}"], &["an alternate topic", "end"]),
        ] {
            assert_eq!(seen(&hub, version, selectors, &[], &public).await, expected, "{version:?} {selectors:?}");
        }
    }
}

#[tokio::test]
async fn a_template_in_a_token_grants_what_it_takes() {
    let hub = hub(|_| ());
    // The specification's own case: the second topic says whose the book is.
    let mine = "https://example.com/users/foo/?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1";
    let others = "https://example.com/users/bar/?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1";
    let events = [
        &[("topic", BOOK), ("topic", mine), ("data", "mine"), ("private", "on")][..],
        &[("topic", BOOK), ("topic", others), ("data", "another's"), ("private", "on")],
        &[("topic", BOOK), ("data", "nobody's"), ("private", "on")],
        &[("topic", BOOK), ("data", "everybody's")],
    ];
    for version in Version::ALL {
        let granted = ["https://example.com/users/foo/{?topic}"];
        assert_eq!(
            seen(&hub, version, &[BOOKS], &granted, &events).await,
            ["mine", "everybody's", "end"],
            "{version:?}"
        );
        let all = ["mine", "another's", "nobody's", "everybody's", "end"];
        assert_eq!(seen(&hub, version, &[BOOKS], &[BOOKS], &events).await, all, "{version:?}");
        assert_eq!(seen(&hub, version, &[BOOKS], &[], &events).await, ["everybody's", "end"], "{version:?}");
    }
    for (selectors, topics, status) in [
        (&[BOOKS][..], &[BOOK][..], 200),
        (&[BOOKS], &[BOOK, "https://example.com/books/2"], 200),
        (&[BOOKS], &[BOOK, "https://example.com/books/1/2"], 403),
        (&[BOOKS, "{+any}"], &[BOOK, "https://example.com/books/1/2"], 200),
        (&[BOOKS], &["https://evil.example/?https://example.com/books/1"], 403),
    ] {
        let fields: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", *topic)).collect();
        let answer = post(&hub, Version::H1, Some(&sign(&grants(selectors, &[]))), &fields).await;
        assert_eq!(answer.status.as_u16(), status, "{selectors:?} {topics:?}");
    }
}

#[tokio::test]
async fn what_costs_too_much_is_refused() {
    let hub = hub(|config| config.limits.patterns_max = 1);
    let token = sign(&grants(&[], &["*"]));
    let refused = async |selectors: &[&str], token: &str| {
        let answer = ask(selectors).header("authorization", bearer(token)).whole(Version::H1, &hub).await;
        (answer.status.as_u16(), answer.code())
    };
    assert_eq!(refused(&["{a:9999}"], &token).await, (400, "bad_matcher".to_owned()));
    assert_eq!(refused(&["{a}", "{b}"], &token).await, (503, "too_many_patterns".to_owned()));
    assert_eq!(refused(&["a"], &sign(&grants(&[], &["{a:9999}"]))).await, (401, "invalid_token".to_owned()));
    let many: Vec<String> = (0..101).map(|number| format!("{{v{number}}}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(refused(&["a"], &sign(&grants(&[], &many))).await, (401, "invalid_token".to_owned()));
    drop(open(ask(&["a"]).header("authorization", bearer(&sign(&grants(&[], &many[..100])))), Version::H1, &hub).await);
}

const TOPICS: [&str; 6] = ["books/1", "books/2", "books/1/2", "users/1", "users/1?topic=books%2F1", "books/{id}"];
const SELECTORS: [&str; 7] = ["*", "books/1", "books/{id}", "books/{+path}", "users/1{?topic}", "{kind}/{id}", "{x"];

/// What the selectors above take, in words of its own.
fn takes(selector: &str, topic: &str) -> bool {
    let below = |prefix: &str| topic.strip_prefix(prefix).is_some_and(|rest| !rest.contains(['/', '?', '{']));
    match selector {
        "*" => true,
        "books/{id}" => below("books/") || topic == selector,
        "books/{+path}" => topic.starts_with("books/") && !topic.contains('{'),
        "users/1{?topic}" => topic == "users/1" || topic == "users/1?topic=books%2F1",
        "{kind}/{id}" => below("books/") || below("users/"),
        exact => exact == topic,
    }
}

#[tokio::test]
async fn random_feeds_get_what_the_reference_says() {
    let hub = hub(|_| ());
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let version = Version::ALL[rng.usize(0..Version::ALL.len())];
        let mut some = |from: &[&'static str], at_least: usize| -> Vec<&'static str> {
            (0..rng.usize(at_least..4)).map(|_| from[rng.usize(0..from.len())]).collect()
        };
        let (selectors, granted) = (some(&SELECTORS, 1), some(&SELECTORS, 0));
        let events: Vec<(Vec<&str>, bool, String)> =
            (0..12).map(|number| (some(&TOPICS, 1), number % 3 != 0, number.to_string())).collect();
        let forms: Vec<Vec<(&str, &str)>> = events
            .iter()
            .map(|(topics, private, text)| {
                let topics = topics.iter().map(|topic| ("topic", *topic));
                topics.chain([("data", &**text)]).chain(private.then_some(("private", "on"))).collect()
            })
            .collect();
        let forms: Vec<&[(&str, &str)]> = forms.iter().map(Vec::as_slice).collect();
        let any = |selectors: &[&str], topics: &[&str]| {
            topics.iter().any(|topic| selectors.iter().any(|selector| takes(selector, topic)))
        };
        let gets = |topics: &[&str], private: bool| any(&selectors, topics) && (!private || any(&granted, topics));
        let expected =
            events.iter().filter(|(topics, private, _)| gets(topics, *private)).map(|(.., text)| text.clone());
        let expected: Vec<String> = expected.chain(["end".to_owned()]).collect();
        let seen = seen(&hub, version, &selectors, &granted, &forms).await;
        assert_eq!(seen, expected, "seed {seed}: {version:?} {selectors:?} {granted:?}");
    }
}
