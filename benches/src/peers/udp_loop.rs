//! The floor under QUIC: what the kernel takes for a datagram to every subscriber and an acknowledgement from each.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use fanwire_bench::load::{ACK, HELLO};

use super::post::{self, Request};

pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // A burst of acknowledgements is as large as the burst of events.
    socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES)?;
    println!("http://{} feed=udp://{}", listener.local_addr()?, socket.local_addr()?);
    let peers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let sending = socket.try_clone()?;
    {
        let peers = peers.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 64];
            loop {
                match socket.recv_from(&mut datagram) {
                    Ok((len, peer)) if &datagram[..len] == HELLO => {
                        peers.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
                        let _ = socket.send_to(ACK, peer);
                    }
                    // An acknowledgement; or one who is gone.
                    _ => {}
                }
            }
        });
    }
    for stream in listener.incoming() {
        if let Ok(Request::Post(mut publisher, mut data)) = post::read(stream?) {
            loop {
                for peer in &*peers.lock().unwrap_or_else(PoisonError::into_inner) {
                    let _ = sending.send_to(&data, peer);
                }
                match publisher.next() {
                    Ok(Some(next)) => data = next,
                    _ => break,
                }
            }
        }
    }
    Ok(())
}

const BUFFER_BYTES: usize = 4 * 1024 * 1024;
