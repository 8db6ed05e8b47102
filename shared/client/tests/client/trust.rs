//! Certificates, and how a client finds QUIC.

use fanwire_client::{CertificateHash, ConnectError, Connection, Item, Options, Transport, Trust, discover};
use fanwire_protocol::message::Verdict;

use crate::{
    hub::{Hub, Script, Serve, Then, offer},
    sample::hello,
};

const TLS: [(Serve, Transport); 4] = [
    (Serve::H1Tls, Transport::SseH1),
    (Serve::H2Tls, Transport::SseH2),
    (Serve::H3, Transport::SseH3),
    (Serve::WebTransport, Transport::WebTransport),
];

fn greeting() -> Script {
    Script::feed(vec![hello(3, Verdict::Live)], Then::Hold)
}

#[tokio::test]
async fn a_certificate_is_trusted_by_its_hash_or_not_at_all() {
    for (serve, transport) in TLS {
        let hub = Hub::saying(serve, greeting()).await;
        let other = CertificateHash([7; 32]);
        for (trust, why) in [
            (Trust::Pinned(vec![other, hub.hash]), None),
            (Trust::Insecure, None),
            (Trust::Pinned(vec![other]), Some("it has none of the pinned hashes")),
            (Trust::Pinned(vec![]), Some("it has none of the pinned hashes")),
        ] {
            let options = hub.options().trust(trust);
            match (Connection::connect(transport, &options).await, why) {
                (Ok(mut connection), None) => assert!(matches!(connection.next().await, Ok(Item::Hello(_)))),
                (Err(error), Some(why)) => {
                    let expected = format!(
                        "the certificate of {} isn't trusted: use --insecure or pin its hash ({why}; its sha-256 is {})",
                        hub.address, hub.hash
                    );
                    assert_eq!(error.to_string(), expected, "{transport}");
                    assert!(error.is_terminal());
                }
                (result, why) => panic!("{transport}: {result:?}, not {why:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_systems_roots_dont_vouch_for_a_self_signed_certificate() {
    for (serve, transport) in TLS {
        let hub = Hub::saying(serve, greeting()).await;
        match Connection::connect(transport, &hub.options().trust(Trust::System)).await {
            Err(ConnectError::Untrusted { hash, .. }) => assert_eq!(hash, hub.hash),
            // A system may have no roots at all.
            Err(error @ ConnectError::Tls { .. }) => assert!(error.to_string().contains("no root"), "{error}"),
            other => panic!("{transport}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_port_is_said() {
    let plain = Hub::saying(Serve::H1, greeting()).await;
    let options = Options::new(&plain.url.replace("http:", "https:")).unwrap().trust(Trust::Insecure);
    let error = Connection::connect(Transport::SseH1, &options).await.unwrap_err();
    assert!(error.to_string().contains("is the url to be http://?"), "{error} {error:?}");

    let tls = Hub::saying(Serve::H1Tls, greeting()).await;
    let error = Connection::connect(Transport::SseH2, &tls.options()).await.unwrap_err();
    assert!(error.to_string().contains("http"), "{error} {error:?}");
    let options = Options::new(&tls.url.replace("https:", "http:")).unwrap();
    assert!(matches!(Connection::connect(Transport::SseH1, &options).await, Err(ConnectError::Http { .. })));

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options::new(&format!("http://{free}/events")).unwrap();
    let error = Connection::connect(Transport::SseH1, &options).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no tcp connection to {free}"));
    let options = Options::new("http://nobody.invalid/events").unwrap();
    let error = Connection::connect(Transport::SseH1, &options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Resolve { .. }), "{error:?}");
}

#[tokio::test]
async fn an_http_url_leads_to_quic() {
    for (serve, transport) in [(Serve::H3, Transport::SseH3), (Serve::WebTransport, Transport::WebTransport)] {
        let quic = Hub::saying(serve, greeting()).await;
        let (url, hash) = (quic.url.clone(), quic.hash);
        let front = Hub::start(Serve::H1, move |_, _| offer(Some((&url, Some(hash))))).await;
        let options = Options::new(&format!("{}?topic=a", front.url)).unwrap();
        let mut connection = Connection::connect(transport, &options).await.unwrap();
        assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
        assert_eq!(front.seen()[0].path, "/.well-known/fanwire");
        assert_eq!(quic.seen()[0].value("topic"), Some("a"));

        // What the user pins goes before what the hub says.
        let error = Connection::connect(transport, &options.trust(Trust::Pinned(vec![]))).await.unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_on_each() {
    let quic = Hub::saying(Serve::WebTransport, greeting()).await;
    let port = quic.address.port();
    let options = Options::new(&format!("https://localhost:{port}/events")).unwrap();
    let options = options.trust(Trust::Pinned(vec![quic.hash])).topic("*").unwrap();
    let mut connection = Connection::connect(Transport::WebTransport, &options).await.unwrap();
    assert!(matches!(connection.next().await, Ok(Item::Hello(_))));
}

#[tokio::test]
async fn a_hub_without_quic_says_so() {
    let front = Hub::saying(Serve::H1, offer(None)).await;
    let error = Connection::connect(Transport::WebTransport, &front.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotOffered { .. }) && error.is_terminal());
    assert_eq!(discover(&front.options()).await.unwrap().webtransport, None);

    let stranger = Hub::saying(Serve::H1, Script::answer(404, vec![], "not here")).await;
    let error = discover(&stranger.options()).await.unwrap_err();
    assert!(error.to_string().ends_with("/.well-known/fanwire answered 404: not here"), "{error}");
    let stranger = Hub::saying(Serve::H1, Script::answer(200, vec![], "<html>")).await;
    assert!(matches!(discover(&stranger.options()).await, Err(ConnectError::Discover { .. })));
}
