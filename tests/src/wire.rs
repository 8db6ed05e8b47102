//! A connection over TCP on which a test says whatever it likes.

use std::{net::SocketAddr, os::fd::AsFd, path::Path, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::{TestHub, soon, tls};

/// Bytes in, bytes out.
pub struct Wire {
    stream: Box<dyn Stream>,
    socket: socket2::Socket,
    buffer: Vec<u8>,
}

/// An answer of HTTP/1.
#[derive(Debug)]
pub struct WireAnswer {
    /// The status.
    pub status: StatusCode,
    /// The head, from the status line to the empty line.
    pub head: String,
    /// The body, without its chunks' marks.
    pub body: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Wire {
    /// To the cleartext port.
    pub async fn cleartext(hub: &TestHub) -> Self {
        let stream = tcp(hub.running().http().expect("it serves http")).await;
        Self::new(socket(&stream), stream)
    }

    /// To the TLS port, without TLS.
    pub async fn to_tls_port(hub: &TestHub) -> Self {
        let stream = tcp(hub.running().https().expect("it serves https")).await;
        Self::new(socket(&stream), stream)
    }

    /// To the port of whoever asks for metrics.
    pub async fn to_metrics(hub: &TestHub) -> Self {
        let stream = tcp(hub.running().metrics().expect("it serves metrics")).await;
        Self::new(socket(&stream), stream)
    }

    /// To a socket of the operator's.
    pub async fn to_socket(path: &Path) -> Self {
        let stream = soon(UnixStream::connect(path)).await.expect("a connection");
        Self::new(socket(&stream), stream)
    }

    /// To the TLS port, with TLS and these protocols.
    pub async fn tls(hub: &TestHub, alpn: &[&[u8]]) -> Self {
        let stream = tcp(hub.running().https().expect("it serves https")).await;
        let socket = socket(&stream);
        let connector = TlsConnector::from(Arc::new(tls::config(alpn)));
        Self::new(socket, soon(connector.connect(tls::server_name(), stream)).await.expect("a handshake"))
    }

    fn new(socket: socket2::Socket, stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), socket, buffer: Vec::new() }
    }

    /// Sends bytes. Whether they arrive is the hub's business: it may have hung up.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = soon(self.stream.write_all(bytes.as_ref())).await.is_ok();
        sent && soon(self.stream.flush()).await.is_ok()
    }

    /// Says that nothing more will come, and goes on reading.
    pub async fn half_close(&mut self) {
        let _ = soon(self.stream.shutdown()).await;
    }

    /// Cuts the connection off with a reset.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Reads until a text has come; what comes after it stays.
    ///
    /// # Panics
    /// If the connection ends before.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self.buffer.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let taken = self.buffer.drain(..at + text.len()).collect();
                return String::from_utf8(taken).expect("text");
            }
            let more = soon(self.read()).await;
            assert!(more, "the connection ended with {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads an answer of HTTP/1 with a length, or with chunks.
    pub async fn answer(&mut self) -> WireAnswer {
        let head = self.until("\r\n\r\n").await;
        let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
        let lower = head.to_ascii_lowercase();
        let length = lower.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = Vec::new();
        if let Some(length) = length {
            body = self.exactly(length).await;
        } else if lower.contains("transfer-encoding: chunked") {
            loop {
                let length = self.until("\r\n").await;
                let length = usize::from_str_radix(length.trim(), 16).expect("a chunk's length");
                body.extend(self.exactly(length).await);
                self.until("\r\n").await;
                if length == 0 {
                    break;
                }
            }
        }
        WireAnswer { status, head, body }
    }

    /// Reads to the end, orderly or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        while soon(self.read()).await {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the hub ends the connection within a time; what it says before is read.
    pub async fn ends_within(&mut self, bound: Duration) -> bool {
        tokio::time::timeout(bound, async { while self.read().await {} }).await.is_ok()
    }

    async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(soon(self.read()).await, "the connection ended early");
        }
        self.buffer.drain(..count).collect()
    }

    async fn read(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|count| count > 0)
    }
}

fn socket(stream: &impl AsFd) -> socket2::Socket {
    socket2::SockRef::from(stream).try_clone().expect("a descriptor")
}

/// A TCP connection.
pub async fn tcp(address: SocketAddr) -> TcpStream {
    soon(TcpStream::connect(address)).await.expect("a connection")
}
