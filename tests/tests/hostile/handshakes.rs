//! QUIC handshakes that are begun and go nowhere: ten thousand at a time.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fanwire::{config::Config, telemetry::Limit};
use fanwire_tests::{Initials, Reply, Story, Way};
use socket2::SockRef;

use crate::{Memory, Witnesses};

#[tokio::test]
async fn ten_thousand_handshakes_from_forged_addresses_hold_next_to_nothing() {
    let Some((witnesses, held)) = attack(Manner::Forges, &Way::ALL).await else { return };
    assert!(held <= HANDSHAKES_UNPROVED_MAX, "{held} are held");
    let proofs_asked = witnesses.reached(Limit::Handshakes);
    assert!(proofs_asked >= (COUNT - 2 * HANDSHAKES_UNPROVED_MAX) as u64, "{proofs_asked}");
}

#[tokio::test]
async fn ten_thousand_handshakes_of_one_address_leave_room_for_others() {
    let Some((witnesses, held)) = attack(Manner::Proves { addresses: 1 }, &Way::ALL).await else { return };
    assert!(held <= HANDSHAKES_MAX / 2, "{held} are held");
    assert!(witnesses.reached(Limit::HandshakesMax) > 0);
}

#[tokio::test]
async fn ten_thousand_handshakes_of_many_addresses_are_refused_beyond_a_bound() {
    // Newcomers over QUIC may be among those that are refused, and come over TCP then.
    let ways = Way::ALL.into_iter().filter(|way| !matches!(way, Way::WebTransport | Way::SseH3));
    let Some((witnesses, held)) = attack(Manner::Proves { addresses: 100 }, &ways.collect::<Vec<_>>()).await else {
        return;
    };
    assert!(held <= HANDSHAKES_MAX, "{held} are held");
    assert!(witnesses.reached(Limit::HandshakesMax) > 0);
}

/// How an attacker goes about it.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// It never hears what the hub says to the addresses that it names.
    Forges,
    /// It has these addresses, and proves it where it is asked to.
    Proves { addresses: u8 },
}

impl Manner {
    /// When the hub gives a handshake up: late enough that all that it holds are there at the same time.
    fn given_up(self) -> Duration {
        match self {
            Self::Forges => Duration::from_secs(2),
            Self::Proves { .. } => Duration::from_secs(4),
        }
    }
}

/// Until each of ten thousand handshakes has had its answer, everybody is served, and newcomers are on these ways. Then all of them are
/// given up. Gives how many the hub has held at the most; none where that was in a process of its own.
async fn attack(manner: Manner, newcomers: &[Way]) -> Option<(Witnesses, usize)> {
    let patient = |config: &mut Config| {
        config.quic.handshake = manner.given_up();
        // A quarter of what is usual, so that a debug build doesn't take its time for their cryptography.
        config.admission.handshakes_max = HANDSHAKES_MAX;
        config.admission.handshakes_per_address_max = HANDSHAKES_MAX / 2;
    };
    let mut witnesses = Witnesses::apart(patient).await?;
    let memory = Memory::now();
    let begin = Instant::now();
    let hub = witnesses.hub.running().https().unwrap();
    let flood: JoinHandle<()> = std::thread::spawn(move || Flood::new(hub, manner).run());
    let (mut held, mut longest) = (0, Duration::ZERO);
    let mut ways = newcomers.iter().cycle();
    while !flood.is_finished() {
        let turn = Instant::now();
        witnesses.served().await;
        longest = longest.max(turn.elapsed());
        let way = ways.next().unwrap();
        let mut newcomer = way.resume(&witnesses.hub, &["witness"], "earliest").await;
        assert!(!Story::read(&mut newcomer, 3).await.events.is_empty(), "{way:?}");
        newcomer.close().await;
        held = held.max(witnesses.hub.running().handshakes());
    }
    flood.join().unwrap();
    eprintln!(
        "{manner:?}: {COUNT} were answered in {:?}, {held} were held, everybody was served within {longest:?}",
        begin.elapsed()
    );
    memory.grew_within(&format!("{COUNT} half-open QUIC handshakes, {manner:?}"), MEMORY_MAX);
    witnesses.until(|hub| hub.running().handshakes() == 0).await;
    witnesses.alone().await;
    assert!(witnesses.reached(Limit::HandshakeTime) > 0, "those that were held are given up");
    Some((witnesses, held))
}

struct Flood {
    hub: SocketAddr,
    manner: Manner,
    initials: Initials,
    sockets: Vec<UdpSocket>,
    /// How far each handshake has come.
    handshakes: Vec<Progress>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Begun,
    /// With this it can prove its address.
    Asked {
        destination: Vec<u8>,
        token: Vec<u8>,
    },
    /// The hub has begun its part, or refused it, or there is nobody to hear what it said.
    Answered,
}

impl Flood {
    fn new(hub: SocketAddr, manner: Manner) -> Self {
        let addresses = match manner {
            Manner::Forges => 100,
            Manner::Proves { addresses } => addresses,
        };
        let sockets = (0..SOCKETS).map(|index| {
            // All of 127.0.0.0/8 is this machine.
            let address = Ipv4Addr::new(127, 0, 1, u8::try_from(index % usize::from(addresses)).unwrap());
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
            socket
        });
        let sockets = sockets.collect();
        Self { hub, manner, initials: Initials::new(), sockets, handshakes: vec![Progress::Begun; COUNT] }
    }

    /// Sends, and sends what was lost again, until each handshake has had its answer.
    fn run(mut self) {
        let begin = Instant::now();
        while let left = self.handshakes.iter().filter(|progress| **progress != Progress::Answered).count()
            && left > 0
        {
            // A machine with more to do takes its time.
            assert!(begin.elapsed() < PATIENCE, "{left} aren't answered");
            for number in 0..COUNT {
                if self.handshakes[number] != Progress::Answered {
                    self.send(number);
                }
                // No faster than the hub's socket takes it.
                if number % 100 == 99 {
                    std::thread::sleep(Duration::from_millis(5));
                    self.receive();
                }
            }
        }
    }

    fn send(&self, number: usize) {
        let first = (number as u64 ^ 0xa5a5_0000_0000_5a5a).to_be_bytes();
        let (destination, token) = match &self.handshakes[number] {
            Progress::Asked { destination, token } => (&destination[..], &token[..]),
            _ => (&first[..], &[][..]),
        };
        let packet = self.initials.packet(number as u64, destination, token);
        let _ = self.sockets[number % SOCKETS].send_to(&packet, self.hub);
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        for index in 0..SOCKETS {
            while let Ok(length) = self.sockets[index].recv(&mut buffer) {
                let Some((number, reply)) = Initials::read(&buffer[..length]) else { continue };
                let number = usize::try_from(number).unwrap();
                match (reply, self.manner) {
                    (Reply::Retry { destination, token }, Manner::Proves { .. }) => {
                        if self.handshakes[number] == Progress::Begun {
                            self.handshakes[number] = Progress::Asked { destination, token };
                            self.send(number);
                        }
                    }
                    _ => self.handshakes[number] = Progress::Answered,
                }
            }
        }
    }
}

const COUNT: usize = 10_000;
const HANDSHAKES_MAX: usize = 1024;
const HANDSHAKES_UNPROVED_MAX: usize = 100;
/// 100 KiB for each that is held.
const MEMORY_MAX: usize = HANDSHAKES_MAX * 100 * 1024;
const SOCKETS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);
