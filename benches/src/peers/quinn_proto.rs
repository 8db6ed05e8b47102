//! The floor under WebTransport: quinn-proto, which is QUIC without sockets, clocks or tasks, in a plain loop on one thread. No runtime, no
//! locks, and of HTTP/3 what a client needs to take a session for one.

mod http3;
mod session;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, IoSliceMut},
    net::{TcpListener, UdpSocket},
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use quinn::{
    crypto::rustls::QuicServerConfig,
    udp::{self, BATCH_SIZE, RecvMeta, UdpSocketState},
};
use quinn_proto::{
    ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, Transmit,
    TransportConfig, VarInt,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use socket2::SockRef;

use super::{identity, post::Publisher, quinn::Form};
use session::{Published, Session};

pub(super) fn serve(form: Form) -> Result<()> {
    let mut floor = Floor::new(form)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // The load looks for datagrams where it has asked for them.
    let query = if form == Form::Datagrams { "?delivery=datagram" } else { "" };
    println!("http://{} feed=https://{}/sub{query}", listener.local_addr()?, floor.wire.socket.local_addr()?);
    let mut publishers: Vec<Publisher> = Vec::new();
    loop {
        let mut ready = {
            let mut fds = vec![PollFd::new(&floor.wire.socket, PollFlags::IN), PollFd::new(&listener, PollFlags::IN)];
            fds.extend(publishers.iter().map(|publisher| PollFd::from_borrowed_fd(publisher.as_fd(), PollFlags::IN)));
            match poll(&mut fds, floor.wait().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter()
        };
        if ready.next() == Some(true) {
            floor.receive()?;
        }
        floor.time_out();
        let is_new = ready.next() == Some(true);
        // One that is gone is forgotten.
        publishers.retain_mut(|publisher| ready.next() != Some(true) || matches!(floor.publish(publisher), Ok(true)));
        if is_new {
            publishers.push(Publisher::new(listener.accept()?.0)?);
        }
    }
}

/// Everything but the publishers.
struct Floor {
    form: Form,
    endpoint: Endpoint,
    wire: Wire,
    received: Box<[u8]>,
    /// By the number of their connection.
    sessions: Vec<Option<Box<Session>>>,
    published: Published,
    /// When to look at a connection again, and at which; a session knows which of its entries still counts.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Those that packets have come for.
    stirred: Vec<usize>,
}

/// The way out.
struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    /// What goes out next, of whichever connection.
    packets: Vec<u8>,
}

impl Floor {
    fn new(form: Form) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        let state = UdpSocketState::new((&socket).into())?;
        let config = EndpointConfig::default();
        let received =
            vec![0; config.get_max_udp_payload_size() as usize * state.gro_segments() * BATCH_SIZE].into_boxed_slice();
        let endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server()?)), !state.may_fragment(), None);
        Ok(Self {
            form,
            endpoint,
            wire: Wire { socket, state, packets: Vec::new() },
            received,
            sessions: Vec::new(),
            published: Published::default(),
            timers: BinaryHeap::new(),
            stirred: Vec::new(),
        })
    }

    /// Until the first timer; without one for ever.
    fn wait(&self) -> Option<Timespec> {
        let Reverse((at, _)) = self.timers.peek()?;
        Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()
    }

    /// Takes in what one system call gives, and answers it.
    fn receive(&mut self) -> Result<()> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut received = std::mem::take(&mut self.received);
        let count = {
            let mut buffers = received.chunks_exact_mut(received.len() / BATCH_SIZE).map(IoSliceMut::new);
            let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            self.wire.state.recv((&self.wire.socket).into(), &mut buffers, &mut metas)
        };
        let now = Instant::now();
        let each = received.len() / BATCH_SIZE;
        for (meta, buffer) in metas.iter().zip(received.chunks_exact(each)).take(*count.as_ref().unwrap_or(&0)) {
            let mut all = BytesMut::from(&buffer[..meta.len]);
            while !all.is_empty() {
                let packet = all.split_to(meta.stride.min(all.len()));
                self.packet(now, meta, packet);
            }
        }
        self.received = received;
        let mut stirred = std::mem::take(&mut self.stirred);
        for number in stirred.drain(..) {
            self.drive(now, number);
        }
        self.stirred = stirred;
        match count {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn packet(&mut self, now: Instant, meta: &RecvMeta, packet: BytesMut) {
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        self.wire.packets.clear();
        match self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, packet, &mut self.wire.packets) {
            Some(DatagramEvent::ConnectionEvent(ConnectionHandle(number), event)) => {
                if let Some(session) = self.sessions.get_mut(number).and_then(Option::as_mut) {
                    session.connection.handle_event(event);
                    if !std::mem::replace(&mut session.stirred, true) {
                        self.stirred.push(number);
                    }
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut self.wire.packets, None) {
                    Ok((ConnectionHandle(number), connection)) => {
                        if self.sessions.len() <= number {
                            self.sessions.resize_with(number + 1, || None);
                        }
                        self.sessions[number] = Some(Box::new(Session::new(connection)));
                        self.stirred.push(number);
                    }
                    Err(error) => error.response.iter().for_each(|response| self.wire.send(response)),
                }
            }
            Some(DatagramEvent::Response(response)) => self.wire.send(&response),
            None => {}
        }
    }

    fn time_out(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, number))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if let Some(session) = self.sessions.get_mut(number).and_then(Option::as_mut)
                && session.looked_at == Some(at)
            {
                session.looked_at = None;
                // What it waited for may have been put off since.
                if session.connection.poll_timeout().is_some_and(|due| due <= now) {
                    session.connection.handle_timeout(now);
                }
                self.drive(now, number);
            }
        }
    }

    /// Does whatever a connection has to do after something has come for it, or its time.
    fn drive(&mut self, now: Instant, number: usize) {
        let Some(session) = self.sessions.get_mut(number).and_then(Option::as_mut) else { return };
        session.stirred = false;
        loop {
            session.take_note(self.form, &self.published);
            self.wire.send_all(now, session);
            let mut is_told = false;
            while let Some(event) = session.connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(ConnectionHandle(number), event) {
                    session.connection.handle_event(event);
                    is_told = true;
                }
            }
            if !is_told {
                break;
            }
        }
        if session.connection.is_drained() {
            self.sessions[number] = None;
        } else {
            self.set_timer(number);
        }
    }

    /// Whether the publisher is still there.
    fn publish(&mut self, publisher: &mut Publisher) -> Result<bool> {
        let Some(body) = publisher.read()? else { return Ok(false) };
        let datagrams = if self.form == Form::Datagrams { http3::datagrams(&body) } else { Vec::new() };
        self.published.push(Bytes::from(body));
        let now = Instant::now();
        for number in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[number] else { continue };
            if session.deliver(&self.published, &datagrams) {
                self.wire.send_all(now, session);
                self.set_timer(number);
            }
        }
        publisher.answer()?;
        Ok(true)
    }

    /// An entry for each packet would cost more than one that is looked at for nothing now and then.
    fn set_timer(&mut self, number: usize) {
        let Some(session) = self.sessions.get_mut(number).and_then(Option::as_mut) else { return };
        if let Some(due) = session.connection.poll_timeout()
            && session.looked_at.is_none_or(|at| due < at)
        {
            session.looked_at = Some(due);
            self.timers.push(Reverse((due, number)));
        }
    }
}

impl Wire {
    /// Sends what a connection has to send now.
    fn send_all(&mut self, now: Instant, session: &mut Session) {
        let datagrams_max = self.state.max_gso_segments().min(SEGMENTS_MAX);
        loop {
            self.packets.clear();
            match session.connection.poll_transmit(now, datagrams_max, &mut self.packets) {
                Some(transmit) => self.send(&transmit),
                None => return,
            }
        }
    }

    fn send(&self, transmit: &Transmit) {
        let transmit = udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &self.packets[..transmit.size],
            segment_size: transmit.segment_size,
            // The socket is bound to it.
            src_ip: None,
        };
        // What finds no room is lost, as on any way, and QUIC sends it again.
        let _ = self.state.send((&self.socket).into(), &transmit);
    }
}

/// What the hub's endpoint has, where it matters: the windows, the streams that are allowed, and so allocated, ahead, and timers.
/// Congestion control (Cubic), MTU discovery and the cipher suite are the defaults, here as there.
fn server() -> Result<ServerConfig> {
    let (chain, key) = identity::make()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE)?))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES);
    let crypto = QuicServerConfig::try_from(tls).context("no cipher suite for QUIC")?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(Arc::new(transport));
    Ok(server)
}

const BIDI_STREAMS_MAX: u32 = 8;
const UNI_STREAMS_MAX: u32 = 6;
const IDLE: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const STREAM_RECEIVE_WINDOW_BYTES: u32 = 128 * 1024;
const RECEIVE_WINDOW_BYTES: u32 = 384 * 1024;
const SEND_WINDOW_BYTES: u64 = 256 * 1024;
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// As many as quinn sends in one go. They share one buffer here, and cost nothing to keep.
const SEGMENTS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use rustls::{
        Side,
        crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384},
        quic::{Keys, Version},
    };

    use super::*;

    /// `cargo test --release -p fanwire-bench encryption_costs -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn encryption_costs() {
        for (name, suite) in [("AES-128", TLS13_AES_128_GCM_SHA256), ("AES-256", TLS13_AES_256_GCM_SHA384)] {
            let suite = suite.tls13().unwrap();
            let keys = |side| Keys::initial(Version::V1, suite, suite.quic.unwrap(), &[7; 8], side);
            let (ours, theirs) = (keys(Side::Server), keys(Side::Client));
            for (what, bytes) in [("an event of 128 bytes", 140), ("an acknowledgement", 12)] {
                let begun = Instant::now();
                for number in 0..ROUNDS {
                    let (mut header, mut payload) = ([0x41; HEADER_BYTES], vec![7; bytes]);
                    let tag = ours.local.packet.encrypt_in_place(number, &header, &mut payload).unwrap();
                    payload.extend_from_slice(tag.as_ref());
                    let (first, rest) = header.split_at_mut(1);
                    let place = &mut rest[HEADER_BYTES - 3..];
                    ours.local.header.encrypt_in_place(&payload[..16], &mut first[0], place).unwrap();
                    black_box((&header, &payload));
                }
                let sealed = begun.elapsed();
                let (header, mut payload) = ([0x41; HEADER_BYTES], vec![7; bytes]);
                let tag = ours.local.packet.encrypt_in_place(1, &header, &mut payload).unwrap();
                payload.extend_from_slice(tag.as_ref());
                let begun = Instant::now();
                for _ in 0..ROUNDS {
                    let (mut first, mut place, mut payload) = ([0x41], [0x41; 2], payload.clone());
                    theirs.remote.header.decrypt_in_place(&payload[..16], &mut first[0], &mut place).unwrap();
                    theirs.remote.packet.decrypt_in_place(1, &header, &mut payload).unwrap();
                    black_box(&payload);
                }
                let each = |took: Duration| took.as_nanos() / u128::from(ROUNDS);
                println!("{name}, {what}: {} ns to seal, {} ns to open", each(sealed), each(begun.elapsed()));
            }
        }
    }

    const ROUNDS: u64 = 1_000_000;
    /// Flags, a connection id, and two bytes of a packet number.
    const HEADER_BYTES: usize = 11;
}
