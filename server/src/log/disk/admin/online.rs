//! The operator's work on a log that a hub serves.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use fanwire_protocol::Seq;
use futures_util::{FutureExt, future::BoxFuture};

use super::{super::FILE, Admin, AdminError, Bounds, Stat};
use crate::{
    core::{Page, Read},
    log::{Appended, DiskLog, Log, Stamped},
};

/// A log on disk that a hub serves.
#[derive(Debug)]
pub struct ServedLog {
    log: Arc<DiskLog>,
    path: PathBuf,
}

impl ServedLog {
    /// The log that a hub has opened in a directory.
    pub fn new(log: Arc<DiskLog>, directory: &Path) -> Self {
        Self { log, path: directory.join(FILE) }
    }
}

impl Admin for ServedLog {
    fn stat(self: Arc<Self>) -> BoxFuture<'static, Result<Stat, AdminError>> {
        let shared = self.log.shared.clone();
        let stat = shared.blocking(move |shared, store| {
            let head = Seq(shared.head.load(Relaxed));
            Stat::of(store, &self.path, head, true)
        });
        stat.map(|stat| Ok(stat?)).boxed()
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Bounds, AdminError>> {
        let bounds = self.log.shared.clone().blocking(|shared, store| {
            let head = Seq(shared.head.load(Relaxed));
            Ok(Bounds { epoch: shared.epoch, head, floors: store.floors()? })
        });
        bounds.map(|bounds| Ok(bounds?)).boxed()
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, AdminError>> {
        self.log.read(read).map(|page| Ok(page?)).boxed()
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AdminError>> {
        self.log.append(events).map(|appended| Ok(appended?)).boxed()
    }
}
