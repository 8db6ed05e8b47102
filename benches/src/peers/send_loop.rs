//! The floor: what the kernel takes for handing an event to every socket, and nothing besides.

use std::{
    io::{Read as _, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{
    h2_socket::{self, H2Socket},
    identity,
    post::{self, Publisher, Request},
};

/// What is sent through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// HTTP/1.1's chunks in TLS.
    H1,
    /// HTTP/2's frames in TLS.
    H2,
}

/// Those who get every event.
#[derive(Clone)]
struct Sockets {
    /// A thread writes to each of these.
    shares: Arc<[Mutex<Share>]>,
    in_frames: bool,
}

type Share = Vec<Box<dyn Write + Send>>;

/// A connection in TLS.
pub(super) type Secure = StreamOwned<ServerConnection, TcpStream>;

/// On so many threads.
pub(super) fn serve(threads: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("http://{address} feed=http://{address}/sub");
    accept(&listener, &Sockets::new(threads))
}

/// The same through rustls: what TLS takes for handing an event to every socket, and what the frames of HTTP/2 add to it.
pub(super) fn serve_tls(through: Through) -> Result<()> {
    let (chain, key) = identity::make()?;
    let mut config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let in_frames = through == Through::H2;
    if in_frames {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let (config, sockets) = (Arc::new(config), Sockets { in_frames, ..Sockets::new(1) });
    let (secure, publishers) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    println!("http://{} feed=https://{}/sub", publishers.local_addr()?, secure.local_addr()?);
    {
        let sockets = sockets.clone();
        std::thread::spawn(move || {
            for stream in secure.incoming().map_while(Result::ok) {
                if let Ok(socket) = subscribe(stream, config.clone(), through) {
                    sockets.add(socket);
                }
            }
        });
    }
    accept(&publishers, &sockets)
}

impl Sockets {
    fn new(shares: usize) -> Self {
        Self { shares: (0..shares).map(|_| Mutex::default()).collect(), in_frames: false }
    }

    fn add(&self, socket: Box<dyn Write + Send>) {
        let shortest = self.shares.iter().map(lock).min_by_key(|share| share.len());
        if let Some(mut share) = shortest {
            share.push(socket);
        }
    }

    fn send(&self, encoded: &[u8]) {
        let send = |share: &Mutex<Share>| {
            for socket in &mut *lock(share) {
                // One that is gone costs little. A socket has nothing to flush, and TLS has its records.
                let _ = socket.write_all(encoded).and_then(|()| socket.flush());
            }
        };
        std::thread::scope(|scope| {
            let (first, others) = self.shares.split_at(1);
            others.iter().for_each(|share| drop(scope.spawn(move || send(share))));
            first.iter().for_each(send);
        });
    }
}

fn lock(share: &Mutex<Share>) -> MutexGuard<'_, Share> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

fn subscribe(stream: TcpStream, config: Arc<ServerConfig>, through: Through) -> Result<Box<dyn Write + Send>> {
    stream.set_nodelay(true)?;
    let mut socket = StreamOwned::new(ServerConnection::new(config)?, stream);
    if through == Through::H2 {
        return Ok(Box::new(H2Socket::open(socket)?));
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).context("the peer hung up")?;
        head.push(byte[0]);
    }
    socket.write_all(HEAD)?;
    socket.flush()?;
    Ok(Box::new(socket))
}

fn accept(listener: &TcpListener, sockets: &Sockets) -> Result<()> {
    for stream in listener.incoming() {
        match post::read(stream?) {
            Ok(Request::Get(mut stream)) => {
                stream.write_all(HEAD)?;
                sockets.add(Box::new(stream));
            }
            Ok(Request::Post(publisher, data)) => {
                let sockets = sockets.clone();
                std::thread::spawn(move || publish(publisher, data, &sockets));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

fn publish(mut publisher: Publisher, mut data: Vec<u8>, sockets: &Sockets) {
    for number in 1.. {
        let event = encode(number, &data);
        let encoded = if sockets.in_frames { h2_socket::frame(&event) } else { chunk(&event) };
        sockets.send(&encoded);
        match publisher.next() {
            Ok(Some(next)) => data = next,
            _ => return,
        }
    }
}

/// An event as a hub would send it: an id, and the data.
fn encode(number: u64, data: &[u8]) -> Vec<u8> {
    let mut event = format!("id: #0a1b2c3d4e:{number}\ndata: ").into_bytes();
    event.extend_from_slice(data);
    event.extend_from_slice(b"\n\n");
    event
}

fn chunk(event: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", event.len()).into_bytes();
    chunk.extend_from_slice(event);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
