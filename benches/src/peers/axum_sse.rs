//! What a team writes itself in an afternoon: axum and a broadcast channel.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::header,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::sync::broadcast::{self, error::RecvError};

#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Plain,
    Batched,
    /// Batched, with an `id:` line as long as a hub's.
    BatchedIds,
}

#[tokio::main]
pub(super) async fn serve(form: Form) -> Result<()> {
    let (send, _) = broadcast::channel::<Bytes>(CHANNEL_EVENTS);
    let router = match form {
        Form::Plain => Router::new().route("/sub", get(plain)),
        Form::Batched | Form::BatchedIds => Router::new().route("/sub", get(batched)),
    };
    let published = Arc::new(AtomicU64::new(0));
    let publish = move |State(send): State<broadcast::Sender<Bytes>>, body: Bytes| {
        for line in lines(&body) {
            let id = match form {
                Form::Plain => {
                    let _ = send.send(line);
                    continue;
                }
                Form::Batched => String::new(),
                Form::BatchedIds => id_line(published.fetch_add(1, Ordering::Relaxed)),
            };
            let _ = send.send([id.as_bytes(), b"data: ", &line[..], b"\n\n"].concat().into());
        }
        std::future::ready(())
    };
    let router = router.route("/pub", post(publish)).with_state(send);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address} feed=http://{address}/sub");
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// As long as a hub's, whose cursors have the log's epoch in front.
fn id_line(number: u64) -> String {
    format!("id: #0a1b2c3d4e:{number}\n")
}

/// A batch is an event a line.
fn lines(body: &Bytes) -> impl Iterator<Item = Bytes> {
    body.split(|byte| *byte == b'\n').map(|line| body.slice_ref(line))
}

async fn plain(State(send): State<broadcast::Sender<Bytes>>) -> impl IntoResponse {
    let events = stream::unfold(send.subscribe(), |mut receive| async move {
        loop {
            match receive.recv().await {
                Ok(data) => {
                    let event = Event::default().data(String::from_utf8_lossy(&data));
                    return Some((Ok::<_, Infallible>(event), receive));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn batched(State(send): State<broadcast::Sender<Bytes>>) -> Response {
    let chunks = stream::unfold(send.subscribe(), |mut receive| async move {
        let first = loop {
            match receive.recv().await {
                Ok(event) => break event,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        let mut chunk = BytesMut::from(&first[..]);
        while chunk.len() < BATCH_BYTES
            && let Ok(event) = receive.try_recv()
        {
            chunk.extend_from_slice(&event);
        }
        Some((Ok::<_, Infallible>(chunk.freeze()), receive))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

/// More than a run has: its publisher waits for all subscribers together, and one of them may be far behind.
const CHANNEL_EVENTS: usize = 128 * 1024;
const BATCH_BYTES: usize = 16 * 1024;
