//! What a team writes itself for WebTransport: quinn as it comes, and a broadcast channel.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};
use web_transport_quinn::{Request as Asked, ServerBuilder};

use super::{
    identity,
    post::{self, Request},
};

/// How events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// On a stream.
    Stream,
    /// Each in a datagram.
    Datagrams,
}

#[tokio::main]
pub(super) async fn serve(form: Form) -> Result<()> {
    let (chain, key) = identity::make()?;
    // Its server doesn't say which port it has got.
    let free = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let mut server = ServerBuilder::new().with_addr(free).with_certificate(chain, key)?;
    let publishers = std::net::TcpListener::bind("127.0.0.1:0")?;
    // The load looks for datagrams where it has asked for them.
    let query = if form == Form::Datagrams { "?delivery=datagram" } else { "" };
    println!("http://{} feed=https://{free}/sub{query}", publishers.local_addr()?);
    let (send, _) = broadcast::channel::<Bytes>(CHANNEL_EVENTS);
    let newest = Arc::new(Mutex::new(None::<Bytes>));
    {
        let (send, newest) = (send.clone(), newest.clone());
        std::thread::spawn(move || {
            for stream in publishers.incoming().map_while(Result::ok) {
                let Ok(Request::Post(mut publisher, mut body)) = post::read(stream) else { continue };
                loop {
                    let all = Bytes::from(body);
                    for line in all.split(|byte| *byte == b'\n') {
                        let event = all.slice_ref(line);
                        *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
                        let _ = send.send(event);
                    }
                    match publisher.next() {
                        Ok(Some(next)) => body = next,
                        _ => break,
                    }
                }
            }
        });
    }
    while let Some(asked) = server.accept().await {
        let (receive, newest) = (send.subscribe(), newest.clone());
        tokio::spawn(async move { feed(asked, form, receive, &newest).await });
    }
    Ok(())
}

async fn feed(
    asked: Asked,
    form: Form,
    mut receive: broadcast::Receiver<Bytes>,
    newest: &Mutex<Option<Bytes>>,
) -> Result<()> {
    let session = asked.ok().await?;
    let mut stream = session.open_uni().await?;
    stream.write_all(b"hello").await?;
    let newest = newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(event) = newest {
        stream.write_chunk(event).await?;
    }
    loop {
        let mut batch = match receive.recv().await {
            Ok(event) => vec![event],
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        };
        while batch.len() < BATCH_EVENTS
            && let Ok(event) = receive.try_recv()
        {
            batch.push(event);
        }
        if form == Form::Datagrams {
            for event in batch {
                session.send_datagram(event).context("the subscriber is gone")?;
            }
            continue;
        }
        stream.write_all_chunks(&mut batch).await.context("the subscriber is gone")?;
    }
}

/// More than a run has: its publisher waits for all subscribers together, and one of them may be far behind.
const CHANNEL_EVENTS: usize = 128 * 1024;
const BATCH_EVENTS: usize = 64;
