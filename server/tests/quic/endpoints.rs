//! Several endpoints on one address.

use std::{
    cell::Cell,
    future::poll_fn,
    net::{Ipv4Addr, UdpSocket},
    rc::Rc,
    sync::Arc,
};

use fanwire::transport::quic::{
    endpoint::{self, Config},
    link,
};
use tokio::task::spawn_local;

use crate::support::{client_config, run, tls};

/// Sends back what comes on each stream.
async fn echo(endpoint: link::Endpoint, accepted: Rc<Cell<usize>>) {
    while let Some(incoming) = endpoint.accept().await {
        accepted.set(accepted.get() + 1);
        spawn_local(async move {
            let connection = incoming.await.unwrap();
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                while let Some(bytes) = poll_fn(|cx| recv.poll_read(cx, 64)).await.unwrap() {
                    let chunks = &mut [bytes];
                    while poll_fn(|cx| send.poll_write_chunks(cx, chunks)).await.unwrap() == 0 {}
                }
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

#[test]
fn clients_are_dealt_out_and_found_when_they_have_other_addresses() {
    run(async {
        let (tls, certificate) = tls();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let parts = endpoint::share(socket, tls, &Config::default(), 4, &Arc::default()).unwrap();
        let accepted: Vec<Rc<Cell<usize>>> = parts.iter().map(|_| Rc::default()).collect();
        for (part, accepted) in parts.into_iter().zip(&accepted) {
            let (endpoint, driver) = part.open().unwrap();
            spawn_local(driver);
            spawn_local(echo(endpoint, accepted.clone()));
        }
        let mut clients = Vec::new();
        for _ in 0..16 {
            let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let connecting = client.connect_with(client_config(&certificate), address, "127.0.0.1").unwrap();
            let connection = connecting.await.unwrap();
            ask(&connection).await;
            clients.push((client, connection));
        }
        let dealt: Vec<usize> = accepted.iter().map(|count| count.get()).collect();
        assert_eq!(dealt.iter().sum::<usize>(), 16);
        assert!(!cfg!(target_os = "linux") || dealt.iter().all(|count| *count < 16), "{dealt:?}");
        // Of as many addresses, some are another endpoint's.
        let (client, connection) = &clients[0];
        for _ in 0..16 {
            client.rebind(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
            ask(connection).await;
        }
        assert_eq!(accepted.iter().map(|count| count.get()).sum::<usize>(), 16);
    });
}
