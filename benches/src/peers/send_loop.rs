//! The floor: what the kernel takes for handing an event to every socket, and nothing besides.

use std::{
    io::{Read as _, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::post::{self, Publisher, Request};

/// Those who get every event.
type Sockets = Arc<Mutex<Vec<Box<dyn Write + Send>>>>;

pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("http://{address} feed=http://{address}/sub");
    accept(&listener, &Sockets::default())
}

/// The same through rustls: what TLS takes for handing an event to every socket.
pub(super) fn serve_tls() -> Result<()> {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key.into())?;
    let (config, sockets) = (Arc::new(config), Sockets::default());
    let (secure, publishers) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    println!("http://{} feed=https://{}/sub", publishers.local_addr()?, secure.local_addr()?);
    {
        let sockets = sockets.clone();
        std::thread::spawn(move || {
            for stream in secure.incoming().map_while(Result::ok) {
                if let Ok(socket) = subscribe(stream, config.clone()) {
                    sockets.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(socket));
                }
            }
        });
    }
    accept(&publishers, &sockets)
}

fn subscribe(stream: TcpStream, config: Arc<ServerConfig>) -> Result<StreamOwned<ServerConnection, TcpStream>> {
    stream.set_nodelay(true)?;
    let mut socket = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).context("the peer hung up")?;
        head.push(byte[0]);
    }
    socket.write_all(HEAD)?;
    socket.flush()?;
    Ok(socket)
}

fn accept(listener: &TcpListener, sockets: &Sockets) -> Result<()> {
    for stream in listener.incoming() {
        match post::read(stream?) {
            Ok(Request::Get(mut stream)) => {
                stream.write_all(HEAD)?;
                sockets.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(stream));
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
        let chunk = encode(number, &data);
        for socket in &mut *sockets.lock().unwrap_or_else(PoisonError::into_inner) {
            // One that is gone costs little. A socket has nothing to flush, and TLS has its records.
            let _ = socket.write_all(&chunk).and_then(|()| socket.flush());
        }
        match publisher.next() {
            Ok(Some(next)) => data = next,
            _ => return,
        }
    }
}

/// An event as a hub would send it: an id, the data, in a chunk of its own.
fn encode(number: u64, data: &[u8]) -> Vec<u8> {
    let mut event = format!("id: #0a1b2c3d4e:{number}\ndata: ").into_bytes();
    event.extend_from_slice(data);
    event.extend_from_slice(b"\n\n");
    let mut chunk = format!("{:x}\r\n", event.len()).into_bytes();
    chunk.extend_from_slice(&event);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
