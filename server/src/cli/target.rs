//! Which hub, and whom to trust: what `pub` and `sub` share.

use anyhow::{Context, Result};
use clap::Args;
use fanwire_client::{CertificateHash, Options, Token, Trust};

#[derive(Debug, Args)]
pub(super) struct Target {
    /// The hub's events, like http://localhost:8080/events
    #[arg(value_name = "URL")]
    url: String,

    /// Take any certificate: whoever sits in between can read and change everything
    #[arg(long, conflicts_with = "cert_hash")]
    insecure: bool,

    /// Take the certificate with this SHA-256 hash, in hex or base64; may be repeated
    #[arg(long, value_name = "HASH")]
    cert_hash: Vec<CertificateHash>,

    /// The access token to be let in with; better as a variable than as a flag, which others can see
    #[arg(long, env = "FANWIRE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,
}

impl Target {
    pub(super) fn options(&self) -> Result<Options> {
        // `localhost:8080` is what people type.
        let url = if self.url.contains("://") { self.url.clone() } else { format!("http://{}", self.url) };
        let trust = match (self.insecure, self.cert_hash.is_empty()) {
            (true, _) => Trust::Insecure,
            (false, false) => Trust::Pinned(self.cert_hash.clone()),
            (false, true) => Trust::System,
        };
        let mut options = Options::new(&url).context("the first argument")?.trust(trust);
        options.token = self.token.clone();
        Ok(options)
    }
}
