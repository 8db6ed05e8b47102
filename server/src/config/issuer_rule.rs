//! An issuer of tokens, as it is written.

use std::{fmt, fs, path::Path, str::FromStr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Deserialize;

use crate::auth::{Actions, Algorithm, IssuerConfig, Key, KeySet, KeySource, KeysUrl, parse_set, parse_url};

/// `[[issuer]]` in the file; the keys `token_…` are one more. Several tables with the same `iss` are one issuer with several keys. Without
/// an `iss` the keys are for tokens of Mercure 0.x alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRule {
    #[serde(default)]
    pub(super) iss: String,
    #[serde(default)]
    pub(super) secret: Option<Secret>,
    #[serde(default)]
    pub(super) secret_file: Option<String>,
    #[serde(default)]
    pub(super) pem: Option<String>,
    #[serde(default)]
    pub(super) jwks: Option<String>,
    /// Who vouches for the server of `jwks`, as a file with certificates, instead of whom the system trusts.
    #[serde(default)]
    pub(super) jwks_ca: Option<String>,
    #[serde(default)]
    pub(super) algorithms: Vec<String>,
    /// What tokens of Mercure 0.x may be for that these keys have signed: `publish`, `subscribe`.
    #[serde(default)]
    pub(super) mercure_0x: Vec<String>,
}

/// Something that is in no log.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl IssuerRule {
    /// Reads the keys that are in files.
    pub(super) fn resolve(&self) -> Result<IssuerConfig> {
        let context = || format!("issuer {:?}", self.iss);
        let resolve = || {
            let mercure0 = actions(&self.mercure_0x)?;
            ensure!(!self.iss.is_empty() || !mercure0.is_empty(), "iss is empty");
            Ok(IssuerConfig { name: self.iss.clone(), keys: self.source()?, mercure0 })
        };
        resolve().with_context(context)
    }

    fn source(&self) -> Result<KeySource> {
        let Self { secret, secret_file, pem, jwks, .. } = self;
        let allowed = self.algorithms.iter().map(|name| algorithm(name)).collect::<Result<Vec<_>>>()?;
        let ca = self.jwks_ca.as_ref();
        let is_url = jwks.as_ref().is_some_and(|url| url.starts_with("https://"));
        ensure!(is_url || ca.is_none(), "jwks_ca is for a jwks at an https URL");
        let key = match (secret, secret_file, pem, jwks) {
            (Some(Secret(secret)), None, None, None) => Key::secret(secret.as_bytes(), &allowed)?,
            (None, Some(path), None, None) => {
                Key::secret(read(path)?.trim_ascii(), &allowed).with_context(|| path.clone())?
            }
            (None, None, Some(path), None) => Key::pem(&read(path)?, &allowed).with_context(|| path.clone())?,
            (None, None, None, Some(url)) if url.contains("://") => {
                let authorities = ca.map_or(Ok(vec![]), |path| authorities(path))?;
                return Ok(KeySource::Url(KeysUrl { url: parse_url(url)?, algorithms: allowed, authorities }));
            }
            (None, None, None, Some(path)) => {
                let KeySet { keys, is_cut } = parse_set(&read(path)?, &allowed).with_context(|| path.clone())?;
                ensure!(!is_cut, "{path}: it has more than {} keys", KeySet::KEYS_MAX);
                ensure!(!keys.is_empty(), "{path}: no key there can be used");
                return Ok(KeySource::Given(keys.into_iter().map(Arc::new).collect()));
            }
            (None, None, None, None) => bail!("it has no key: give it a secret, a secret_file, a pem or a jwks"),
            _ => bail!("it has several of secret, secret_file, pem and jwks: write a table for each"),
        };
        Ok(KeySource::Given(vec![Arc::new(key)]))
    }
}

fn actions(names: &[String]) -> Result<Actions> {
    let mut actions = Actions::default();
    for name in names {
        match name.as_str() {
            "publish" => actions.publish = true,
            "subscribe" => actions.subscribe = true,
            other => {
                bail!("{other:?} is nothing that tokens of Mercure 0.x are for: they are for publish and subscribe")
            }
        }
    }
    Ok(actions)
}

fn authorities(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let certificates = read.with_context(|| path.to_owned())?;
    ensure!(!certificates.is_empty(), "{path}: there is no certificate in it");
    Ok(certificates)
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(Path::new(path)).with_context(|| format!("can't read {path}"))
}

fn algorithm(name: &str) -> Result<Algorithm> {
    // The names are case-sensitive, and `none` is none.
    Algorithm::from_str(name).ok().with_context(|| {
        format!("{name:?} is no algorithm: there are HS, RS and PS with 256, 384 and 512, ES256, ES384 and EdDSA")
    })
}
