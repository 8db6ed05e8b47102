//! One subscriber's connection, as light as its transport allows.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use fanwire_client::Connection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};
use url::Url;

use super::Job;
use crate::way::Way;

/// A feed, as bytes.
pub(super) enum Subscriber {
    /// HTTP/1.1 in the clear: the socket itself. Its first bytes may have come with the head.
    Socket(TcpStream, Bytes),
    /// Any other transport of a hub.
    Client(Box<Connection>),
    /// The floor under QUIC.
    Udp(UdpSocket),
}

impl Subscriber {
    pub(super) async fn open(job: &Job, url: &Url, endpoint: Option<quinn::Endpoint>) -> Result<Self> {
        let opened = async {
            match job.way.transport() {
                Some(transport) => {
                    let mut options = job.access.options(url.as_str())?;
                    options.endpoint = endpoint;
                    options.control = false;
                    options.connect_timeout = CONNECT_MAX;
                    Ok(Self::Client(Box::new(Connection::connect(transport, &options).await?)))
                }
                None if job.way == Way::Udp => datagrams(url).await,
                None => socket(url, job.access.token.as_deref()).await,
            }
        };
        tokio::time::timeout(CONNECT_MAX, Box::pin(opened)).await.context("connecting took too long")?
    }

    /// Hands the next bytes out; false at the end. `buffer` is anybody's.
    pub(super) async fn read(&mut self, buffer: &mut Buffer, take: impl FnOnce(&[u8])) -> Result<bool> {
        match self {
            Self::Socket(_, rest) if !rest.is_empty() => take(&std::mem::take(rest)),
            Self::Socket(stream, _) => loop {
                stream.readable().await?;
                // Borrowed for no longer than this: subscribers share it.
                let mut buffer = buffer.borrow_mut();
                match stream.try_read(&mut buffer) {
                    Ok(0) => return Ok(false),
                    Ok(len) => {
                        take(&buffer[..len]);
                        break;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            },
            Self::Client(connection) => match connection.next_bytes().await? {
                Some(bytes) => take(&bytes),
                None => return Ok(false),
            },
            Self::Udp(socket) => loop {
                socket.readable().await?;
                let mut buffer = buffer.borrow_mut();
                match socket.try_recv(&mut buffer) {
                    Ok(len) => {
                        take(&buffer[..len]);
                        // As QUIC does it. That an acknowledgement is lost is no matter.
                        let _ = socket.try_send(ACK);
                        break;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            },
        }
        Ok(true)
    }
}

/// One for all subscribers of a thread, so that ten thousand of them don't take a buffer each.
pub(super) type Buffer = std::rc::Rc<std::cell::RefCell<Box<[u8]>>>;

pub(super) fn buffer() -> Buffer {
    std::rc::Rc::new(std::cell::RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice()))
}

async fn socket(url: &Url, token: Option<&str>) -> Result<Subscriber> {
    let authority = url.authority();
    let port = url.port_or_known_default().context("the url has no port")?;
    let mut stream = TcpStream::connect((url.host_str().context("the url has no host")?, port)).await?;
    stream.set_nodelay(true)?;
    let path = &url[url::Position::BeforePath..];
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/event-stream\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let body_at = loop {
        ensure!(stream.read_buf(&mut head).await? > 0, "{authority} hung up");
        if let Some(at) = memchr::memmem::find(&head, b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(head.len() < HEAD_BYTES_MAX, "the head of the answer is too long");
    };
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("{url} answered {}", String::from_utf8_lossy(&head).lines().next().unwrap_or_default());
    }
    Ok(Subscriber::Socket(stream, Bytes::from(head).slice(body_at..)))
}

async fn datagrams(url: &Url) -> Result<Subscriber> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket
        .connect((url.host_str().context("the url has no host")?, url.port().context("the url has no port")?))
        .await?;
    let mut answer = [0; 16];
    socket.send(HELLO).await?;
    socket.recv(&mut answer).await?;
    Ok(Subscriber::Udp(socket))
}

/// What a subscriber of plain datagrams says first.
pub const HELLO: &[u8] = b"hello";
/// And for each datagram that it gets.
pub const ACK: &[u8] = b"ack";
const CONNECT_MAX: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 256 * 1024;
const HEAD_BYTES_MAX: usize = 64 * 1024;
