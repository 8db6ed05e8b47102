//! The identity that is served, replaceable while it is.

use crate::{DevDirectory, DevError, Fingerprint, Identity, LoadError, PemFiles};
use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Where the identity comes from, at first and at every reload.
#[derive(Debug, Clone)]
pub enum Source {
    /// A development identity, kept and rotated.
    Dev(DevDirectory),
    /// A real certificate and its key.
    Files(PemFiles),
    /// This one, for as long as the process lives.
    Fixed(Identity),
}

/// Answers rustls with the identity that is current at the time of each handshake.
///
/// One serves every TLS configuration of a process, so that TCP and QUIC change together. Reading takes no lock.
#[derive(Debug)]
pub struct CertResolver {
    source: Source,
    served: ArcSwap<Served>,
    /// Held while reloading, or a slow reload could undo a later one.
    reloading: Mutex<()>,
}

/// What a reload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Everything is as it was.
    Unchanged,
    /// The same identity is served, and [`CertResolver::hashes`] has changed: a successor was announced or withdrawn.
    HashesChanged,
    /// Another identity is served from now on.
    Replaced,
}

/// Why there is no identity to serve, or no new one.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The directory of the development identity doesn't yield one.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// The files of a real certificate don't yield one.
    #[error(transparent)]
    Files(#[from] LoadError),
}

#[derive(Debug)]
struct Served {
    identity: Identity,
    hashes: Vec<Fingerprint>,
}

impl CertResolver {
    /// Loads the identity. It may be expired: ask [`CertResolver::current`] for its [`Identity::warning`].
    ///
    /// This blocks on files, as does [`CertResolver::reload`].
    pub fn open(source: Source, now: SystemTime) -> Result<Self, ReloadError> {
        let served = ArcSwap::from_pointee(Served::load(&source, now)?);
        Ok(Self { source, served, reloading: Mutex::new(()) })
    }

    /// Serves this identity and no other.
    pub fn fixed(identity: Identity) -> Self {
        let served = ArcSwap::from_pointee(Served::of(identity.clone()));
        Self { source: Source::Fixed(identity), served, reloading: Mutex::new(()) }
    }

    /// The identity that the next handshake shows.
    pub fn current(&self) -> Identity {
        self.served.load().identity.clone()
    }

    /// The hashes that browsers need to accept this server (`serverCertificateHashes`), at most two: of the current
    /// certificate and of an announced successor. Empty where clients know the certificate without.
    ///
    /// Files that hold a certificate which browsers accept by its hash ([`Identity::is_pinnable`]) count as well.
    pub fn hashes(&self) -> Vec<Fingerprint> {
        self.served.load().hashes.clone()
    }

    /// Loads the identity again, rotating a development identity that is due. After an error the old one is served on.
    ///
    /// Call it hourly at the least for a development identity, and whenever the files of a real one may have changed.
    pub fn reload(&self, now: SystemTime) -> Result<Reload, ReloadError> {
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Served::load(&self.source, now)?;
        let old = self.served.load();
        let outcome = if fresh.identity.chain() != old.identity.chain() {
            Reload::Replaced
        } else if fresh.hashes != old.hashes {
            Reload::HashesChanged
        } else {
            return Ok(Reload::Unchanged);
        };
        self.served.store(Arc::new(fresh));
        Ok(outcome)
    }
}

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served.load().identity.certified_key())
    }
}

impl Served {
    fn load(source: &Source, now: SystemTime) -> Result<Self, ReloadError> {
        Ok(match source {
            Source::Dev(directory) => {
                let loaded = directory.load(now)?;
                Self { identity: loaded.current().clone(), hashes: loaded.hashes() }
            }
            Source::Files(files) => Self::of(files.load()?),
            Source::Fixed(identity) => Self::of(identity.clone()),
        })
    }

    fn of(identity: Identity) -> Self {
        let hashes = if identity.is_pinnable() { vec![identity.fingerprint()] } else { Vec::new() };
        Self { identity, hashes }
    }
}

#[cfg(test)]
mod tests;
