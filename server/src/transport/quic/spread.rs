//! Several endpoints on one address, each with a socket of its own.
//!
//! The system deals what comes out to the sockets by the addresses that it comes from. So a connection's packets arrive where it lives, until its
//! client has another address: then its connection id says whose it is, and it is passed on.

use std::{
    collections::VecDeque,
    io,
    net::UdpSocket,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, RandomConnectionIdGenerator};
use quinn_udp::RecvMeta;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::telemetry::{Limit, Metrics};

/// So many sockets of the address that `first` is bound to, it among them; or `first` alone where the system doesn't deal out.
///
/// No other process gets a part by accident: `first` was bound without sharing its port, as another hub's would be.
pub(super) fn sockets(first: UdpSocket, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = vec![first];
    if count > 1 && cfg!(target_os = "linux") {
        let address = sockets[0].local_addr()?;
        let only_v6 = address.is_ipv6() && SockRef::from(&sockets[0]).only_v6()?;
        SockRef::from(&sockets[0]).set_reuse_port(true)?;
        while sockets.len() < count.min(PLACES_MAX) {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
            if address.is_ipv6() {
                socket.set_only_v6(only_v6)?;
            }
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            sockets.push(socket.into());
        }
    }
    Ok(sockets)
}

/// One of the endpoints of an address, and its way to the others.
#[derive(Clone, Debug)]
pub(super) struct Place {
    index: usize,
    inboxes: Arc<[Inbox]>,
    metrics: Arc<Metrics>,
}

/// What others took in for an endpoint.
#[derive(Debug, Default)]
struct Inbox {
    packets: Mutex<VecDeque<(RecvMeta, Box<[u8]>)>>,
    reader: AtomicWaker,
}

impl Place {
    /// Those of so many endpoints.
    pub(super) fn all(count: usize, metrics: &Arc<Metrics>) -> Vec<Self> {
        let inboxes: Arc<[Inbox]> = (0..count).map(|_| Inbox::default()).collect();
        (0..count).map(|index| Self { index, inboxes: inboxes.clone(), metrics: metrics.clone() }).collect()
    }

    /// Makes ids by which packets find their way here.
    pub(super) fn connection_ids(&self) -> ConnectionIds {
        let place = u8::try_from(self.index).unwrap_or(u8::MAX);
        ConnectionIds { place, random: RandomConnectionIdGenerator::new(RANDOM_BYTES) }
    }

    /// Passes on those of some datagrams of one sender that are another endpoint's. The others are left.
    pub(super) fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let elsewhere = |packet: &[u8]| place_of(packet).filter(|at| *at != self.index && *at < self.inboxes.len());
        let stride = meta.stride.max(1);
        let all = &mut buffer[..meta.len];
        if all.chunks(stride).all(|packet| elsewhere(packet).is_none()) {
            return;
        }
        meta.len = 0;
        for from in (0..all.len()).step_by(stride) {
            let packet = from..all.len().min(from + stride);
            if let Some(at) = elsewhere(&all[packet.clone()]) {
                let len = packet.len();
                if !self.inboxes[at].push(RecvMeta { len, stride: len, ..*meta }, &all[packet]) {
                    self.metrics.reached(Limit::PassedOn);
                }
            } else {
                let len = packet.len();
                all.copy_within(packet, meta.len);
                meta.len += len;
            }
        }
    }

    /// What others have passed on, if there is any.
    pub(super) fn poll_passed(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<usize> {
        if self.inboxes.len() == 1 {
            return Poll::Pending;
        }
        let inbox = &self.inboxes[self.index];
        inbox.reader.register(cx.waker());
        let mut packets = inbox.lock();
        let mut count = 0;
        for (buffer, into) in buffers.iter_mut().zip(metas) {
            let Some((meta, packet)) = packets.pop_front() else { break };
            // All endpoints have buffers of the same size.
            let len = packet.len().min(buffer.len());
            buffer[..len].copy_from_slice(&packet[..len]);
            *into = RecvMeta { len, ..meta };
            count += 1;
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(count) }
    }
}

impl Inbox {
    /// Whether there is room for it.
    fn push(&self, meta: RecvMeta, packet: &[u8]) -> bool {
        {
            let mut packets = self.lock();
            if packets.len() >= PASSED_MAX {
                // It is lost, as on any way that is too narrow.
                return false;
            }
            packets.push_back((meta, packet.into()));
        }
        self.reader.wake();
        true
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(RecvMeta, Box<[u8]>)>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// quinn's own choice has 24 bits of randomness. A client that is asked to prove its address gets an id that quinn doesn't compare with those
/// in use, and if a connection has the same, that one gets all of the client's packets: with 50,000 connections one handshake in
/// forty would hang.
pub(super) struct ConnectionIds {
    place: u8,
    random: RandomConnectionIdGenerator,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [self.place; ID_BYTES];
        id[ID_BYTES - RANDOM_BYTES..].copy_from_slice(&self.random.generate_cid());
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// The place of the endpoint that has made the connection id of a packet, if it bears such a one. A client's first packets have an id of its
/// own making, and stay where they arrive. [RFC 8999 §5, RFC 9000 §17.2]
fn place_of(packet: &[u8]) -> Option<usize> {
    let id = match *packet {
        [first, ref id @ ..] if first & LONG_HEADER == 0 => id,
        [first, 0, 0, 0, 1, ID_LEN, ref id @ ..] if first & LONG_TYPE == TYPE_HANDSHAKE => id,
        _ => return None,
    };
    id.get(..ID_BYTES).map(|id| usize::from(id[0]))
}

/// Sent with each of a client's packets: a place, and 64 bits at random.
const ID_BYTES: usize = 1 + RANDOM_BYTES;
const RANDOM_BYTES: usize = 8;
const ID_LEN: u8 = ID_BYTES as u8;

/// A place is a byte.
const PLACES_MAX: usize = 256;

/// Packets that wait for an endpoint whose socket they didn't come to, of 1,472 bytes at most; more are lost.
const PASSED_MAX: usize = 1024;

/// [RFC 9000 §17.2]
const LONG_HEADER: u8 = 0x80;
const LONG_TYPE: u8 = 0x30;
const TYPE_HANDSHAKE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, task::Waker};

    use super::*;

    fn places(count: usize) -> Vec<Place> {
        Place::all(count, &Arc::default())
    }

    #[test]
    fn connection_ids_are_not_given_twice() {
        let mut generator = places(2)[1].connection_ids();
        let mut given = HashSet::new();
        for _ in 0..100_000 {
            assert!(given.insert(generator.generate_cid()), "after {}", given.len());
        }
    }

    #[test]
    fn packets_find_the_endpoint_that_made_their_id() {
        let id = places(3)[2].connection_ids().generate_cid();
        let short = [&[0x40], &id[..], b"protected"].concat();
        assert_eq!(place_of(&short), Some(2));
        assert_eq!(place_of(&short[..ID_BYTES]), None);
        let long = |first, version: [u8; 4]| [&[first], &version[..], &[ID_LEN], &id[..], b"rest"].concat();
        assert_eq!(place_of(&long(0xe0, [0, 0, 0, 1])), Some(2));
        for first_or_other in [long(0xc0, [0, 0, 0, 1]), long(0xd0, [0, 0, 0, 1]), long(0xe0, [0, 0, 0, 0]), vec![]] {
            assert_eq!(place_of(&first_or_other), None);
        }
    }

    #[test]
    fn of_datagrams_that_came_together_each_goes_its_way() {
        let places = places(2);
        let packet = |place: usize, len: usize| [&[0x40, place as u8][..], &vec![7; len - 2]].concat();
        let mut all = [packet(0, 20), packet(1, 20), packet(9, 20), packet(1, 20), packet(0, 12)].concat();
        let mut meta = RecvMeta { len: all.len(), stride: 20, ..RecvMeta::default() };
        places[0].sort(&mut all, &mut meta);
        assert_eq!(all[..meta.len], [packet(0, 20), packet(9, 20), packet(0, 12)].concat());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, mut other, mut metas) = ([0; 64], [0; 64], [RecvMeta::default(); 2]);
        let mut buffers = [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut other)];
        assert_eq!(places[1].poll_passed(&mut cx, &mut buffers, &mut metas), Poll::Ready(2));
        assert_eq!((metas[0].len, metas[1].len), (20, 20));
        assert_eq!(buffers[1][..20], packet(1, 20));
        assert_eq!(places[1].poll_passed(&mut cx, &mut buffers, &mut metas), Poll::Pending);
        assert_eq!(places[0].poll_passed(&mut cx, &mut buffers, &mut metas), Poll::Pending);
    }

    #[test]
    fn what_waits_for_another_endpoint_is_bounded() {
        let places = places(2);
        for _ in 0..PASSED_MAX + 10 {
            let mut meta = RecvMeta { len: 20, stride: 20, ..RecvMeta::default() };
            places[0].sort(&mut [&[0x40, 1][..], &[0; 18]].concat(), &mut meta);
            assert_eq!(meta.len, 0);
        }
        assert_eq!(places[1].inboxes[1].lock().len(), PASSED_MAX);
        assert_eq!(places[1].metrics.times_reached(Limit::PassedOn), 10);
    }

    #[test]
    fn a_port_is_shared_within_this_hub_only() {
        let sockets = sockets(UdpSocket::bind("127.0.0.1:0").unwrap(), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert!(UdpSocket::bind(address).is_err());
    }
}
