//! `fanwire token`: a token for trying. In earnest, tokens come from whoever knows the users.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    auth::mint::{Claims, SigningKey},
    hub::now_ms,
};

#[derive(Debug, Args)]
pub(super) struct MakeToken {
    /// The hub's own name: its `resource`
    #[arg(long, env = "FANWIRE_RESOURCE", value_name = "URL", required_unless_present = "mercure_0x")]
    resource: Option<String>,

    /// Whose token it is: the `iss` that the hub knows the key of
    #[arg(long = "issuer", env = "FANWIRE_TOKEN_ISSUER", value_name = "ISS", required_unless_present = "mercure_0x")]
    issuer: Option<String>,

    /// Make a token of Mercure 0.x, for listeners that the hub has as `mercure_0x`: --publish and --subscribe are topics, URI templates or *
    #[arg(long = "mercure-0x", conflicts_with_all = ["publish_pattern", "subscribe_pattern", "revoke"])]
    mercure_0x: bool,

    /// The secret that the hub has as `token_secret`
    #[arg(long, env = "FANWIRE_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET", conflicts_with = "pem")]
    secret: Option<String>,

    /// A file with the private key whose public one the hub has
    #[arg(long, value_name = "FILE")]
    pem: Option<PathBuf>,

    /// The key's name in its set
    #[arg(long, value_name = "KID")]
    kid: Option<String>,

    /// Whom the token speaks for
    #[arg(long, default_value = "somebody", value_name = "SUB")]
    subject: String,

    /// A topic that may be published on, or * for all; may be repeated
    #[arg(long, value_name = "TOPIC")]
    publish: Vec<String>,

    /// A topic whose private events may be seen, or * for all; may be repeated
    #[arg(long, value_name = "TOPIC")]
    subscribe: Vec<String>,

    /// A URL pattern of topics that may be published on; may be repeated
    #[arg(long, value_name = "PATTERN")]
    publish_pattern: Vec<String>,

    /// A URL pattern of topics whose private events may be seen; may be repeated
    #[arg(long, value_name = "PATTERN")]
    subscribe_pattern: Vec<String>,

    /// May revoke its issuer's tokens
    #[arg(long)]
    revoke: bool,

    /// How long it is good
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration, value_name = "DURATION")]
    life: Duration,
}

impl MakeToken {
    pub(super) fn run(self) -> Result<()> {
        let key = match (&self.secret, &self.pem) {
            (Some(secret), None) => SigningKey::secret(secret.as_bytes()),
            (None, Some(path)) => {
                let pem = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
                SigningKey::pem(&pem).with_context(|| path.display().to_string())?
            }
            _ => bail!("say what to sign with: --secret (or FANWIRE_TOKEN_SECRET), or --pem"),
        };
        let claims = Claims {
            issuer: self.issuer.unwrap_or_default(),
            resource: self.resource.unwrap_or_default(),
            subject: self.subject,
            id: format!("{:032x}", crate::auth::random_u128()),
            publish: self.publish,
            subscribe: self.subscribe,
            publish_patterns: self.publish_pattern,
            subscribe_patterns: self.subscribe_pattern,
            revoke: self.revoke,
        };
        let token = if self.mercure_0x {
            key.sign_mercure0(&claims.to_mercure0_json(now_ms(), self.life), self.kid.as_deref())
        } else {
            key.sign(&claims.to_json(now_ms(), self.life), self.kid.as_deref())
        };
        println!("{}", token?);
        Ok(())
    }
}
