//! The UDP socket under an endpoint.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::spread::{LONG_HEADER, Place};

/// A UDP socket that is watched for what comes in, and for room to send only while there is none: the system tells whoever watches for
/// room of each packet that has left, and a thread that is woken for nothing as often as packets are sent costs a fourth of all that they do.
#[derive(Debug)]
pub(super) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    place: Place,
    room: Room<UdpSocket>,
    bulk: Bulk,
    /// Bound to one address, which is where packets come from without being told so, each time.
    has_one_address: bool,
}

impl Socket {
    /// Must be called on a tokio runtime, whose thread is woken for what comes in.
    pub(super) fn new(socket: UdpSocket, place: Place) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let has_one_address = !socket.local_addr()?.ip().is_unspecified();
        let io = watch(socket, Interest::READABLE)?;
        Ok(Self { io, state, place, room: Room::default(), bulk: Bulk::default(), has_one_address })
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.bulk.sent(transmit);
        let src_ip = transmit.src_ip.filter(|_| !self.has_one_address);
        let transmit = Transmit { src_ip, ..transmit.clone() };
        self.room.try_send(self.io.get_ref(), UdpSocket::try_clone, |socket| self.state.send(socket.into(), &transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(passed) = self.place.poll_passed(cx, bufs, meta) {
            return Poll::Ready(Ok(passed));
        }
        loop {
            let mut readable = ready!(self.io.poll_read_ready(cx))?;
            let Ok(received) = readable.try_io(|io| self.state.recv(io.get_ref().into(), bufs, meta)) else { continue };
            let received = received?;
            bufs.iter_mut().zip(meta).take(received).for_each(|(buffer, meta)| self.place.sort(buffer, meta));
            return Poll::Ready(Ok(received));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.bulk.segments_max().min(self.state.max_gso_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Whether there is much to send. A connection keeps the memory for as many datagrams as it may send in one go, 1.3 KiB each, from its first
/// packet on, and most never fill a second.
#[derive(Debug, Default)]
struct Bulk {
    /// How often more may be sent in one go.
    left: AtomicUsize,
}

impl Bulk {
    fn sent(&self, transmit: &Transmit<'_>) {
        // Handshakes say nothing of what comes, nor does what just doesn't fit into one.
        let is_handshake = transmit.contents.first().is_none_or(|first| first & LONG_HEADER != 0);
        let is_full = transmit.segment_size.is_some_and(|bytes| transmit.contents.len() >= SEGMENTS_USUAL * bytes);
        if is_full && !is_handshake {
            self.left.store(BULK_SENDS, Ordering::Relaxed);
        }
    }

    fn segments_max(&self) -> usize {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return SEGMENTS_USUAL;
        }
        // A count that another thread changes meanwhile is as good.
        self.left.store(left - 1, Ordering::Relaxed);
        usize::MAX
    }
}

/// A connection's wait for room.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_none() {
            let Some(watched) = self.socket.room.watched() else { return Poll::Ready(Ok(())) };
            self.waiting =
                Some(Box::pin(async move { watched.writable().await.map(|mut ready| ready.retain_ready()) }));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let room = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(room)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

/// Whether a socket has room for more, which is watched for only from the first packet that finds none to the first that somebody waited for
/// and that goes out.
#[derive(Debug)]
struct Room<S: AsRawFd> {
    is_full: AtomicBool,
    watched: Mutex<Option<Arc<AsyncFd<S>>>>,
}

impl<S: AsRawFd> Default for Room<S> {
    fn default() -> Self {
        Self { is_full: AtomicBool::new(false), watched: Mutex::default() }
    }
}

impl<S: AsRawFd> Room<S> {
    /// Sends, or begins to watch for room. `duplicate` gives the same socket another descriptor; where there is none left, the packet is lost.
    fn try_send(
        &self,
        socket: &S,
        duplicate: impl FnOnce(&S) -> io::Result<S>,
        send: impl Fn(&S) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.is_full.load(Ordering::Acquire) {
            match send(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fd) = &*watched else {
            match duplicate(socket).and_then(|socket| watch(socket, Interest::WRITABLE)) {
                Ok(fd) => *watched = Some(Arc::new(fd)),
                Err(error) => {
                    tracing::debug!(%error, "a packet is lost: the socket is full, and can't be watched for room");
                    return Ok(());
                }
            }
            self.is_full.store(true, Ordering::Release);
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // Takes note if there is no room after all.
        let sent = fd.try_io(Interest::WRITABLE, send);
        if sent.is_ok() && Arc::strong_count(fd) == 1 {
            *watched = None;
            self.is_full.store(false, Ordering::Release);
        }
        sent
    }

    /// What to wait for, while there is no room.
    fn watched(&self) -> Option<Arc<AsyncFd<S>>> {
        if !self.is_full.load(Ordering::Acquire) {
            return None;
        }
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[expect(deprecated, reason = "what it is deprecated for is a type that doesn't own its descriptor")]
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

/// Datagrams that a connection sends in one go, until some connection has more.
const SEGMENTS_USUAL: usize = 2;

/// Sends of all connections in which they may send more in one go than that, after one that had as many datagrams.
const BULK_SENDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn send(socket: &UnixDatagram) -> io::Result<()> {
        socket.send(&[0; 1024]).map(drop)
    }

    #[tokio::test]
    async fn a_full_socket_is_watched_until_it_has_room() {
        // UDP on loopback is never full; a datagram socket of the other kind is when nobody reads it.
        let (socket, peer) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let room = Room::default();
        let try_send = || room.try_send(&socket, UnixDatagram::try_clone, send);
        let mut sent = 0;
        while try_send().is_ok() {
            assert!(room.watched().is_none(), "watched after {sent}, with room");
            sent += 1;
        }
        let watched = room.watched().expect("it is full");
        assert_eq!(try_send().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        {
            let mut waiting = std::pin::pin!(watched.writable());
            let pending = futures_util::poll!(&mut waiting).is_pending();
            assert!(pending, "there is room in a full socket");
            for _ in 0..sent {
                peer.recv(&mut [0; 1024]).unwrap();
            }
            waiting.await.unwrap().retain_ready();
        }
        drop(watched);
        try_send().unwrap();
        assert!(room.watched().is_none(), "there is room, and it is watched for");
    }

    #[test]
    fn more_is_sent_in_one_go_where_there_is_more() {
        let transmit = |contents, segment_size| Transmit {
            destination: "127.0.0.1:1".parse().unwrap(),
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        let bulk = Bulk::default();
        bulk.sent(&transmit(&[0x40; 1200], None));
        bulk.sent(&transmit(&[0x40; 1300], Some(1200)));
        bulk.sent(&transmit(&[0xc0; 2400], Some(1200)));
        assert_eq!(bulk.segments_max(), SEGMENTS_USUAL);
        bulk.sent(&transmit(&[0x40; 2400], Some(1200)));
        for _ in 0..BULK_SENDS {
            assert_eq!(bulk.segments_max(), usize::MAX);
        }
        assert_eq!(bulk.segments_max(), SEGMENTS_USUAL);
    }

    #[tokio::test]
    async fn a_full_socket_is_found_full_again_by_who_waited() {
        let (socket, peer) = UnixDatagram::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let room = Room::default();
        let try_send = || room.try_send(&socket, UnixDatagram::try_clone, send);
        while try_send().is_ok() {}
        for _ in 0..3 {
            // All who waited are told, and there is room for some only.
            let watched = room.watched().expect("it is full");
            while peer.set_nonblocking(true).is_ok() && peer.recv(&mut [0; 1024]).is_ok() {}
            watched.writable().await.unwrap().retain_ready();
            while try_send().is_ok() {}
            let mut waiting = std::pin::pin!(watched.writable());
            assert!(futures_util::poll!(&mut waiting).is_pending(), "who finds no room would try for ever");
        }
    }
}
