//! Keys at a URL: fetched, cached, rotated.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire::auth::{Actions, IssuerConfig, JwksLimits, KeySource, KeysUrl, mint::SigningKey, parse_url};
use fanwire_client::{Item, Token};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{Ask, ISSUER, RESOURCE, TestHub, Version, Way, soon};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// Something that answers every request with what it is told to.
pub(crate) struct Publisher {
    pub(crate) url: String,
    answer: Arc<Mutex<Option<String>>>,
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Publisher {
    pub(crate) async fn start(body: Value) -> Self {
        Self::begin(body, None).await
    }

    /// The same over https, as `localhost`.
    pub(crate) async fn start_tls(body: Value, tls: rustls::ServerConfig) -> Self {
        Self::begin(body, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn begin(body: Value, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = if tls.is_some() {
            format!("https://localhost:{port}/keys")
        } else {
            format!("http://127.0.0.1:{port}/keys")
        };
        let publisher = Self { url, answer: Arc::default(), asked: Arc::default() };
        publisher.publish(body);
        let (answer, asked) = (publisher.answer.clone(), publisher.asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked, tls) = (answer.clone(), asked.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer_one(stream, &answer, &asked).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer_one(stream, &answer, &asked).await;
                            }
                        }
                    }
                });
            }
        });
        publisher
    }

    /// From now on these are the keys.
    pub(crate) fn publish(&self, body: Value) {
        self.say(&body.to_string());
    }

    /// From now on this is the body of the answer.
    fn say(&self, body: &str) {
        self.answer(&format!("200 OK\r\ncontent-length: {}", body.len()), body);
    }

    /// From now on it answers so.
    pub(crate) fn answer(&self, head: &str, body: &str) {
        *self.answer.lock().unwrap() = Some(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}"));
    }

    /// From now on it says nothing.
    pub(crate) fn be_silent(&self) {
        *self.answer.lock().unwrap() = None;
    }

    pub(crate) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The keys are looked at again when somebody unknown comes, once it is time.
    async fn is_asked_again(&self, hub: &TestHub) {
        let (asked, stranger) = (self.times_asked(), Signer::new("unknown"));
        soon(async {
            while self.times_asked() == asked {
                assert_eq!(publishes(hub, &stranger).await, 401);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    pub(crate) fn hub(&self, refetch_min: Duration) -> TestHub {
        self.hub_with(|_, limits| limits.refetch_min = refetch_min)
    }

    pub(crate) fn hub_with(&self, change: impl FnOnce(&mut KeysUrl, &mut JwksLimits)) -> TestHub {
        TestHub::with(|config| {
            let mut at = KeysUrl::from(parse_url(&self.url).unwrap());
            change(&mut at, &mut config.auth.jwks);
            let keys = KeySource::Url(at);
            config.auth.issuers =
                vec![IssuerConfig { name: ISSUER.name.to_owned(), keys, mercure0: Actions::default() }];
            config.auth.resource = RESOURCE.to_owned();
        })
    }
}

async fn answer_one(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Mutex<Option<String>>,
    asked: &AtomicUsize,
) {
    asked.fetch_add(1, Ordering::SeqCst);
    let _ = stream.read(&mut [0; 4096]).await;
    let answer = answer.lock().unwrap().clone();
    match answer {
        Some(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        // Until the hub goes away.
        None => while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {},
    }
}

pub(crate) struct Signer {
    key: SigningKey,
    kid: &'static str,
    pub(crate) jwk: Value,
}

impl Signer {
    pub(crate) fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": text(&point[1..33]), "y": text(&point[33..65])});
        Self { key: SigningKey::pem(pair.serialize_pem().as_bytes()).unwrap(), kid, jwk }
    }

    pub(crate) fn token(&self) -> Token {
        self.key.sign(&ISSUER.claims(&["*"], &["*"]), Some(self.kid)).unwrap().parse().unwrap()
    }
}

pub(crate) async fn publishes(hub: &TestHub, signer: &Signer) -> u16 {
    let post = Ask::post("application/x-www-form-urlencoded", "topic=a");
    post.header("authorization", format!("Bearer {}", signer.token().as_str()))
        .whole(Version::H1, hub)
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn an_unknown_kid_asks_again_once_in_a_while() {
    let (first, second, stranger) = (Signer::new("first"), Signer::new("second"), Signer::new("stranger"));
    let publisher =
        Publisher::start(json!({"keys": [first.jwk, {"kty": "new kind"}, {"kty": "oct", "k": "AAAA"}]})).await;
    let pause = Duration::from_millis(300);
    let hub = publisher.hub(pause);
    assert_eq!(publishes(&hub, &first).await, 200);
    publisher.publish(json!({"keys": [first.jwk, second.jwk]}));
    // The key is found as soon as it may be asked for again.
    let begin = std::time::Instant::now();
    while publishes(&hub, &second).await != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = publisher.times_asked();
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(publishes(&hub, &stranger).await, 401);
    }
    let more = publisher.times_asked() - asked;
    assert!(more as u128 <= begin.elapsed().as_millis() / pause.as_millis() + 1, "asked {more} times");
    // What can't be read changes nothing.
    for body in [
        json!({"keys": []}),
        json!("nothing"),
        json!({"keys": [{"kty": "oct", "k": "x".repeat(64), "kid": "stranger"}]}),
    ] {
        publisher.publish(body);
        publisher.is_asked_again(&hub).await;
        assert_eq!(publishes(&hub, &stranger).await, 401);
        assert_eq!(publishes(&hub, &second).await, 200);
    }
}

#[tokio::test]
async fn a_key_that_is_taken_back_takes_its_feeds_along() {
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let publisher = Publisher::start(json!({"keys": [first.jwk, second.jwk]})).await;
    let hub = publisher.hub(Duration::from_millis(200));
    assert_eq!(publishes(&hub, &first).await, 200);
    for way in [Way::SseH1, Way::WebTransport] {
        publisher.publish(json!({"keys": [first.jwk, second.jwk]}));
        publisher.is_asked_again(&hub).await;
        let connect =
            async |signer: &Signer| way.connect(&way.options(&hub).topic("a").unwrap().token(signer.token())).await;
        let (mut lost, mut kept) = (connect(&first).await, connect(&second).await);
        assert!(matches!(soon(lost.next()).await.unwrap(), Item::Hello(_)));
        publisher.publish(json!({"keys": [second.jwk]}));
        publisher.is_asked_again(&hub).await;
        match soon(lost.next()).await.unwrap() {
            Item::Bye(bye) => assert_eq!(bye.code, ByeCode::Revoked as u32, "{way:?}"),
            other => panic!("{way:?}: {other:?}"),
        }
        assert!(matches!(soon(kept.next()).await.unwrap(), Item::Hello(_)));
        assert_eq!(publishes(&hub, &second).await, 200);
        assert!(matches!(soon(kept.next()).await.unwrap(), Item::Event(_)), "{way:?}");
    }
}

#[tokio::test]
async fn without_the_keys_nobody_is_told_that_a_token_is_bad() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let publisher = Publisher {
        url: format!("http://{}/keys", nowhere.local_addr().unwrap()),
        answer: Arc::default(),
        asked: Arc::default(),
    };
    drop(nowhere);
    let hub = publisher.hub(Duration::from_millis(100));
    assert_eq!(publishes(&hub, &Signer::new("first")).await, 503);
}
