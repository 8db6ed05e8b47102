//! Where keys are published: who vouches for the server, how long its keys are good, and what is taken of it.

use std::{sync::Arc, time::Duration};

use fanwire::telemetry::Limit;
use fanwire_client::Item;
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{HubProcess, ISSUER, RESOURCE, TestHub, Way, soon};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::published_keys::{Publisher, Signer, publishes};

/// Who vouches for servers.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server of this name.
    fn server(&self, name: &str) -> rustls::ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

fn set(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()})
}

/// Waits until a token has this status.
async fn until(hub: &TestHub, signer: &Signer, status: u16) {
    soon(async {
        while publishes(hub, signer).await != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_over_https_has_to_be_who_it_says() {
    let (ours, others, signer) = (Authority::new(), Authority::new(), Signer::new("one"));
    let hub = |publisher: &Publisher, authorities: &[&Authority]| {
        publisher.hub_with(|at, _| at.authorities = authorities.iter().map(|it| it.0.der().clone()).collect())
    };
    let publisher = Publisher::start_tls(set(&[&signer]), ours.server("localhost")).await;
    assert_eq!(publishes(&hub(&publisher, &[&ours]), &signer).await, 200);
    assert_eq!(publishes(&hub(&publisher, &[&others, &ours]), &signer).await, 200);
    let asked = publisher.times_asked();
    // Nobody vouches for it; it is somebody else.
    assert_eq!(publishes(&hub(&publisher, &[&others]), &signer).await, 503);
    assert_eq!(publishes(&hub(&publisher, &[]), &signer).await, 503);
    assert_eq!(publisher.times_asked(), asked, "nothing is asked of such a server");
    let publisher = Publisher::start_tls(set(&[&signer]), ours.server("elsewhere.example")).await;
    assert_eq!(publishes(&hub(&publisher, &[&ours]), &signer).await, 503);
    assert_eq!(publisher.times_asked(), 0);
}

#[tokio::test]
async fn who_vouches_for_servers_is_configured_or_the_systems_business() {
    let (ours, signer) = (Authority::new(), Signer::new("one"));
    let publisher = Publisher::start_tls(set(&[&signer]), ours.server("localhost")).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("ca.pem"), ours.0.pem()).unwrap();
    let issuer = format!("resource = {RESOURCE:?}\n[[issuer]]\niss = {:?}\njwks = {:?}\n", ISSUER.name, publisher.url);
    std::fs::write(path("system.toml"), &issuer).unwrap();
    std::fs::write(path("own.toml"), format!("{issuer}jwks_ca = {:?}\n", path("ca.pem"))).unwrap();
    let start = |config: &str, environment| {
        let config = path(config);
        HubProcess::start_in(&path("log"), &["--config", config.to_str().unwrap()], environment).unwrap()
    };
    // What OpenSSL and its like take for the system's.
    let system = || vec![("SSL_CERT_FILE", path("ca.pem").into_os_string())];
    for (config, environment, status) in
        [("own.toml", vec![], 200), ("system.toml", system(), 200), ("system.toml", vec![], 503)]
    {
        let hub = start(config, environment);
        let url = hub.http_url();
        let request = http::Request::post(&url)
            .header("host", url.split('/').nth(2).unwrap())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Bearer {}", signer.token().as_str()))
            .body(http_body_util::Full::new(bytes::Bytes::from("topic=a")))
            .unwrap();
        let stream = fanwire_tests::tcp(url.split('/').nth(2).unwrap().parse().unwrap()).await;
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        assert_eq!(soon(requests.send_request(request)).await.unwrap().status(), status, "{config}");
        connection.abort();
        if status == 503 {
            hub.logs(&["the keys stay as they were", &publisher.url, "invalid peer certificate: UnknownIssuer"]).await;
        }
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (ours, signer) = (Authority::new(), Signer::new("one"));
    let elsewhere = Publisher::start(set(&[&signer])).await;
    let (plain, secure) =
        (Publisher::start(json!({})).await, Publisher::start_tls(json!({}), ours.server("localhost")).await);
    for publisher in [&plain, &secure] {
        for status in
            ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
        {
            publisher.answer(&format!("{status}\r\nlocation: {}\r\ncontent-length: 0", elsewhere.url), "");
            let hub = publisher.hub_with(|at, _| at.authorities.push(ours.0.der().clone()));
            assert_eq!(publishes(&hub, &signer).await, 503, "{status}");
        }
        assert_eq!((publisher.times_asked(), elsewhere.times_asked()), (5, 0));
    }
}

#[tokio::test]
async fn keys_are_fetched_again_at_an_interval() {
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let publisher = Publisher::start(set(&[&first])).await;
    let hub = publisher.hub_with(|_, limits| {
        (limits.refresh, limits.refetch_min) = (Duration::from_millis(200), Duration::from_secs(3600));
    });
    assert_eq!((publishes(&hub, &first).await, publishes(&hub, &second).await), (200, 401));
    // Nobody asks for it: unknown keys may be looked for once an hour.
    publisher.publish(set(&[&first, &second]));
    until(&hub, &second, 200).await;
    assert_eq!(publishes(&hub, &first).await, 200);
    publisher.publish(set(&[&second]));
    until(&hub, &first, 401).await;
    assert_eq!(publishes(&hub, &second).await, 200);
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_good_for_a_while_and_no_longer() {
    let signer = Signer::new("one");
    let publisher = Publisher::start(set(&[&signer])).await;
    let hub = publisher.hub_with(|_, limits| {
        (limits.refresh, limits.refetch_min) = (Duration::from_millis(100), Duration::from_millis(100));
        limits.stale_max = Duration::from_secs(2);
    });
    assert_eq!(publishes(&hub, &signer).await, 200);
    let mut feeds = vec![];
    for way in [Way::SseH1, Way::WebTransport] {
        let mut feed = way.connect(&way.options(&hub).topic("a").unwrap().token(signer.token())).await;
        assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
        feeds.push((way, feed));
    }
    for (head, body) in [("500 Internal Server Error\r\ncontent-length: 0", ""), ("200 OK\r\ncontent-length: 2", "{}")]
    {
        publisher.answer(head, body);
        let asked = publisher.times_asked();
        soon(async {
            while publisher.times_asked() < asked + 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(publishes(&hub, &signer).await, 200, "{head}");
    }
    until(&hub, &signer, 503).await;
    for (way, mut feed) in feeds {
        let bye = async {
            loop {
                if let Item::Bye(bye) = feed.next().await.unwrap() {
                    break bye;
                }
            }
        };
        assert_eq!(soon(bye).await.code, ByeCode::Revoked as u32, "{way:?}");
    }
    publisher.publish(set(&[&signer]));
    until(&hub, &signer, 200).await;
}

#[tokio::test]
async fn what_a_server_says_is_bounded_and_counted() {
    let signers: Vec<Signer> = ["one"; 33].map(|_| Signer::new("one")).into();
    let publisher = Publisher::start(set(&signers.iter().collect::<Vec<_>>())).await;
    let hub = publisher.hub_with(|_, limits| {
        (limits.refresh, limits.refetch_min) = (Duration::from_millis(200), Duration::from_millis(200));
        limits.time_max = Duration::from_millis(200);
    });
    let reached = |limit| hub.running().hub().metrics().times_reached(limit);
    let reaches = async |limit| {
        let before = reached(limit);
        soon(async {
            while reached(limit) == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };
    reaches(Limit::JwksKeys).await;
    assert_eq!((publishes(&hub, &signers[31]).await, publishes(&hub, &signers[32]).await), (200, 401));
    publisher.publish(json!({"keys": [signers[32].jwk], "more": "x".repeat(256 * 1024)}));
    reaches(Limit::JwksBytes).await;
    publisher.be_silent();
    reaches(Limit::JwksTime).await;
    // The keys are as they were.
    assert_eq!((publishes(&hub, &signers[31]).await, publishes(&hub, &signers[32]).await), (200, 401));
    publisher.publish(set(&[&signers[32]]));
    until(&hub, &signers[32], 200).await;
}
