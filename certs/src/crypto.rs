//! The one crypto provider.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::Arc;

/// Makes aws-lc-rs the process's default provider, for libraries that ask rustls for "the default".
///
/// Calling it again does nothing; nor does it replace a provider that somebody installed before. This crate's own
/// configurations name their provider and don't depend on it.
pub fn install_crypto_provider() {
    // An error means that there is one already, which is what was asked for.
    let _ = aws_lc_rs::default_provider().install_default();
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_is_fine() {
        install_crypto_provider();
        install_crypto_provider();
        assert!(CryptoProvider::get_default().is_some());
    }
}
