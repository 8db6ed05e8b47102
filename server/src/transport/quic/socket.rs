//! The UDP socket under an endpoint.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSliceMut},
    net::UdpSocket,
    os::fd::AsRawFd,
    task::{Context, Poll, ready},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::{Interest, unix::AsyncFd};

use super::spread::Place;

/// A UDP socket that is watched for what comes in, and for room to send only while there is none: the system tells whoever watches for
/// room of each packet that has left, and a thread that is woken for nothing as often as packets are sent costs a fourth of all that they do.
#[derive(Debug)]
pub(super) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    place: Place,
    room: Room<UdpSocket>,
    /// The last packets were passed on by others.
    took_passed: Cell<bool>,
    /// Bound to one address, which is where packets come from without being told so, each time.
    has_one_address: bool,
    /// As a socket is to which more is written than leaves. On loopback none ever is.
    #[cfg(test)]
    pub(super) is_full: Cell<bool>,
}

impl Socket {
    /// Must be called on a tokio runtime, whose thread is woken for what comes in.
    pub(super) fn new(socket: UdpSocket, place: Place) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let has_one_address = !socket.local_addr()?.ip().is_unspecified();
        let io = watch(socket, Interest::READABLE)?;
        Ok(Self {
            io,
            state,
            place,
            room: Room::default(),
            took_passed: Cell::default(),
            has_one_address,
            #[cfg(test)]
            is_full: Cell::default(),
        })
    }

    /// Sends, or says that there is no room; then [`Socket::poll_room`] tells when there is. What fails otherwise is lost.
    pub(super) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.room.try_send(self.io.get_ref(), UdpSocket::try_clone, |socket| self.send(socket, transmit))
    }

    /// Sends what is lost where there is no room, for which nobody waits.
    pub(super) fn send_or_lose(&self, transmit: &Transmit<'_>) {
        let _ = self.send(self.io.get_ref(), transmit);
    }

    fn send(&self, socket: &UdpSocket, transmit: &Transmit<'_>) -> io::Result<()> {
        #[cfg(test)]
        if self.is_full.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let src_ip = transmit.src_ip.filter(|_| !self.has_one_address);
        self.state.send(socket.into(), &Transmit { src_ip, ..transmit.clone() })
    }

    #[cfg(test)]
    pub(super) fn is_watched_for_room(&self) -> bool {
        self.room.watched.borrow().is_some()
    }

    /// Ready when a socket that had no room may have some.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.room.poll(cx)
    }

    /// What has come here, and what others have passed on, in turns: who floods another's socket isn't to keep this one from being read.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.took_passed.take()
            && let Poll::Ready(received) = self.poll_socket(cx, bufs, meta)
        {
            return Poll::Ready(received);
        }
        if let Poll::Ready(passed) = self.place.poll_passed(cx, bufs, meta) {
            self.took_passed.set(true);
            return Poll::Ready(Ok(passed));
        }
        self.poll_socket(cx, bufs, meta)
    }

    fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.io.poll_read_ready(cx))?;
            let Ok(received) = readable.try_io(|io| self.state.recv(io.get_ref().into(), bufs, meta)) else { continue };
            let received = received?;
            if received < bufs.len() {
                // That was all: to ask once more, to be told so, would take as long. What comes from now on is told anew.
                readable.clear_ready();
            }
            bufs.iter_mut().zip(meta).take(received).for_each(|(buffer, meta)| self.place.sort(buffer, meta));
            return Poll::Ready(Ok(received));
        }
    }

    /// Datagrams that the system sends in one call.
    pub(super) fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Datagrams that it gives as one.
    pub(super) fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    pub(super) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Whether a socket has room for more, which is watched for only from the first packet that finds none on, until there is some.
#[derive(Debug)]
struct Room<S: AsRawFd> {
    watched: RefCell<Option<AsyncFd<S>>>,
}

impl<S: AsRawFd> Default for Room<S> {
    fn default() -> Self {
        Self { watched: RefCell::default() }
    }
}

impl<S: AsRawFd> Room<S> {
    /// Sends, or begins to watch for room. `duplicate` gives the same socket another descriptor; where there is none left, the packet is lost.
    fn try_send(
        &self,
        socket: &S,
        duplicate: impl FnOnce(&S) -> io::Result<S>,
        send: impl FnOnce(&S) -> io::Result<()>,
    ) -> io::Result<()> {
        let sent = send(socket);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            && self.watched.borrow().is_none()
        {
            match duplicate(socket).and_then(|socket| watch(socket, Interest::WRITABLE)) {
                Ok(fd) => drop(self.watched.replace(Some(fd))),
                Err(error) => {
                    tracing::debug!(%error, "a packet is lost: the socket is full, and can't be watched for room");
                    return Ok(());
                }
            }
        }
        sent
    }

    /// Ready when there may be room.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(watched) = &*self.watched.borrow() {
            // A failure is one that the next packet finds, too.
            let _ = ready!(watched.poll_write_ready(cx)).map(|mut ready| ready.retain_ready());
        }
        drop(self.watched.take());
        Poll::Ready(())
    }
}

#[expect(deprecated, reason = "what it is deprecated for is a type that doesn't own its descriptor")]
fn watch<S: AsRawFd>(socket: S, interest: Interest) -> io::Result<AsyncFd<S>> {
    AsyncFd::with_interest(socket, interest)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, net::Ipv4Addr, os::unix::net::UnixDatagram, sync::Arc};

    use super::*;

    fn send(socket: &UnixDatagram) -> io::Result<()> {
        socket.send(&[0; 1024]).map(drop)
    }

    #[tokio::test]
    async fn what_others_pass_on_does_not_keep_a_socket_from_being_read() {
        let places = Place::all(2, &Arc::default());
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        udp.set_nonblocking(true).unwrap();
        let address = udp.local_addr().unwrap();
        let socket = Socket::new(udp, places[0].clone()).unwrap();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"here", address).unwrap();
        drop(socket.io.readable().await.unwrap());
        for _ in 0..10 {
            let mut meta = RecvMeta { len: 20, stride: 20, ..RecvMeta::default() };
            places[1].sort(&mut [&[0x40, 0][..], &[0; 18]].concat(), &mut meta);
        }
        let mut lens = Vec::new();
        for _ in 0..11 {
            let (mut buffer, mut metas) = ([0; 64], [RecvMeta::default()]);
            let mut buffers = [IoSliceMut::new(&mut buffer)];
            let received = poll_fn(|cx| socket.poll_recv(cx, &mut buffers, &mut metas)).await.unwrap();
            assert_eq!(received, 1);
            lens.push(metas[0].len);
        }
        assert_eq!(lens[..3], [20, 4, 20]);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut buffer, mut metas) = ([0; 64], [RecvMeta::default()]);
        assert!(socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buffer)], &mut metas).is_pending());
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
            assert!(room.watched.borrow().is_none(), "watched after {sent}, with room");
            sent += 1;
        }
        for _ in 0..3 {
            assert_eq!(try_send().unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert!(room.watched.borrow().is_some());
            let mut waiting = std::pin::pin!(poll_fn(|cx| room.poll(cx)));
            let pending = futures_util::poll!(&mut waiting).is_pending();
            assert!(pending, "there is room in a full socket");
            for _ in 0..sent {
                peer.recv(&mut [0; 1024]).unwrap();
            }
            waiting.await;
            assert!(room.watched.borrow().is_none(), "there is room, and it is watched for");
            for _ in 0..sent {
                try_send().unwrap();
            }
        }
    }
}
