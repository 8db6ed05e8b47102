//! First packets of QUIC handshakes, as many as a test likes: made by hand, since a client's own would take its time for each.

use std::sync::Arc;

use rustls::{
    pki_types::ServerName,
    quic::{self, KeyChange, Suite, Version},
};

use crate::tls;

/// Makes the Initials of handshakes that are all alike but for their connection ids, and reads what comes back.
pub struct Initials {
    /// A ClientHello that says [`Initials::SOURCE`] where its sender's connection id is to be.
    hello: Vec<u8>,
    /// Where that is.
    source_at: usize,
    suite: Suite,
}

/// What came back for one of the handshakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is to prove its address: the connection id and the token to do it with.
    Retry {
        /// The hub's connection id from now on.
        destination: Vec<u8>,
        /// What is to be shown.
        token: Vec<u8>,
    },
    /// The hub has begun its part of the handshake, or has refused it: that is encrypted.
    Other,
}

impl Initials {
    /// What every handshake's source id stands for until it has its own.
    const SOURCE: [u8; 8] = *b"\xf0source\xf1";

    /// Makes one handshake, of which the others are made.
    ///
    /// # Panics
    /// If rustls can't.
    #[expect(clippy::new_without_default, reason = "it is costly")]
    pub fn new() -> Self {
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let suite = suite.tls13().and_then(|suite| suite.quic_suite()).expect("a suite of QUIC's");
        // The transport parameter initial_source_connection_id. [RFC 9000 §18.2]
        let parameters = [&[0x0f, 8][..], &Self::SOURCE].concat();
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        // With a post-quantum key share it would take two packets.
        let config = Arc::new(tls::config_without_post_quantum(&[b"h3"]));
        let mut client = quic::ClientConnection::new(config, Version::V1, name, parameters).expect("a configuration");
        let mut hello = vec![];
        let change: Option<KeyChange> = client.write_hs(&mut hello);
        assert!(change.is_none(), "it hasn't heard of the hub yet");
        let source_at = hello.windows(8).position(|bytes| bytes == Self::SOURCE).expect("it is in there");
        Self { hello, source_at, suite }
    }

    /// The first packet of the handshake with this number, to somebody whom it calls `destination`, in a datagram of its own.
    ///
    /// # Panics
    /// If the token is too long for a datagram.
    pub fn packet(&self, number: u64, destination: &[u8], token: &[u8]) -> Vec<u8> {
        let source = number.to_be_bytes();
        // [RFC 9000 §17.2.2] With a packet number of one byte, which is 0.
        let mut packet = vec![0xc0, 0, 0, 0, 1, destination.len() as u8];
        packet.extend_from_slice(destination);
        packet.push(8);
        packet.extend_from_slice(&source);
        packet.extend_from_slice(&(0x4000 | token.len() as u16).to_be_bytes());
        packet.extend_from_slice(token);
        let left = DATAGRAM_BYTES - packet.len() - 2;
        packet.extend_from_slice(&(0x4000 | left as u16).to_be_bytes());
        let number_at = packet.len();
        packet.push(0);
        // CRYPTO, from 0 on, and PADDING. [RFC 9000 §19]
        let mut payload = vec![0x06, 0];
        payload.extend_from_slice(&(0x4000 | self.hello.len() as u16).to_be_bytes());
        let hello_at = payload.len();
        payload.extend_from_slice(&self.hello);
        payload[hello_at + self.source_at..][..8].copy_from_slice(&source);
        assert!(payload.len() <= left - 1 - TAG_BYTES, "it doesn't fit into a datagram");
        payload.resize(left - 1 - TAG_BYTES, 0);
        let keys = self.suite.keys(destination, rustls::Side::Client, Version::V1);
        let tag = keys.local.packet.encrypt_in_place(0, &packet, &mut payload).expect("it fits");
        packet.extend_from_slice(&payload);
        packet.extend_from_slice(tag.as_ref());
        let (head, rest) = packet.split_at_mut(number_at);
        let (number, sealed) = rest.split_at_mut(1);
        // The sample begins four bytes behind the packet number's first. [RFC 9001 §5.4.2]
        keys.local.header.encrypt_in_place(&sealed[3..19], &mut head[0], number).expect("a sample");
        packet
    }

    /// What a datagram says, and to which of the handshakes.
    pub fn read(datagram: &[u8]) -> Option<(u64, Reply)> {
        let (&[first, v0, v1, v2, v3, len], rest) = datagram.split_first_chunk::<6>()?;
        if first & 0x80 == 0 || [v0, v1, v2, v3] != [0, 0, 0, 1] || len != 8 {
            return None;
        }
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        // [RFC 9000 §17.2.5]
        if first & 0x30 != 0x30 {
            return Some((number, Reply::Other));
        }
        let (&len, rest) = rest.split_first()?;
        let (destination, rest) = rest.split_at_checked(usize::from(len))?;
        let token = rest.get(..rest.len().checked_sub(TAG_BYTES)?)?;
        Some((number, Reply::Retry { destination: destination.to_vec(), token: token.to_vec() }))
    }
}

/// The least that a first datagram has. [RFC 9000 §14.1]
const DATAGRAM_BYTES: usize = 1200;
const TAG_BYTES: usize = 16;
