//! Over UDP: garbage, handshakes that go nowhere, and peers that vanish.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

use fanwire_tests::{raw_http3::RawHttp3, soon};
use http::StatusCode;

use crate::{Memory, Witnesses, impatient, noise};

#[tokio::test]
async fn garbage_datagrams_are_nothing() {
    let Some(mut witnesses) = Witnesses::apart(|_| ()).await else { return };
    let memory = Memory::now();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let hub = witnesses.hub.running().https().unwrap();
    for i in 0..20_000_u64 {
        let mut datagram = noise(i, 20 + (i as usize * 37) % 1400);
        let version: &[u8] = match i % 5 {
            // A short header, for a connection that isn't there.
            0 => &[0x40],
            // An Initial of this version, which can't be decrypted, and one of another.
            1 => &[0xc0, 0, 0, 0, 1, 8],
            2 => &[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8],
            // A handshake packet out of nowhere.
            3 => &[0xe0, 0, 0, 0, 1, 20],
            _ => &[],
        };
        datagram[..version.len()].copy_from_slice(version);
        let _ = socket.send_to(&datagram, hub);
        if i % 5_000 == 0 {
            witnesses.served().await;
        }
    }
    witnesses.alone().await;
    memory.grew_within("20,000 datagrams of garbage", MEMORY_MAX);
}

#[tokio::test]
async fn halves_of_handshakes_are_given_up() {
    let mut witnesses = Witnesses::with(impatient).await;
    let (all, hub) = (witnesses.count(), witnesses.hub.running().https().unwrap());
    // The first half of a hello only, or the second, each from a client of its own that says no more.
    let mut sockets = vec![];
    for (i, initial) in initials(20).await.iter().enumerate() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(&initial[i % initial.len()], hub).unwrap();
        sockets.push(socket);
    }
    witnesses.until(|hub| hub.running().connections() > all).await;
    witnesses.alone().await;
}

#[tokio::test]
async fn a_handshake_that_goes_nowhere_does_not_hold_up_a_drain() {
    let witnesses = Witnesses::gather().await;
    let all = witnesses.count();
    let initials = initials(1).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for datagram in &initials[0] {
        socket.send_to(datagram, witnesses.hub.running().https().unwrap()).unwrap();
    }
    witnesses.until(|hub| hub.running().connections() == all + 1).await;
    let Witnesses { hub, .. } = witnesses;
    assert!(soon(hub.into_running().drain(Duration::from_secs(60))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peers_that_vanish_are_noticed() {
    let mut witnesses = Witnesses::with(|config| {
        config.quic_endpoint.idle_timeout = Duration::from_secs(1);
        config.quic_endpoint.keep_alive = Some(Duration::from_millis(200));
    })
    .await;
    let all = witnesses.count();
    let (revive, dead) = std::sync::mpsc::channel::<()>();
    let hub = &witnesses.hub;
    thread::scope(|scope| {
        let peer = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let vanished = runtime.block_on(async {
                let http3 = RawHttp3::connect(hub).await;
                let session = http3.session("/events?topic=witness").await;
                let (status, feed) = http3.get("/events?topic=witness").await;
                assert_eq!(status, StatusCode::OK);
                (http3, session, feed)
            });
            // Nobody polls the runtime any more: the peer is as good as unplugged.
            let _ = dead.recv();
            drop(vanished);
        });
        let running = hub.running();
        let seen = || running.hub().subscribers();
        poll(|| seen() == all + 2);
        poll(|| seen() == all);
        drop(revive);
        peer.join().unwrap();
    });
    witnesses.alone().await;
}

#[tokio::test]
async fn connections_dropped_in_the_middle_of_everything_leave_nothing() {
    let mut witnesses = Witnesses::gather().await;
    for i in 0..20 {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        let session = match i % 4 {
            0 => None,
            _ => Some(http3.session("/events?topic=witness").await),
        };
        if i % 2 == 0 {
            let (mut send, _recv) = http3.request(&[(":method", "POST"), (":scheme", "https")]).await;
            send.write_all(&[0, 0x40]).await.unwrap();
        }
        if let (Some(session), 3) = (&session, i % 4) {
            let (mut send, _recv) = http3.open_bi(session.id).await;
            send.write_all(&[0x13, 0x40, 200, b'{']).await.unwrap();
        }
        http3.connection.close(quinn::VarInt::from_u32(0xdead), b"");
    }
    witnesses.alone().await;
}

#[tokio::test]
async fn heads_that_are_no_requests_are_reset_one_by_one() {
    let mut witnesses = Witnesses::gather().await;
    let http3 = RawHttp3::connect(&witnesses.hub).await;
    let long = "x".repeat(20_000);
    let authority = (":authority", "127.0.0.1");
    let heads: [&[(&str, &str)]; 7] = [
        &[],
        &[(":method", "GET")],
        &[(":method", "GET"), (":scheme", "https"), (":path", "/livez")],
        &[(":method", "G T"), (":scheme", "https"), authority, (":path", "/livez")],
        &[(":method", "GET"), (":scheme", "https"), authority, (":path", "/livez"), ("X-Upper", "1")],
        &[(":method", "GET"), (":scheme", "https"), authority, (":path", "/livez"), ("x-long", &long)],
        &[(":method", "GET"), (":method", "GET"), (":scheme", "https"), authority, (":path", "/livez"), (":odd", "1")],
    ];
    for head in heads {
        let (mut send, mut recv) = http3.request(head).await;
        let _ = send.finish();
        // A reset, or a status: it is only not to be 200.
        if let Ok(answer) = soon(recv.read_to_end(1024)).await {
            assert_ne!(answer.get(4), Some(&0xd9), "{head:?}");
        }
        assert_eq!(http3.get("/livez").await.0, StatusCode::OK, "after {head:?}");
    }
    for garbage in [noise(3, 2000), vec![0; 2000], vec![0x01, 0x05, 0xff, 0xff, 0xff, 0xff, 0xff], vec![0x41]] {
        let http3 = RawHttp3::connect(&witnesses.hub).await;
        let (mut send, mut recv) = http3.connection.open_bi().await.unwrap();
        let _ = send.write_all(&garbage).await;
        let _ = send.finish();
        // The stream ends, or the connection.
        let _ = soon(recv.read_to_end(1024)).await;
    }
    drop(http3);
    witnesses.alone().await;
}

/// The first datagrams of handshakes, as clients sent them to somebody who didn't answer.
async fn initials(count: usize) -> Vec<Vec<Vec<u8>>> {
    let nobody = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = nobody.local_addr().unwrap();
    let mut all = vec![];
    let mut buffer = [0; 2048];
    for _ in 0..count {
        let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let from: SocketAddr = client.local_addr().unwrap();
        let connecting = client.connect_with(client_config(), address, "127.0.0.1").unwrap();
        let mut datagrams = vec![];
        // A hello with a post-quantum key share takes two.
        while datagrams.len() < 2 {
            let (length, peer) = soon(nobody.recv_from(&mut buffer)).await.unwrap();
            if peer == from {
                datagrams.push(buffer[..length].to_vec());
            }
        }
        drop(connecting);
        all.push(datagrams);
    }
    all
}

fn client_config() -> quinn::ClientConfig {
    fanwire_tests::raw_http3::client_config()
}

fn poll(is: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it didn't come in 10 seconds");
}

/// Far less than would be taken if anything of it were kept.
const MEMORY_MAX: usize = 64 << 20;
