//! What a file holds, for readers, while its disk takes nothing.
//!
//! After an error the database serves nobody, and opening it anew repairs it first, which writes. These writes go to memory: the file
//! stays as the last commit left it, and its history can be read.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use redb::StorageBackend;

/// A file that is never written, and what would have been.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    written: RwLock<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// How much of the file still counts.
    file_len: u64,
    /// By number.
    blocks: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, written: RwLock::new(Written { len, file_len: len, blocks: HashMap::new() }) })
    }

    fn written(&self) -> RwLockReadGuard<'_, Written> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn written_mut(&self) -> RwLockWriteGuard<'_, Written> {
        self.written.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of the file; zeros where it ends.
    fn read_file(&self, file_len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(file_len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (stored, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        self.file.read_exact_at(stored, offset)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset + out.len() as u64 > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, at, part) in parts(offset, out.len()) {
            let out = &mut out[part.clone()];
            match written.blocks.get(&number) {
                Some(block) => out.copy_from_slice(&block[at..at + part.len()]),
                None => self.read_file(written.file_len, offset + part.start as u64, out)?,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written_mut();
        if len < written.len {
            written.file_len = written.file_len.min(len);
            written.blocks.retain(|number, _| number * BLOCK_BYTES < len);
            if let Some(last) = written.blocks.get_mut(&(len / BLOCK_BYTES)) {
                last[(len % BLOCK_BYTES) as usize..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written_mut();
        let file_len = written.file_len;
        for (number, at, part) in parts(offset, data.len()) {
            let block = match written.blocks.entry(number) {
                Entry::Occupied(block) => block.into_mut(),
                Entry::Vacant(place) => {
                    let mut block = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
                    self.read_file(file_len, number * BLOCK_BYTES, &mut block)?;
                    place.insert(block)
                }
            };
            block[at..at + part.len()].copy_from_slice(&data[part]);
        }
        written.len = written.len.max(offset + data.len() as u64);
        Ok(())
    }
}

/// The blocks that a stretch lies in: each one's number, where in it, and which part of the stretch.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let position = offset + done as u64;
        let at = (position % BLOCK_BYTES) as usize;
        let count = (BLOCK_BYTES as usize - at).min(len - done);
        let part = done..done + count;
        done += count;
        (count > 0).then_some((position / BLOCK_BYTES, at, part))
    })
}

const BLOCK_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn it_reads_what_would_have_been_written_and_writes_nothing() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let mut model: Vec<u8> = (0..rng.usize(0..20_000)).map(|_| rng.u8(..)).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&model).unwrap();
            let (before, overlay) = (model.clone(), Overlay::new(file.try_clone().unwrap()).unwrap());
            for _ in 0..40 {
                match rng.u8(0..4) {
                    0 => {
                        model.resize(rng.usize(0..25_000), 0);
                        overlay.set_len(model.len() as u64).unwrap();
                    }
                    1 | 2 if !model.is_empty() => {
                        let at = rng.usize(0..model.len());
                        let data: Vec<u8> = (0..rng.usize(0..=model.len() - at)).map(|_| rng.u8(..)).collect();
                        overlay.write(at as u64, &data).unwrap();
                        model[at..at + data.len()].copy_from_slice(&data);
                    }
                    _ => {}
                }
                let from = rng.usize(0..=model.len());
                let mut read = vec![1; rng.usize(0..=model.len() - from)];
                overlay.read(from as u64, &mut read).unwrap();
                assert!(read == model[from..from + read.len()]);
                assert_eq!(overlay.len().unwrap(), model.len() as u64);
                assert!(overlay.read(from as u64, &mut vec![0; model.len() - from + 1]).is_err());
            }
            let mut stored = vec![0; before.len()];
            file.read_exact_at(&mut stored, 0).unwrap();
            assert!(stored == before && file.metadata().unwrap().len() == before.len() as u64);
        }
    }
}
