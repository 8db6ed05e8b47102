use super::*;
use crate::testing::{fixture, fixture_path};
use std::error::Error as _;

fn load(certificate: &str, key: &str) -> Result<Identity, LoadError> {
    PemFiles::new(fixture_path(certificate), fixture_path(key)).load()
}

/// Loads files with these contents, named `cert.pem` and `key.pem`; an error comes as text, its source after a colon.
fn load_texts(certificate: &str, key: &str) -> Result<Identity, String> {
    let directory = tempfile::tempdir().unwrap();
    let [certificate_path, key_path] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    std::fs::write(&certificate_path, certificate).unwrap();
    std::fs::write(&key_path, key).unwrap();
    PemFiles::new(certificate_path, key_path).load().map_err(|error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}").replace(&format!("{}/", directory.path().display()), "")
    })
}

#[test]
fn every_form_of_key_is_read() {
    let of_pkcs8 = load("ec.cert.pem", "ec.pkcs8.pem").unwrap();
    let of_sec1 = load("ec.cert.pem", "ec.sec1.pem").unwrap();
    assert_eq!(of_pkcs8.fingerprint(), of_sec1.fingerprint());
    load("rsa.cert.pem", "rsa.pkcs1.pem").unwrap();
}

#[test]
fn one_file_may_hold_both() {
    let both = fixture("ec.sec1.pem") + &fixture("ec.cert.pem");
    load_texts(&both, &both).unwrap();
}

#[test]
fn a_chain_is_kept_in_its_order() {
    let chain = fixture("ec.cert.pem") + &fixture("rsa.cert.pem");
    let identity = load_texts(&chain, &fixture("ec.sec1.pem")).unwrap();
    assert_eq!(identity.chain().len(), 2);
    assert_eq!(identity.chain()[1], load("rsa.cert.pem", "rsa.pkcs1.pem").unwrap().chain()[0]);
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let ec = fixture("ec.cert.pem");
    let rsa = fixture("rsa.cert.pem");
    let key = fixture("ec.sec1.pem");
    let cut = &ec[..ec.len() / 2];
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let old_encryption = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    let large = "x".repeat(1024 * 1024 + 1);
    for (certificate, key, expected) in [
        ("", &*key, "cert.pem is not a PEM file: it has no -----BEGIN line"),
        (&ec, "\u{0}\u{1}", "key.pem is not a PEM file: it has no -----BEGIN line"),
        (&key, &key, "cert.pem holds no certificate"),
        (&ec, &rsa, "key.pem holds no private key"),
        (cut, &key, "cert.pem is a damaged PEM file: the section \"CERTIFICATE\" has no end"),
        (&ec, &fixture("ec.encrypted.pem"), "the private key in key.pem is encrypted; decrypt it with `openssl pkey`"),
        (&ec, old_encryption, "the private key in key.pem is encrypted; decrypt it with `openssl pkey`"),
        (&large, &key, "cert.pem is larger than 1048576 bytes"),
        (
            &rsa,
            &key,
            "the certificate in cert.pem and the key in key.pem can't be used together: \
             the private key doesn't belong to the certificate",
        ),
        (
            &(rsa.clone() + &ec),
            &key,
            "the certificate in cert.pem and the key in key.pem can't be used together: \
             the private key belongs to certificate number 2, which must come first",
        ),
    ] {
        assert_eq!(load_texts(certificate, key).unwrap_err(), expected);
    }
    for (certificate, key, beginning) in [
        (not_a_certificate, &*key, "cert.pem holds a certificate that can't be used: certificate number 1 "),
        (
            &(ec.clone() + not_a_certificate),
            &key,
            "cert.pem holds a certificate that can't be used: certificate number 2 ",
        ),
        (&ec, not_a_key, "key.pem holds a private key that can't be used: the private key is damaged"),
    ] {
        let error = load_texts(certificate, key).unwrap_err();
        assert!(error.starts_with(beginning), "{error}");
    }
}

#[test]
fn missing_and_unreadable_files_are_named() {
    let missing = load("none.pem", "ec.sec1.pem").unwrap_err();
    assert!(matches!(&missing, LoadError::Missing { path } if path.ends_with("none.pem")), "{missing}");
    // A directory opens, and can't be read.
    let unreadable = load("ec.cert.pem", "").unwrap_err();
    assert!(matches!(&unreadable, LoadError::Read { path, .. } if path.ends_with("fixtures")), "{unreadable}");
}
