//! Publishing needs a token that grants every topic of the event.

use fanwire_client::{Connection, ControlError, Publication};
use fanwire_tests::{Ask, ISSUER, TestHub, Version, Way, soon};
use http::Method;

const FORM: &str = "application/x-www-form-urlencoded";

fn bearer(publish: &[&str]) -> String {
    format!("Bearer {}", ISSUER.token(publish, &[]).as_str())
}

#[tokio::test]
async fn a_token_grants_every_topic_or_nothing_is_published() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let mut count = 0;
    for version in Version::ALL {
        for (token, body, status, challenge) in [
            (None, "topic=a", 401, "Bearer"),
            (Some(bearer(&[])), "topic=a", 403, "Bearer error=\"insufficient_scope\""),
            (Some(bearer(&["b"])), "topic=a", 403, "Bearer error=\"insufficient_scope\""),
            (Some(bearer(&["a"])), "topic=a&topic=b", 403, "Bearer error=\"insufficient_scope\""),
            (Some(bearer(&["a", "b"])), "topic=a&topic=b&private=on", 200, ""),
            (Some(bearer(&["*"])), "topic=c", 200, ""),
            // What is wrong with the request comes after who asks.
            (None, "topic=", 401, "Bearer"),
            (Some(bearer(&["a"])), "topic=", 400, ""),
        ] {
            let mut ask = Ask::post(FORM, body);
            if let Some(token) = &token {
                ask = ask.header("authorization", token);
            }
            let answer = ask.whole(version, &hub).await;
            let got = (answer.status.as_u16(), answer.challenge());
            assert_eq!(got, (status, challenge), "{version:?} {token:?} {body}");
            count += u64::from(status == 200);
        }
    }
    let last = hub.publisher_with(ISSUER.token(&["*"], &[])).publish(&Publication::text("a", "")).await.unwrap();
    assert_eq!(last.cursor.unwrap().seq.0, count + 1, "what is refused is published to nobody");
}

#[tokio::test]
async fn a_line_of_a_batch_is_refused_alone() {
    let hub = TestHub::with_keys(|_| ());
    let lines = "{\"topic\": \"a\"}\n{\"topic\": [\"a\", \"b\"]}\n{\"topic\": \"a\"}\n";
    let ask = Ask::post("application/x-ndjson", lines).header("authorization", bearer(&["a"]));
    let answer = ask.whole(Version::H1, &hub).await;
    let codes: Vec<String> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["error"]["code"].as_str().unwrap_or("ok").to_owned())
        .collect();
    assert_eq!(codes, ["ok", "insufficient_scope", "ok"]);
}

#[tokio::test]
async fn a_subject_that_is_too_fast_is_alone_in_that() {
    let hub = TestHub::with_keys(|config| {
        (config.limits.publish_rate_max, config.limits.batch_lines_max) = (1, 20);
    });
    let publish = async |subject: &str, id: &str, version| {
        let mut claims = ISSUER.claims(&["a"], &[]);
        (claims["sub"], claims["jti"]) = (subject.into(), id.into());
        let ask = Ask::post("application/x-ndjson", "{\"topic\": \"a\"}\n".repeat(20));
        ask.header("authorization", format!("Bearer {}", ISSUER.sign(&claims).as_str())).whole(version, &hub).await
    };
    assert_eq!(publish("fast", "1", Version::H1).await.status.as_u16(), 200, "as many as a batch may have");
    for (version, id) in Version::ALL.into_iter().zip(2..) {
        // Another token, of the same subject.
        let refused = publish("fast", &id.to_string(), version).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"), "{version:?}");
        assert!(refused.headers.contains_key("retry-after"));
        // From the same address.
        assert_eq!(publish(&format!("slow {id}"), "1", version).await.status.as_u16(), 200, "{version:?}");
    }
}

#[tokio::test]
async fn a_subject_that_is_too_fast_is_told_so_in_sessions_too() {
    let hub = TestHub::with_keys(|config| {
        (config.limits.publish_rate_max, config.limits.batch_lines_max) = (1, 20);
    });
    let session = async |way: Way, subject: &str, id: &str, in_band: bool| {
        let mut claims = ISSUER.claims(&["a"], &[]);
        (claims["sub"], claims["jti"]) = (subject.into(), id.into());
        let mut options = way.options(&hub).topic("b").unwrap().token(ISSUER.sign(&claims));
        options.auth_in_band = in_band;
        way.connect(&options).await
    };
    let event = Publication::text("a", "x");
    // How many a session publishes until it is refused.
    let publishes = async |session: &Connection, what: &str| {
        let control = session.control().unwrap();
        let mut count = 0;
        let refused = loop {
            match soon(control.publish(&event)).await {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
            assert!(count < 200, "{what}: nobody stops it");
        };
        assert!(matches!(&refused, ControlError::Refused { code, .. } if code == "rate_limited"), "{refused:?}");
        count
    };
    let mut stopped = vec![];
    for way in Way::EVERY.into_iter().filter(|way| way.is_session()) {
        for in_band in [false, true] {
            let fast = format!("{way:?} {in_band}");
            let first = session(way, &fast, "1", in_band).await;
            let count = publishes(&first, &fast).await;
            assert!(count >= 20, "{fast}: as many as a batch may have at once, not {count}");
            // With another token of the same subject, in another session or over HTTP: there are no others than those that time gives.
            let second = session(way, &fast, "2", in_band).await;
            let count = publishes(&second, &fast).await;
            assert!(count < 20, "{fast}: {count} more");
            let mut claims = ISSUER.claims(&["a"], &[]);
            claims["sub"] = fast.as_str().into();
            let batch = Ask::post("application/x-ndjson", "{\"topic\": \"a\"}\n".repeat(20));
            let bearer = format!("Bearer {}", ISSUER.sign(&claims).as_str());
            assert_eq!(batch.header("authorization", bearer).whole(Version::H1, &hub).await.status.as_u16(), 429);
            // Another one, from the same address.
            let other = session(way, &format!("slow, {fast}"), "1", in_band).await;
            soon(other.control().unwrap().publish(&event)).await.unwrap();
            stopped.push(first);
        }
    }
    // The sessions go on.
    for session in stopped {
        let control = session.control().unwrap();
        let again = async {
            while control.publish(&event).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        soon(again).await;
    }
    let text = hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_refusals_total{code=\"rate_limited\"}"), "{text}");
}

#[tokio::test]
async fn a_session_publishes_what_its_token_grants() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let refusal = |result: Result<_, ControlError>| match result {
        Err(ControlError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    let anonymous = Way::WebTransport.subscribe(&hub, &["a"]).await;
    let published = soon(anonymous.control().unwrap().publish(&Publication::text("a", "x"))).await;
    assert_eq!(refusal(published), "no_token");
    for in_band in [false, true] {
        let mut options = Way::WebTransport.options(&hub).topic("a").unwrap().token(ISSUER.token(&["a"], &[]));
        options.auth_in_band = in_band;
        let control = Way::WebTransport.connect(&options).await;
        let control = control.control().unwrap();
        soon(control.publish(&Publication::text("a", "x"))).await.unwrap();
        let published = soon(control.publish(&Publication::text("b", "x"))).await;
        assert_eq!(refusal(published), "insufficient_scope");
    }
}

#[tokio::test]
async fn a_cookie_publishes_only_for_pages_that_may() {
    let hub = TestHub::with_keys(|config| config.allowed_origins = vec!["https://app.example".parse().unwrap()]);
    let cookie = format!("x=y; __Secure-mercure_access_token={}", ISSUER.token(&["*"], &[]).as_str());
    for version in Version::ALL {
        for (name, value, status) in [
            ("accept", "*/*", 403),
            ("sec-fetch-site", "same-origin", 403),
            ("origin", "https://app.example", 200),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("referer", "https://app.example/some/page", 200),
            ("referer", "https://evil.example/https://app.example/", 403),
        ] {
            let ask = Ask::post(FORM, "topic=a").header("cookie", cookie.as_str()).header(name, value);
            let answer = ask.whole(version, &hub).await;
            assert_eq!(answer.status.as_u16(), status, "{version:?} {name}: {value}");
            assert!(status == 200 || answer.code() == "foreign_origin");
        }
        // A header is nobody's but its sender's; the cookie beside it isn't looked at.
        let ask = Ask::post(FORM, "topic=a").header("cookie", cookie.as_str());
        let answer = ask.clone().header("authorization", bearer(&["a"])).whole(version, &hub).await;
        assert_eq!(answer.status.as_u16(), 200);
        let answer = ask.header("authorization", bearer(&["b"])).whole(version, &hub).await;
        assert_eq!(answer.status.as_u16(), 403);
        let preflight = Ask::get("/events").method(Method::OPTIONS).header("origin", "https://app.example");
        let preflight = preflight.whole(version, &hub).await;
        assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    }
}
