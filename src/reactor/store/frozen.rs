//! A file that stays as it is: what is written to it is kept in memory. So a history can be read that needs a repair
//! first, and nothing on the disk is changed.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BLOCK: u64 = 4096;

/// The file, and what was written.
#[derive(Debug)]
pub struct Frozen {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// Bytes of the file that count; what was cut off and added again is zeros.
    file_len: u64,
    /// What was written, by number of the block.
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Frozen {
    /// `file`, which need not be writable.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let state = State { len, file_len: len, blocks: BTreeMap::new() };
        Ok(Self { file, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the file from `offset` on, and zeros after its end.
    fn read_file(&self, state: &State, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = state.file_len.saturating_sub(offset).min(out.len() as u64) as usize;
        let (there, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        self.file.read_exact_at(there, offset)
    }
}

/// The parts of `length` bytes from `offset` on: number of the block, where in it, how many bytes.
fn parts(mut offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    std::iter::from_fn(move || {
        let at = offset % BLOCK;
        let count = (BLOCK - at).min(end - offset);
        let part = (offset / BLOCK, at as usize, count as usize);
        offset += count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Frozen {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(&state, offset, out)?;
        for (number, at, count) in parts(offset, out.len()) {
            let (part, rest) = out.split_at_mut(count);
            if let Some(block) = state.blocks.get(&number) {
                part.copy_from_slice(&block[at..at + count]);
            }
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        (state.len, state.file_len) = (len, state.file_len.min(len));
        drop(state.blocks.split_off(&len.div_ceil(BLOCK)));
        if let Some(last) = state.blocks.get_mut(&(len / BLOCK)) {
            last[(len % BLOCK) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.len = state.len.max(offset + data.len() as u64);
        for (number, at, count) in parts(offset, data.len()) {
            let mut block = match state.blocks.remove(&number) {
                Some(block) => block,
                None => {
                    let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                    self.read_file(&state, number * BLOCK, &mut block)?;
                    block
                }
            };
            let (part, rest) = data.split_at(count);
            block[at..at + count].copy_from_slice(part);
            state.blocks.insert(number, block);
            data = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    #[test]
    fn it_reads_like_a_file_that_was_written_and_the_file_stays() {
        let path = std::env::temp_dir().join(format!("encke-frozen-{}", std::process::id()));
        let original: Vec<u8> = (0..3 * BLOCK as usize + 100).map(|at| at as u8 | 1).collect();
        std::fs::write(&path, &original).unwrap();
        let mut random = Random::new(3);
        for _ in 0..100 {
            let frozen = Frozen::new(File::open(&path).unwrap()).unwrap();
            let mut twin = original.clone();
            for _ in 0..50 {
                let at = random.below(4 * BLOCK) as usize;
                let count = random.below(2 * BLOCK) as usize;
                match random.below(3) {
                    0 => {
                        twin.resize(at, 0);
                        frozen.set_len(at as u64).unwrap();
                    }
                    1 => {
                        let data = vec![random.below(256) as u8; count];
                        twin.resize(twin.len().max(at + count), 0);
                        twin[at..at + count].copy_from_slice(&data);
                        frozen.write(at as u64, &data).unwrap();
                    }
                    _ => {
                        let mut out = vec![7; count];
                        let read = frozen.read(at as u64, &mut out);
                        let expected = twin.get(at..at + count);
                        assert_eq!(read.ok().map(|()| &out[..]), expected, "{count} at {at}");
                    }
                }
                assert_eq!(frozen.len().unwrap(), twin.len() as u64);
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), original);
        std::fs::remove_file(&path).unwrap();
    }
}
