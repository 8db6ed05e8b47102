use super::*;
use crate::testing::{DAY, ec_fixture, fixture, fixture_path, self_signed, start};
use std::{fs, time::Duration};

#[test]
fn a_dev_identity_rotates_while_it_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let resolver = CertResolver::open(Source::Dev(DevDirectory::new(directory.path())), start()).unwrap();
    let first = resolver.hashes();
    assert_eq!(first, [resolver.current().fingerprint()]);

    assert_eq!(resolver.reload(start() + DAY).unwrap(), Reload::Unchanged);
    assert_eq!(resolver.reload(start() + 9 * DAY + Duration::from_secs(1)).unwrap(), Reload::HashesChanged);
    let [current, next] = resolver.hashes()[..] else { panic!("{:?}", resolver.hashes()) };
    assert_eq!([current], first[..]);

    assert_eq!(resolver.reload(start() + 10 * DAY + Duration::from_secs(1)).unwrap(), Reload::Replaced);
    assert_eq!(resolver.current().fingerprint(), next);
    assert_eq!(resolver.hashes(), [next]);
}

#[test]
fn files_are_read_again_and_a_failure_keeps_the_old_identity() {
    let directory = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    fs::copy(fixture_path("ec.cert.pem"), &certificate).unwrap();
    fs::copy(fixture_path("ec.sec1.pem"), &key).unwrap();
    let resolver = CertResolver::open(Source::Files(PemFiles::new(&certificate, &key)), start()).unwrap();
    let old = resolver.current().fingerprint();
    assert_eq!(resolver.reload(start()).unwrap(), Reload::Unchanged);

    // A renewal that has written one file of two.
    fs::write(&certificate, fixture("rsa.cert.pem")).unwrap();
    let error = resolver.reload(start()).unwrap_err();
    assert!(matches!(error, ReloadError::Files(LoadError::Mismatch { .. })), "{error}");
    assert_eq!(resolver.current().fingerprint(), old);

    fs::write(&key, fixture("rsa.pkcs1.pem")).unwrap();
    assert_eq!(resolver.reload(start()).unwrap(), Reload::Replaced);
    assert_ne!(resolver.current().fingerprint(), old);
}

#[test]
fn hashes_are_told_only_where_browsers_take_them() {
    assert!(CertResolver::fixed(ec_fixture()).hashes().is_empty());
    let short = self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, DAY);
    assert_eq!(CertResolver::fixed(short.clone()).hashes(), [short.fingerprint()]);
}

#[test]
fn a_fixed_identity_stays() {
    let resolver = CertResolver::fixed(ec_fixture());
    assert_eq!(resolver.reload(start() + 400 * DAY).unwrap(), Reload::Unchanged);
}
