//! Who may ask, what for, and how.

use fanwire_tests::{Ask, TestHub, Version};
use http::{Method, StatusCode};

use crate::stored;

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let hub = TestHub::start();
    for version in Version::ALL {
        for (ask, what) in
            [(Ask::get("/events?topic=a"), "GET"), (Ask::post(FORM, "topic=a"), "POST"), (Ask::get("/"), "the page")]
        {
            let evil = ask.clone().authority("evil.example").whole(version, &hub).await;
            assert_eq!((evil.status.as_u16(), evil.code()), (403, "foreign_host".into()), "{version:?} {what}");
            for origin in ["https://evil.example", "null", "garbage", "http://localhost.evil.example"] {
                let evil = ask.clone().header("origin", origin).whole(version, &hub).await;
                assert_eq!((evil.status.as_u16(), evil.code()), (403, "foreign_origin".into()), "{version:?} {what}");
                assert!(evil.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
            }
        }
        // A load balancer asks by address.
        let answer = Ask::get("/livez").authority("10.0.0.1").whole(version, &hub).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "live\n"));
    }
    stored(&hub, 0).await;
    assert_eq!(hub.running().hub().subscribers(), 0);
}

#[tokio::test]
async fn who_came_by_the_name_of_loopback_is_told_the_address_of_webtransport() {
    let hub = TestHub::start();
    let https = hub.running().https().unwrap();
    for version in Version::ALL {
        for (authority, told) in [
            ("localhost:8080", https.to_string()),
            ("hub.localhost", https.to_string()),
            ("[::1]:8080", https.to_string()),
            (&*https.to_string(), https.to_string()),
        ] {
            let answer = Ask::get("/.well-known/fanwire").authority(authority).whole(version, &hub).await.json();
            assert_eq!(answer["webtransport"]["url"], format!("https://{told}/events"), "{version:?} {authority}");
        }
    }
    // Others know where the hub is.
    let hub = TestHub::with(|config| config.allow_anonymous = true);
    let port = hub.running().https().unwrap().port();
    let answer = Ask::get("/.well-known/fanwire").authority("hub.example:8080").whole(Version::H1, &hub).await.json();
    assert_eq!(answer["webtransport"]["url"], format!("https://hub.example:{port}/events"));
}

#[tokio::test]
async fn an_allowed_origin_may_read_the_answer() {
    let hub = TestHub::with(|config| config.allowed_origins = vec!["https://app.example".parse().unwrap()]);
    for version in Version::ALL {
        for origin in ["https://app.example", "http://localhost:3000"] {
            let answers = [
                Ask::post(FORM, "topic=a").header("origin", origin).over(version, &hub).await,
                Ask::get("/events?topic=a").header("origin", origin).over(version, &hub).await,
                // A refusal, too.
                Ask::get("/events").header("origin", origin).over(version, &hub).await,
            ];
            for answer in answers {
                assert_eq!(answer.header("access-control-allow-origin"), origin, "{version:?}");
                assert_eq!(answer.header("access-control-allow-credentials"), "true");
                assert!(answer.header("access-control-expose-headers").contains("Mercure-Last-Event-ID"));
                assert!(answer.header("vary").to_ascii_lowercase().contains("origin"));
            }
            let preflight = Ask::get("/events").method(Method::OPTIONS).header("origin", origin);
            let preflight = preflight.header("access-control-request-method", "POST").whole(version, &hub).await;
            assert_eq!(preflight.status, StatusCode::NO_CONTENT);
            assert_eq!(preflight.header("access-control-allow-origin"), origin);
            assert_eq!(preflight.header("access-control-allow-methods"), "GET, HEAD, POST, QUERY, DELETE");
            assert!(preflight.header("access-control-allow-headers").contains("Last-Event-ID"));
            assert!(preflight.header("access-control-allow-headers").contains("Content-Type"));
        }
        let plain = Ask::post(FORM, "topic=a").whole(version, &hub).await;
        assert!(plain.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
        let evil = Ask::get("/events").method(Method::OPTIONS).header("origin", "https://evil.example");
        assert_eq!(evil.whole(version, &hub).await.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_possible_is_said() {
    let hub = TestHub::start();
    for version in Version::ALL {
        for path in ["/nowhere", "/events/", "/event", "/.well-known/", "/page/nothing.js", "/client/../server.rs"] {
            let answer = Ask::get(path).whole(version, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found".into()), "{version:?} {path}");
        }
        for path in ["/events?topic=a", "/.well-known/mercure", "/", "/livez", "/.well-known/fanwire"] {
            for method in [Method::PUT, Method::DELETE, Method::PATCH] {
                let answer = Ask::get(path).method(method).whole(version, &hub).await;
                let got = (answer.status.as_u16(), answer.code());
                assert_eq!(got, (405, "method_not_allowed".into()), "{version:?} {path}");
                let events = path.starts_with("/events") || path.ends_with("mercure");
                let allowed = if events { "GET, HEAD, POST, QUERY, OPTIONS" } else { "GET, HEAD, OPTIONS" };
                assert_eq!(answer.header("allow"), allowed, "{version:?} {path}");
            }
        }
    }
    stored(&hub, 0).await;
}
