//! What a client has to know to get a token: where it is, what it says, and that every challenge leads there.

use fanwire::auth::{Actions, DETAIL_TYPE, IssuerConfig, KeySource};
use fanwire_tests::{Ask, RESOURCE, TestHub, Version};
use http::Method;
use serde_json::json;

const PATH: &str = "/.well-known/oauth-protected-resource/.well-known/mercure";

#[tokio::test]
async fn the_metadata_says_what_a_token_needs() {
    let hub = TestHub::with_keys(|config| {
        let url: url::Url = "https://127.0.0.1:1/keys".parse().unwrap();
        config.auth.issuers.push(IssuerConfig {
            name: "https://login.example".to_owned(),
            keys: KeySource::Url(url.into()),
            mercure0: Actions::default(),
        });
        config.subscriptions_max = Some(10);
    });
    let expected = json!({
        "resource": RESOURCE,
        "authorization_servers": ["https://login.example"],
        "authorization_details_types_supported": [DETAIL_TYPE],
        "bearer_methods_supported": ["header"],
        "mercure_cookie": "__Secure-mercure_access_token",
        "mercure_matcher_types_supported": ["exact", "urlpattern"],
        "mercure_subscriptions": true,
    });
    for version in Version::ALL {
        let answer = Ask::get(PATH).whole(version, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"), "{version:?}");
        assert_eq!(answer.json(), expected, "{version:?}");
    }
    let elsewhere = Ask::get("/.well-known/oauth-protected-resource/x").whole(Version::H1, &hub).await;
    assert_eq!(elsewhere.status, 404);
    // What isn't there isn't told.
    let hub = TestHub::with_keys(|config| config.auth.resource = "https://hub.example/news/hub".to_owned());
    let path = "/.well-known/oauth-protected-resource/news/hub";
    let plain = Ask::get(path).whole(Version::H1, &hub).await.json();
    assert_eq!(plain["resource"], "https://hub.example/news/hub");
    assert!(plain.get("mercure_subscriptions").is_none() && plain.get("authorization_servers").is_none());
    let challenge = Ask::get("/events?topic=a").whole(Version::H1, &hub).await;
    let url = format!("Bearer resource_metadata=\"https://hub.example{path}\"");
    assert_eq!(challenge.header("www-authenticate"), url);
    assert_eq!(Ask::get(PATH).whole(Version::H1, &TestHub::start()).await.status, 404, "it wants no tokens");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_and_read() {
    let hub = TestHub::with_keys(|config| {
        config.allowed_origins = vec!["https://app.example".parse().unwrap()];
        config.subscriptions_max = Some(10);
    });
    for version in Version::ALL {
        let list = "/.well-known/mercure/subscriptions";
        for path in ["/.well-known/mercure", list] {
            let preflight = Ask::get(path).method(Method::OPTIONS).header("origin", "https://app.example");
            let answer = preflight.header("access-control-request-method", "DELETE").whole(version, &hub).await;
            assert_eq!(answer.status, 204);
            assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
            for method in ["GET", "POST", "QUERY", "DELETE"] {
                assert!(answer.header("access-control-allow-methods").contains(method), "{version:?} {method}");
            }
            for header in ["Authorization", "Last-Event-ID", "Idempotency-Key", "If-None-Match"] {
                assert!(answer.header("access-control-allow-headers").contains(header), "{version:?} {header}");
            }
        }
        let refused = Ask::get(list).header("origin", "https://app.example").whole(version, &hub).await;
        assert_eq!((refused.status.as_u16(), refused.challenge()), (401, "Bearer"));
        for header in ["Link", "ETag", "Mercure-Last-Event-ID", "WWW-Authenticate"] {
            assert!(refused.header("access-control-expose-headers").contains(header), "{version:?} {header}");
        }
        let foreign = Ask::get(list).method(Method::OPTIONS).header("origin", "https://evil.example");
        assert_eq!(foreign.whole(version, &hub).await.status, 403, "{version:?}");
    }
}
