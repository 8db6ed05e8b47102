use super::*;
use crate::{
    DevDirectory, Identity, Source,
    testing::{DAY, start},
};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection, time_provider::TimeProvider,
};
use rustls_pki_types::UnixTime;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
struct Clock(SystemTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(UNIX_EPOCH).unwrap()))
    }
}

/// A client that trusts this identity alone.
fn client(trusted: &Identity, now: SystemTime, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.chain()[0].clone()).unwrap();
    ClientConfig::builder_with_details(crypto::provider(), Arc::new(Clock(now)))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A handshake in memory, up to its end on both sides.
fn handshake(client: ClientConfig, server: &Arc<ServerConfig>) -> Result<ClientConnection, rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap())?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(client);
        }
    }
    panic!("the handshake doesn't end");
}

fn dev_resolver(directory: &tempfile::TempDir) -> Arc<CertResolver> {
    Arc::new(CertResolver::open(Source::Dev(DevDirectory::new(directory.path())), start()).unwrap())
}

#[test]
fn handshakes_show_the_identity_of_their_time() {
    let directory = tempfile::tempdir().unwrap();
    let resolver = dev_resolver(&directory);
    let server = Arc::new(tcp_server_config(Arc::clone(&resolver), ALPN_TCP).unwrap());

    let old = resolver.current();
    let connection = handshake(client(&old, start(), &[&TLS13]), &server).unwrap();
    assert_eq!(connection.peer_certificates().unwrap(), old.chain());

    let later = start() + 20 * DAY;
    resolver.reload(later).unwrap();
    let new = resolver.current();
    let connection = handshake(client(&new, later, &[&TLS13]), &server).unwrap();
    assert_eq!(connection.peer_certificates().unwrap(), new.chain());
    handshake(client(&old, later, &[&TLS13]), &server).unwrap_err();
}

#[test]
fn tcp_speaks_both_versions_and_prefers_http_2() {
    let directory = tempfile::tempdir().unwrap();
    let resolver = dev_resolver(&directory);
    let server = Arc::new(tcp_server_config(Arc::clone(&resolver), ALPN_TCP).unwrap());
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut client = client(&resolver.current(), start(), &[version]);
        client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let connection = handshake(client, &server).unwrap();
        assert_eq!(connection.protocol_version(), Some(expected));
        assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
    }
}

#[test]
fn quic_knows_tls_1_3_and_http_3_alone() {
    let directory = tempfile::tempdir().unwrap();
    let resolver = dev_resolver(&directory);
    let config = quic_server_config(Arc::clone(&resolver)).unwrap();
    assert_eq!(config.alpn_protocols, [b"h3"]);
    assert_eq!(config.max_early_data_size, 0);
    handshake(client(&resolver.current(), start(), &[&TLS12]), &Arc::new(config)).unwrap_err();
}
