//! What peers show in their handshakes.

use anyhow::Result;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate that nobody vouches for, and its key: the load takes any on this machine.
pub(super) fn make() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    Ok((vec![identity.cert.der().clone()], key.into()))
}
