//! A QUIC connection on which a test speaks as much HTTP/3 and WebTransport as it likes, and as badly.

use std::net::Ipv4Addr;

use fanwire_protocol::frame::{Decoder, Frame, PAYLOAD_BYTES_MAX, get_varint, put_varint};
use http::StatusCode;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::{Mutex, mpsc};

use crate::{TestHub, soon, tls};

/// A connection whose streams are all within reach.
#[derive(Debug)]
pub struct RawHttp3 {
    /// The connection itself.
    pub connection: quinn::Connection,
    /// The hub's name.
    pub authority: String,
    /// The hub's streams of sessions, each with its session's id.
    sessions: Mutex<mpsc::Receiver<(u64, RecvStream)>>,
    /// HTTP/3's control stream, on which SETTINGS were sent.
    pub control: SendStream,
    _endpoint: quinn::Endpoint,
}

/// A session that was accepted.
#[derive(Debug)]
pub struct RawSession {
    /// The id: that of the stream of its CONNECT.
    pub id: u64,
    /// The stream of the CONNECT, which carries capsules.
    pub connect: (SendStream, RecvStream),
    /// The feed, once the hub has opened it.
    pub feed: RawFeed,
}

/// The hub's stream of frames.
#[derive(Debug)]
pub struct RawFeed {
    stream: RecvStream,
    decoder: Decoder,
}

impl RawHttp3 {
    /// Connects, and says that it knows WebTransport.
    pub async fn connect(hub: &TestHub) -> Self {
        Self::with(hub, quinn::TransportConfig::default()).await
    }

    /// The same, with a transport of the test's.
    pub async fn with(hub: &TestHub, transport: quinn::TransportConfig) -> Self {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let address = hub.running().https().expect("it serves https");
        let mut config = tls::quic_config();
        config.transport_config(std::sync::Arc::new(transport));
        let connecting = endpoint.connect_with(config, address, "127.0.0.1").expect("a configuration");
        let connection = soon(connecting).await.expect("a handshake");
        let mut control = connection.open_uni().await.expect("a stream");
        control.write_all(SETTINGS).await.expect("written");
        let (sender, sessions) = mpsc::channel(64);
        tokio::spawn(sort(connection.clone(), sender));
        let sessions = Mutex::new(sessions);
        Self { connection, authority: address.to_string(), sessions, control, _endpoint: endpoint }
    }

    /// Sends the head of a request.
    pub async fn request(&self, fields: &[(&str, &str)]) -> (SendStream, RecvStream) {
        self.try_request(fields).await.expect("a connection that lives")
    }

    /// The same; none if the hub has hung up.
    pub async fn try_request(&self, fields: &[(&str, &str)]) -> Option<(SendStream, RecvStream)> {
        let (mut send, recv) = soon(self.connection.open_bi()).await.ok()?;
        send.write_all(&head(fields)).await.ok()?;
        Some((send, recv))
    }

    /// A `GET`; gives its status, and the stream of its body.
    pub async fn get(&self, path: &str) -> (StatusCode, RecvStream) {
        let fields = [(":method", "GET"), (":scheme", "https"), (":authority", &self.authority), (":path", path)];
        let (mut send, mut recv) = self.request(&fields).await;
        send.finish().expect("open");
        (status(&mut recv).await, recv)
    }

    /// The CONNECT of a session; gives its status.
    pub async fn try_session(&self, path: &str, more: &[(&str, &str)]) -> (StatusCode, SendStream, RecvStream) {
        let mut fields = vec![
            (":method", "CONNECT"),
            (":protocol", "webtransport"),
            (":scheme", "https"),
            (":authority", &*self.authority),
            (":path", path),
        ];
        fields.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        fields.splice(0..0, more.iter().copied().filter(|(name, _)| name.starts_with(':')));
        fields.extend(more.iter().copied().filter(|(name, _)| !name.starts_with(':')));
        let (send, mut recv) = self.request(&fields).await;
        (status(&mut recv).await, send, recv)
    }

    /// A session, and its feed.
    pub async fn session(&self, path: &str) -> RawSession {
        let (status, send, recv) = self.try_session(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let id = VarInt::from(send.id()).into_inner();
        let (owner, stream) = soon(self.next_stream()).await;
        assert_eq!(owner, id, "the feed of another session");
        RawSession { id, connect: (send, recv), feed: RawFeed { stream, decoder: Decoder::new(PAYLOAD_BYTES_MAX) } }
    }

    /// The next stream of the hub's, and its session.
    pub async fn next_stream(&self) -> (u64, RecvStream) {
        self.sessions.lock().await.recv().await.expect("a connection that lives")
    }

    /// A bidirectional stream of a session.
    pub async fn open_bi(&self, session: u64) -> (SendStream, RecvStream) {
        let (mut send, recv) = soon(self.connection.open_bi()).await.expect("a stream");
        let mut prefix = Vec::new();
        put_varint(&mut prefix, 0x41);
        put_varint(&mut prefix, session);
        send.write_all(&prefix).await.expect("written");
        (send, recv)
    }

    /// A unidirectional stream of a session.
    pub async fn open_uni(&self, session: u64) -> SendStream {
        let mut send = soon(self.connection.open_uni()).await.expect("a stream");
        let mut prefix = Vec::new();
        put_varint(&mut prefix, 0x54);
        put_varint(&mut prefix, session);
        send.write_all(&prefix).await.expect("written");
        send
    }
}

impl RawSession {
    /// How the hub closes the session: its code and its reason; none if it does so without a capsule.
    pub async fn closed(&mut self) -> Option<(u32, String)> {
        closed(&mut self.connect.1).await
    }
}

impl RawFeed {
    /// The feed on a stream whose head was read.
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: Decoder::new(PAYLOAD_BYTES_MAX) }
    }

    /// The next frame; none at the end of the stream, orderly or not.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().expect("a frame") {
                return Some(frame);
            }
            let chunk = soon(self.stream.read_chunk(64 * 1024, true)).await.ok()??;
            self.decoder.feed(&chunk.bytes);
        }
    }

    /// The next frame of a type, as JSON; frames of other types are skipped.
    pub async fn json(&mut self, kind: u64) -> serde_json::Value {
        // Heartbeats come for ever.
        soon(async {
            loop {
                let frame = self.next().await.expect("a feed that goes on");
                if frame.kind == kind {
                    return serde_json::from_slice(&frame.payload).expect("JSON");
                }
            }
        })
        .await
    }
}

/// A frame of the control stream.
pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, kind);
    put_varint(&mut out, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

/// Reads the CLOSE_WEBTRANSPORT_SESSION capsule at the end of a CONNECT's stream, if there is one.
pub async fn closed(recv: &mut RecvStream) -> Option<(u32, String)> {
    let bytes = soon(recv.read_to_end(64 * 1024)).await.ok()?;
    let (mut input, mut capsules) = (&bytes[..], Vec::new());
    while let (Some(kind), Some(len)) = (get_varint(&mut input), get_varint(&mut input)) {
        let (payload, rest) = input.split_at(len as usize);
        if kind == 0 {
            capsules.extend_from_slice(payload);
        }
        input = rest;
    }
    let mut input = &capsules[..];
    while let (Some(kind), Some(len)) = (get_varint(&mut input), get_varint(&mut input)) {
        let (payload, rest) = input.split_at(len as usize);
        if kind == 0x2843 {
            let (code, reason) = payload.split_first_chunk::<4>()?;
            return Some((u32::from_be_bytes(*code), String::from_utf8(reason.to_vec()).ok()?));
        }
        input = rest;
    }
    None
}

/// Gives the streams of sessions on, and reads HTTP/3's own into nothing.
async fn sort(connection: quinn::Connection, sessions: mpsc::Sender<(u64, RecvStream)>) {
    while let Ok(mut stream) = connection.accept_uni().await {
        let sessions = sessions.clone();
        tokio::spawn(async move {
            if varint(&mut stream).await == Some(0x54) {
                if let Some(session) = varint(&mut stream).await {
                    let _ = sessions.send((session, stream)).await;
                }
            } else {
                let _ = stream.read_to_end(usize::MAX).await;
            }
        });
    }
}

async fn varint(stream: &mut RecvStream) -> Option<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes[..1]).await.ok()?;
    let len = 1 << (bytes[0] >> 6);
    stream.read_exact(&mut bytes[1..len]).await.ok()?;
    get_varint(&mut &bytes[..len])
}

/// A HEADERS frame, every field a literal. [RFC 9204 §4.5.6]
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in fields {
        prefixed(&mut section, 0x20, 3, name.len());
        section.extend_from_slice(name.as_bytes());
        prefixed(&mut section, 0, 7, value.len());
        section.extend_from_slice(value.as_bytes());
    }
    frame(0x01, &section)
}

/// An integer with a prefix. [RFC 7541 §5.1]
fn prefixed(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let max = (1 << bits) - 1;
    if value < max {
        return out.push(flags | value as u8);
    }
    out.push(flags | max as u8);
    let mut rest = value - max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a response's head. Only the statuses are known that the static table has. [RFC 9204 Appendix A]
async fn status(recv: &mut RecvStream) -> StatusCode {
    soon(async {
        assert_eq!(varint(recv).await, Some(1), "a HEADERS frame");
        let len = varint(recv).await.expect("its length");
        let mut section = vec![0; len as usize];
        recv.read_exact(&mut section).await.expect("its section");
        let status = match section[2..] {
            [0xd9, ..] => 200,
            [0xdb, ..] => 404,
            [0xdc, ..] => 503,
            [0xff, 1, ..] => 204,
            [0xff, 4, ..] => 400,
            [0xff, 5, ..] => 403,
            [0xff, 8, ..] => 500,
            _ => panic!("a status that isn't known: {section:02x?}"),
        };
        StatusCode::from_u16(status).expect("a status")
    })
    .await
}

/// A control stream, and SETTINGS: extended CONNECT, datagrams, WebTransport.
const SETTINGS: &[u8] = &[0x00, 0x04, 9, 0x08, 1, 0x33, 1, 0xab, 0x60, 0x37, 0x42, 1];

/// A QUIC client for HTTP/3 that trusts the test hub.
pub fn client_config() -> quinn::ClientConfig {
    tls::quic_config()
}
