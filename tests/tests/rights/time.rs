//! What a clock that is wrong may do: `clock_skew` moves a token's beginning, and never its end.

use std::time::Duration;

use fanwire::auth::Actions;
use fanwire_client::{ControlError, Item};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{Ask, ISSUER, TestHub, Version, Way, now_ms, soon};
use serde_json::json;

use crate::subscribe::refusal;

#[tokio::test]
async fn the_configured_skew_moves_the_beginning_of_a_token_and_never_its_end() {
    for skew_s in [0, 30, 300] {
        let hub = TestHub::with_keys(|config| config.auth.clock_skew = Duration::from_secs(skew_s));
        for (nbf_s, exp_s) in [(skew_s as i64 - 10, 3_600), (skew_s as i64 + 60, 3_600), (-3_600, 0), (-3_600, -10)] {
            let good = nbf_s < skew_s as i64 && exp_s > 0;
            let what = format!("skew {skew_s} s, nbf in {nbf_s} s, exp in {exp_s} s");
            let now = (now_ms() / 1000) as i64;
            let mut claims = ISSUER.claims(&["a"], &["a"]);
            (claims["nbf"], claims["exp"]) = (json!(now + nbf_s), json!(now + exp_s));
            let token = ISSUER.sign(&claims);
            for way in Way::EVERY {
                for in_band in [false, true] {
                    let mut options = way.options(&hub).topic("a").unwrap().token(token.clone());
                    options.auth_in_band = in_band && way.is_session();
                    if good {
                        let first = soon(way.connect(&options).await.next()).await.unwrap();
                        assert!(matches!(first, Item::Hello(_)), "{what}: {way:?} {first:?}");
                    } else {
                        let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
                        assert_eq!(refusal(way, &options).await, expected, "{what}: {way:?}");
                    }
                }
            }
            for version in Version::ALL {
                let post = Ask::post("application/x-www-form-urlencoded", "topic=a");
                let answer = post.header("authorization", format!("Bearer {}", token.as_str())).whole(version, &hub);
                assert_eq!(answer.await.status.as_u16(), if good { 200 } else { 401 }, "{what}: {version:?}");
            }
            // On a feed that goes on.
            let options = Way::WebTransport.options(&hub).topic("a").unwrap().token(ISSUER.token(&[], &["a"]));
            let feed = Way::WebTransport.connect(&options).await;
            let renewed = soon(feed.control().unwrap().authenticate(&token)).await;
            match renewed {
                Ok(_) => assert!(good, "{what}"),
                Err(ControlError::Refused { code, .. }) => {
                    assert_eq!((code.as_str(), good), ("invalid_token", false), "{what}")
                }
                Err(other) => panic!("{what}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn so_it_does_with_tokens_of_mercure_0x() {
    for skew_s in [0, 300] {
        let hub = TestHub::with_keys(|config| {
            config.auth.clock_skew = Duration::from_secs(skew_s);
            config.auth.issuers[0].mercure0 = Actions { publish: true, subscribe: true };
            (config.mercure0.http, config.mercure0.https) = (true, true);
        });
        for (nbf_s, exp_s, good) in [(120, 3_600, skew_s > 120), (-10, -10, false), (-10, 3_600, true)] {
            let now = (now_ms() / 1000) as i64;
            let claims =
                json!({"mercure": {"publish": ["*"], "subscribe": ["*"]}, "nbf": now + nbf_s, "exp": now + exp_s});
            let token = ISSUER.signing().sign_raw(&json!({"alg": "HS256", "typ": "JWT"}), &claims).unwrap();
            for version in Version::ALL {
                let what = format!("skew {skew_s} s, nbf in {nbf_s} s, exp in {exp_s} s: {version:?}");
                let path = "/.well-known/mercure".to_owned();
                let post = Ask { path, ..Ask::post("application/x-www-form-urlencoded", "topic=a") };
                for ask in [post, Ask::get("/.well-known/mercure?topic=a")] {
                    let answer = ask.header("authorization", format!("Bearer {token}")).over(version, &hub).await;
                    assert_eq!(answer.status.as_u16(), if good { 200 } else { 401 }, "{what}");
                }
            }
        }
    }
}
