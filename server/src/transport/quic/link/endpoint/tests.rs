use std::net::{Ipv4Addr, UdpSocket};

use rustls::pki_types::PrivateKeyDer;
use tokio::task::LocalSet;

use super::*;
use crate::transport::quic::{
    endpoint::{Config, share},
    link::{ReadError, RecvStream},
};

/// An endpoint, and clients of it, each at an address of its own.
struct Place {
    endpoint: Endpoint,
    address: SocketAddr,
    client: quinn::ClientConfig,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new(config: &Config) -> Self {
        let (place, driver) = Self::undriven(config);
        spawn_local(driver);
        place
    }

    fn undriven(config: &Config) -> (Self, LocalBoxFuture<'static, ()>) {
        let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap();
        let certificate = identity.cert.der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = [&rustls::version::TLS13];
        let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h3".to_vec()];
        let client = quinn::crypto::rustls::QuicClientConfig::try_from(client).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, metrics) = (socket.local_addr().unwrap(), Arc::<Metrics>::default());
        let part = share(socket, Arc::new(tls), config, 1, &metrics).unwrap().remove(0);
        let client = quinn::ClientConfig::new(Arc::new(client));
        let (endpoint, driver) = part.open().unwrap();
        (Self { endpoint, address, client, metrics }, driver)
    }

    fn connect(&self) -> quinn::Connecting {
        let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        client.connect_with(self.client.clone(), self.address, "127.0.0.1").unwrap()
    }

    async fn pair(&self) -> (Connection, quinn::Connection) {
        let ours = async { self.endpoint.accept().await.unwrap().await.unwrap() };
        let (ours, theirs) = tokio::join!(ours, self.connect());
        (ours, theirs.unwrap())
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timely = async { tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, timely);
}

/// What they get of a stream that says so.
async fn say(ours: &Connection, theirs: &quinn::Connection, text: &'static str) {
    let mut stream = ours.open_uni().await.unwrap();
    let mut chunks = [Bytes::from(text)];
    assert_eq!(poll_fn(|cx| stream.poll_write_chunks(cx, &mut chunks)).await, Ok(1));
    stream.finish().unwrap();
    let got = theirs.accept_uni().await.unwrap().read_to_end(100).await.unwrap();
    assert_eq!(got, text.as_bytes());
    assert_eq!(stream.stopped().await, Ok(None));
}

#[test]
fn a_panic_in_a_connection_is_its_own() {
    run(async {
        let place = Place::new(&Config::default());
        let (broken, their_broken) = place.pair().await;
        let (ours, theirs) = place.pair().await;
        let mut stream = broken.open_uni().await.unwrap();
        let link = place.endpoint.inner.link(broken.link().number).unwrap();
        place.endpoint.inner.contain(&link, || {
            let _held = link.proto();
            panic!("as the test says")
        });
        assert!(matches!(broken.closed().await, ConnectionError::TransportError(_)));
        // Whatever is left of it asks the protocol nothing more.
        assert!(poll_fn(|cx| stream.poll_write(cx, b"x")).await.is_err() && stream.finish().is_err());
        assert!(broken.accept_bi().await.is_err() && broken.open_uni().await.is_err());
        broken.close(VarInt::from_u32(1), b"");
        assert_eq!(place.endpoint.open_connections(), 1);
        drop((stream, broken, link));
        say(&ours, &theirs, "still here").await;
        // Its number may be another's by now.
        let (ours, theirs) = place.pair().await;
        say(&ours, &theirs, "here, too").await;
        // Its packets belong to nothing, which their sender is told.
        if let Ok(mut stream) = their_broken.open_uni().await {
            let _ = stream.write_all(b"are you there").await;
        }
        assert_eq!(their_broken.closed().await, ConnectionError::Reset);
    });
}

#[test]
fn what_a_full_socket_has_no_room_for_goes_out_first() {
    run(async {
        let place = Place::new(&Config::default());
        let inner = &place.endpoint.inner;
        let (first, their_first) = place.pair().await;
        let (second, their_second) = place.pair().await;
        let mut streams = Vec::new();
        for connection in [&first, &second] {
            let mut stream = connection.open_uni().await.unwrap();
            assert_eq!(poll_fn(|cx| stream.poll_write(cx, b"waits")).await, Ok(5));
            stream.finish().unwrap();
            streams.push(stream);
        }
        // As if the socket had refused the packet of the first. On loopback none ever does.
        {
            let link = inner.link(first.link().number).unwrap();
            let wire = &mut *inner.wire.borrow_mut();
            wire.packets.clear();
            wire.unsent = link.proto().poll_transmit(Instant::now().into_std(), 1, &mut wire.packets);
            assert!(wire.unsent.is_some());
        }
        for _ in 0..3 {
            inner.drive(&inner.link(second.link().number).unwrap());
        }
        assert_eq!(inner.wire.borrow().blocked, [second.link().number]);
        for theirs in [&their_first, &their_second] {
            assert_eq!(theirs.accept_uni().await.unwrap().read_to_end(100).await.unwrap(), b"waits");
        }
        assert!(inner.wire.borrow().unsent.is_none() && inner.wire.borrow().blocked.is_empty());
    });
}

#[test]
fn whoever_finds_the_socket_full_has_the_driver_wait_for_room() {
    run(async {
        let place = Place::new(&Config::default());
        let inner = &place.endpoint.inner;
        let (ours, theirs) = place.pair().await;
        let mut stream = ours.open_uni().await.unwrap();
        while inner.agenda.is_told() {
            tokio::task::yield_now().await;
        }
        // Nobody else tells the driver of this.
        let link = inner.link(ours.link().number).unwrap();
        assert_eq!(link.proto().send_stream(stream.id()).write(b"waits"), Ok(5));
        inner.wire.borrow().socket.is_full.set(true);
        inner.drive(&link);
        assert!(inner.wire.borrow().unsent.is_some() && inner.agenda.is_told());
        inner.wire.borrow().socket.is_full.set(false);
        stream.finish().unwrap();
        assert_eq!(theirs.accept_uni().await.unwrap().read_to_end(100).await.unwrap(), b"waits");
    });
}

#[test]
fn nobody_waits_for_room_for_an_answer_that_found_none() {
    run(async {
        let (place, _driver) = Place::undriven(&Config::default());
        let inner = &place.endpoint.inner;
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let meta = RecvMeta { addr: client.local_addr().unwrap(), ..RecvMeta::default() };
        // Of a version that nobody knows, which is answered with those that are known. [RFC 9000 §5.2.2]
        let packet = [&[0xc0, 0x0a, 0x1a, 0x2a, 0x3a, 8][..], &[1; 8], &[8], &[2; 8], &[0; 1200]].concat();
        for is_full in [true, false] {
            inner.wire.borrow().socket.is_full.set(is_full);
            inner.packet(Instant::now().into_std(), &meta, &packet);
            assert!(!inner.wire.borrow().socket.is_watched_for_room());
            client.set_nonblocking(is_full).unwrap();
            assert_eq!(client.recv(&mut [0; 1500]).is_ok(), !is_full);
        }
    });
}

#[test]
fn what_a_stream_ended_with_it_says_again() {
    run(async {
        let place = Place::new(&Config::default());
        let (ours, theirs) = place.pair().await;
        let read = async |stream: &mut RecvStream| poll_fn(|cx| stream.poll_read(cx, 100)).await;
        let (code, mut sending, mut receiving) = (VarInt::from_u32(7), Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut stream = theirs.open_uni().await.unwrap();
            stream.write_all(b"x").await.unwrap();
            sending.push(stream);
            let mut stream = poll_fn(|cx| ours.poll_accept_uni(cx)).await.unwrap();
            assert_eq!(read(&mut stream).await, Ok(Some(Bytes::from("x"))));
            receiving.push(stream);
        }
        receiving[0].stop(code).unwrap();
        assert_eq!(sending[0].stopped().await, Ok(Some(code)));
        sending[1].reset(code).unwrap();
        sending[2].finish().unwrap();
        let ends = [Err(ReadError::ClosedStream), Err(ReadError::Reset(code)), Ok(None)];
        for (stream, end) in receiving.iter_mut().zip(ends) {
            assert_eq!([read(stream).await, read(stream).await], [end.clone(), end]);
            assert!(stream.stop(code).is_err());
        }
    });
}

#[test]
fn a_number_is_of_the_connection_that_has_it_now() {
    run(async {
        let place = Place::new(&Config::default());
        let inner = &place.endpoint.inner;
        let (gone, their_gone) = place.pair().await;
        let link = inner.link(gone.link().number).unwrap();
        drop((gone, their_gone));
        place.endpoint.wait_idle().await;
        let (ours, theirs) = place.pair().await;
        assert_eq!(ours.link().number, link.number);
        // As a task of its own may that has waited for its turn.
        inner.drive(&link);
        assert_eq!(place.endpoint.open_connections(), 1);
        say(&ours, &theirs, "still here").await;
    });
}

#[test]
fn a_turn_ends_amid_datagrams_that_say_nothing() {
    run(async {
        let (place, mut driver) = Place::undriven(&Config::default());
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..8 * PACKETS_A_TURN {
            sender.send_to(&[], place.address).unwrap();
        }
        // Where all are taken in at once, there is nothing left to have another turn for.
        while !place.endpoint.inner.agenda.is_told() {
            assert!(futures_util::poll!(&mut driver).is_pending());
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn handshakes_that_wait_are_bounded_and_counted() {
    run(async {
        let place = Place::new(&Config { handshakes_waiting_max: 2, ..Config::default() });
        let clients: Vec<_> = (0..5).map(|_| place.connect()).collect();
        while place.metrics.times_reached(Limit::HandshakesWaiting) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(place.endpoint.inner.newcomers.borrow().waiting.len(), 2);
        // Those that were dropped come again.
        for _ in 0..5 {
            let incoming = place.endpoint.accept().await.unwrap();
            spawn_local(async move { incoming.await.unwrap().closed().await });
        }
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn an_endpoint_without_connections_or_owners_ends() {
    run(async {
        let place = Place::new(&Config::default());
        let (ours, theirs) = place.pair().await;
        let late = place.connect();
        let taken = place.endpoint.accept().await.unwrap();
        place.endpoint.refuse_newcomers();
        assert_eq!(taken.await.unwrap_err(), ConnectionError::LocallyClosed);
        let refused = late.await.unwrap_err();
        assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused:?}");
        let refused = place.connect().await.unwrap_err();
        assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused:?}");
        assert!(place.endpoint.accept().await.is_none());
        drop(ours);
        place.endpoint.wait_disowned().await;
        let quinn::ConnectionError::ApplicationClosed(close) = theirs.closed().await else { panic!("not closed") };
        assert_eq!(close.error_code, VarInt::from_u32(0));
        place.endpoint.wait_idle().await;
        let inner = Rc::downgrade(&place.endpoint.inner);
        drop(place);
        while inner.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    });
}
