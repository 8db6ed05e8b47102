//! What the unit tests share.

use crate::{Identity, PemFiles};
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 2026-01-01T00:00:00Z, when every test begins.
pub(crate) fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(crate) fn fixture(name: &str) -> String {
    std::fs::read_to_string(fixture_path(name)).unwrap()
}

pub(crate) fn ec_fixture() -> Identity {
    PemFiles::new(fixture_path("ec.cert.pem"), fixture_path("ec.pkcs8.pem")).load().unwrap()
}

/// A self-signed identity for `localhost`, valid from [`start`] on.
pub(crate) fn self_signed(algorithm: &'static SignatureAlgorithm, period: Duration) -> Identity {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = start().into();
    params.not_after = (start() + period).into();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity::new(vec![certificate.der().clone()], key).unwrap()
}
