//! A disk whose power fails, and which fails itself.
//!
//! It keeps what is durable apart from what the system shows of it. When power goes, any of the writes since the last sync are on the
//! disk, in any order, whole or torn at its sectors.

use std::{
    fs,
    io::{self, ErrorKind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, Database, DatabaseError, StorageBackend, backends::InMemoryBackend};

use super::{
    medium::{Medium, discard_unfinished},
    meter::{Meter, Metered},
};

/// A disk, and the hands on it.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<(Mutex<State>, Condvar)>, Arc<Meter>);

/// How the disk fails its system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Honesty {
    /// It does what it says.
    Honest,
    /// A sync does nothing.
    IgnoresSyncs,
    /// What a failed sync left unwritten is shown as if it were on the disk, to whoever opens the file later too.
    KeepsCache,
}

#[derive(Debug)]
struct State {
    rng: fastrand::Rng,
    honesty: Honesty,
    /// What is on the disk.
    durable: Vec<u8>,
    /// What the system shows: the disk, and the pages in its memory.
    shown: Vec<u8>,
    /// What is in the system's memory alone, and will be written.
    unsynced: Vec<Change>,
    /// Power goes after so many more changes and syncs.
    fuse: Option<u64>,
    /// No power: nothing works until it comes back.
    is_dark: bool,
    /// So many of the next changes and syncs fail, once so many have worked.
    faults: (u64, u64),
    /// The next sync fails.
    sync_fault: bool,
    /// The most bytes that it has.
    bytes_max: u64,
    syncs: u64,
    /// It says that there is more on it.
    looks_large: bool,
    /// A sync takes until it is let go.
    held: bool,
    is_syncing: bool,
    /// Which opening of it counts: an earlier one can't be used.
    opening: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Resize { len: usize },
}

/// One opening of a disk.
#[derive(Debug)]
struct Opening {
    disk: Disk,
    number: u64,
}

impl Disk {
    pub(super) fn new(seed: u64, honesty: Honesty) -> Self {
        let state = State {
            rng: fastrand::Rng::with_seed(seed),
            honesty,
            durable: vec![],
            shown: vec![],
            unsynced: vec![],
            fuse: None,
            is_dark: false,
            faults: (0, 0),
            sync_fault: false,
            bytes_max: u64::MAX,
            syncs: 0,
            looks_large: false,
            opening: 0,
            held: false,
            is_syncing: false,
        };
        Self(Arc::new((Mutex::new(state), Condvar::new())), Arc::default())
    }

    /// An honest disk with this on it.
    pub(super) fn with(bytes: Vec<u8>, seed: u64) -> Self {
        let disk = Self::new(seed, Honesty::Honest);
        disk.lock().shown.clone_from(&bytes);
        disk.lock().durable = bytes;
        disk
    }

    /// What is on it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.lock().durable.clone()
    }

    /// It says that there is more on it than there is.
    pub(super) fn looking_large(self, looks_large: bool) -> Self {
        self.lock().looks_large = looks_large;
        self
    }

    /// How many syncs there were.
    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Syncs take until they are let go.
    pub(super) fn hold_syncs(&self, held: bool) {
        self.lock().held = held;
        self.0.1.notify_all();
    }

    /// Whether a sync is under way.
    pub(super) fn is_syncing(&self) -> bool {
        self.lock().is_syncing
    }

    pub(super) fn len(&self) -> u64 {
        self.lock().shown.len() as u64
    }

    /// Power will go after so many more changes and syncs.
    pub(super) fn light_fuse(&self, steps: u64) {
        self.lock().fuse = Some(steps);
    }

    /// Lets `count` changes and syncs fail, once `after` have worked.
    pub(super) fn fail(&self, after: u64, count: u64) {
        self.lock().faults = (after, count);
    }

    /// Lets the next sync fail, and nothing else.
    pub(super) fn fail_sync(&self) {
        self.lock().sync_fault = true;
    }

    /// Nothing fails any more.
    pub(super) fn mend(&self) {
        let mut state = self.lock();
        (state.faults, state.sync_fault) = ((0, 0), false);
    }

    /// How often it was opened.
    pub(super) fn openings(&self) -> u64 {
        self.lock().opening
    }

    /// Gives it so much room.
    pub(super) fn set_bytes_max(&self, bytes_max: u64) {
        self.lock().bytes_max = bytes_max;
    }

    pub(super) fn is_dark(&self) -> bool {
        self.lock().is_dark
    }

    /// Power goes now, if it hasn't yet, and comes back.
    pub(super) fn cycle_power(&self) {
        let mut state = self.lock();
        if !state.is_dark {
            state.lose_power();
        }
        state.shown = state.durable.clone();
        (state.is_dark, state.fuse, state.faults, state.sync_fault) = (false, None, (0, 0), false);
        state.opening += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a disk in memory")
    }
}

impl Medium for Disk {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let number = {
            let mut state = self.lock();
            state.opening += 1;
            state.opening
        };
        let opening = Opening { disk: self.clone(), number };
        // As for a file: what is only in memory is written, and what couldn't be is forgotten.
        opening.sync_data()?;
        self.lock().forget_cached();
        discard_unfinished(&opening)?;
        builder.create_with_backend(Metered { backend: opening, meter: self.1.clone() })
    }

    fn meter(&self) -> &Meter {
        &self.1
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let (copy, state) = (InMemoryBackend::new(), self.lock());
        copy.set_len(state.shown.len() as u64)?;
        copy.write(0, &state.shown)?;
        drop(state);
        builder.create_with_backend(copy)
    }

    fn bytes(&self) -> io::Result<Option<u64>> {
        Ok(Some(if self.lock().looks_large { 1 << 40 } else { self.len() }))
    }

    fn lock(&self) -> Option<fs::File> {
        None
    }
}

impl Opening {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        match () {
            () if state.is_dark => Err(io::Error::other("there is no power")),
            () if state.opening != self.number => Err(io::Error::other("it was opened anew")),
            () => Ok(state),
        }
    }
}

impl StorageBackend for Opening {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(state.shown.get(range).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.step()?;
        state.takes_fault(len)?;
        state.change(Change::Resize { len: len as usize });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.step()?;
        if let Err(error) = state.takes_fault(0) {
            // A part of it may be written.
            let len = state.rng.usize(0..=data.len());
            state.change(Change::Write { offset: offset as usize, data: data[..len].to_vec() });
            return Err(error);
        }
        state.change(Change::Write { offset: offset as usize, data: data.to_vec() });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.syncs += 1;
        state.is_syncing = true;
        state = self.disk.0.1.wait_while(state, |state| state.held).unwrap_or_else(PoisonError::into_inner);
        state.is_syncing = false;
        state.step()?;
        let sync_fault = std::mem::take(&mut state.sync_fault);
        if sync_fault || state.takes_fault(0).is_err() {
            // Some of it is on the disk. What isn't never will be: its pages are taken for clean.
            state.write_some();
            return Err(io::Error::other("it can't be synced"));
        }
        if state.honesty != Honesty::IgnoresSyncs {
            state.write_all();
        }
        // A moment after it is as good as one before.
        state.step()
    }
}

impl State {
    /// A step of time, on which power may go.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => {
                self.lose_power();
                Err(io::Error::other("power went"))
            }
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn takes_fault(&mut self, len: u64) -> io::Result<()> {
        if len > self.bytes_max {
            return Err(ErrorKind::StorageFull.into());
        }
        match &mut self.faults {
            (0, 0) => Ok(()),
            (0, count) => {
                *count -= 1;
                Err(ErrorKind::StorageFull.into())
            }
            (after, _) => {
                *after -= 1;
                Ok(())
            }
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.shown, &change);
        self.unsynced.push(change);
    }

    fn write_all(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// Any of what is unsynced reaches the disk, whole or torn; the rest never does.
    fn write_some(&mut self) {
        // Often nearly all or nearly nothing, which random choices alone hardly ever give.
        let share = [0, 10, 128, 245, 255][self.rng.usize(0..5)];
        let torn = [0, 0, 128][self.rng.usize(0..3)];
        for change in std::mem::take(&mut self.unsynced) {
            let Change::Write { offset, data } = &change else {
                if self.rng.u8(..) <= share {
                    apply(&mut self.durable, &change);
                }
                continue;
            };
            if self.rng.u8(..) < torn {
                let mut at = *offset;
                while at < offset + data.len() {
                    let end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let end = end.min(offset + data.len());
                    if self.rng.bool() {
                        write(&mut self.durable, at, &data[at - offset..end - offset]);
                    }
                    at = end;
                }
            } else if self.rng.u8(..) <= share {
                write(&mut self.durable, *offset, data);
            }
        }
    }

    fn lose_power(&mut self) {
        self.write_some();
        self.is_dark = true;
    }

    fn forget_cached(&mut self) {
        if self.honesty != Honesty::KeepsCache {
            self.shown = self.durable.clone();
            for change in &self.unsynced {
                apply(&mut self.shown, change);
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => write(bytes, *offset, data),
        Change::Resize { len } => bytes.resize(*len, 0),
    }
}

/// Beyond the end of the file there is nothing: a file that wasn't made longer doesn't show what was written there.
fn write(bytes: &mut [u8], offset: usize, data: &[u8]) {
    let end = bytes.len().min(offset + data.len());
    if offset < end {
        bytes[offset..end].copy_from_slice(&data[..end - offset]);
    }
}

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;
