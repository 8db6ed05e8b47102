//! The floor: what the kernel takes for handing an event to every socket, and nothing besides.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;

use super::post::{self, Request};

pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("http://{address} feed=http://{address}/sub");
    let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    for stream in listener.incoming() {
        let (stream, sockets) = (stream?, sockets.clone());
        match post::read(stream) {
            Ok(Request::Get(mut stream)) => {
                stream.write_all(HEAD)?;
                sockets.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
            Ok(Request::Post(mut publisher, mut data)) => {
                std::thread::spawn(move || {
                    for number in 1.. {
                        let chunk = encode(number, &data);
                        for socket in &mut *sockets.lock().unwrap_or_else(PoisonError::into_inner) {
                            // One that is gone costs little.
                            let _ = socket.write_all(&chunk);
                        }
                        match publisher.next() {
                            Ok(Some(next)) => data = next,
                            _ => return,
                        }
                    }
                });
            }
            Err(_) => {}
        }
    }
    Ok(())
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
