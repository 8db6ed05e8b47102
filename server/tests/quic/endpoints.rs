//! Several endpoints on one address.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fanwire::transport::quic::endpoint::{self, Config};

use crate::support::{client_config, tls};

/// Sends back what comes on each stream.
async fn echo(endpoint: quinn::Endpoint, accepted: Arc<AtomicUsize>) {
    while let Some(incoming) = endpoint.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let connection = incoming.await.unwrap();
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                send.write_all(&recv.read_to_end(64).await.unwrap()).await.unwrap();
                send.finish().unwrap();
            }
        });
    }
}

async fn ask(connection: &quinn::Connection) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"still here").await.unwrap();
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(64).await.unwrap(), b"still here");
}

#[tokio::test]
async fn clients_are_dealt_out_and_found_when_they_have_other_addresses() {
    let (tls, certificate) = tls();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    let parts = endpoint::share(socket, tls, &Config::default(), 4, &Arc::default()).unwrap();
    let accepted: Vec<Arc<AtomicUsize>> = parts.iter().map(|_| Arc::default()).collect();
    for (part, accepted) in parts.into_iter().zip(&accepted) {
        tokio::spawn(echo(part.open().unwrap(), accepted.clone()));
    }
    let mut clients = Vec::new();
    for _ in 0..16 {
        let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = client.connect_with(client_config(&certificate), address, "127.0.0.1").unwrap();
        let connection = connecting.await.unwrap();
        ask(&connection).await;
        clients.push((client, connection));
    }
    let dealt: Vec<usize> = accepted.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert_eq!(dealt.iter().sum::<usize>(), 16);
    assert!(!cfg!(target_os = "linux") || dealt.iter().all(|count| *count < 16), "{dealt:?}");
    // Of as many addresses, some are another endpoint's.
    let (client, connection) = &clients[0];
    for _ in 0..16 {
        client.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
        ask(connection).await;
    }
    assert_eq!(accepted.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>(), 16);
}
