//! A simulated disk: what was written and not synced is kept apart. When the power is cut, none of it is there, or all,
//! or any part of it down to single sectors, in any order; a failed sync may have written some, and the rest never will
//! be. Single calls fail when they are told to.

use crate::id::Random;
use crate::reactor::store::StoreError;
use crate::reactor::store::directory::Disk;
use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR: usize = 512;
const BLOCK: usize = 4096;
/// Bytes that are kept in reserve.
const RESERVE: usize = 256 << 10;

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

/// A file.
#[derive(Debug)]
struct Platter {
    durable: Vec<u8>,
    /// What a program that reads sees.
    seen: Vec<u8>,
    pending: Vec<Change>,
    random: Random,
    /// Calls until the power is cut.
    cut_in: Option<u64>,
    is_off: bool,
    /// Calls until one fails, how, and how many do.
    fail_in: Option<(u64, io::ErrorKind, u64)>,
    /// The next sync writes all, fails, and so do so many calls that follow.
    mute: Option<u64>,
    /// Bytes that there is room for, and blocks that are in use: a file with holes is smaller than it is long.
    room: usize,
    blocks: BTreeSet<usize>,
}

impl Platter {
    fn used(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Counts a call; says what becomes of it.
    fn call(&mut self) -> io::Result<()> {
        if let Some(calls) = &mut self.cut_in {
            match *calls {
                0 => self.cut(),
                _ => *calls -= 1,
            }
        }
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        match &mut self.fail_in {
            Some((0, kind, times)) => {
                let kind = *kind;
                *times = times.saturating_sub(1);
                self.fail_in.take_if(|(.., times)| *times == 0);
                return Err(kind.into());
            }
            Some((calls, ..)) => *calls -= 1,
            None => {}
        }
        Ok(())
    }

    fn apply(file: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Len(len) => file.resize(*len, 0),
            Change::Write(at, bytes) => {
                if file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    fn cut(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        let (way, random) = (self.random.below(4), &mut self.random);
        match way {
            0 => pending.clear(),
            1 => {}
            2 => pending.retain(|_| random.one_in(2)),
            _ => pending = pending.into_iter().flat_map(|change| torn(change, random)).collect(),
        }
        if way > 1 {
            for at in (1..pending.len()).rev() {
                pending.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
        pending.iter().for_each(|change| Self::apply(&mut self.durable, change));
        self.is_off = true;
    }
}

/// Half of the sectors of a write.
fn torn(change: Change, random: &mut Random) -> Vec<Change> {
    let Change::Write(at, bytes) = change else { return vec![change] };
    let sectors = bytes.chunks(SECTOR).enumerate().filter(|_| random.one_in(2));
    sectors.map(|(index, bytes)| Change::Write(at + index * SECTOR, bytes.into())).collect()
}

/// What `redb` is given.
#[derive(Debug)]
pub struct File(Arc<Mutex<Platter>>);

impl File {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        let mut platter = self.lock();
        platter.call()?;
        Ok(platter.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.lock();
        platter.call()?;
        let at = offset as usize;
        let bytes = platter.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.lock();
        platter.call()?;
        platter.blocks.split_off(&(len as usize).div_ceil(BLOCK));
        platter.seen.resize(len as usize, 0);
        platter.pending.push(Change::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.lock();
        let mut called = platter.call();
        let mute = platter.mute.take();
        let pending = std::mem::take(&mut platter.pending);
        // After a failed sync the kernel believes that all has been written: it may have been, or a part, or nothing.
        let way = platter.random.below(4);
        for change in &pending {
            if called.is_ok() || mute.is_some() || way == 0 || way > 1 && platter.random.one_in(2) {
                Platter::apply(&mut platter.durable, change);
            }
        }
        if let Some(calls) = mute {
            called = Err(io::ErrorKind::Other.into());
            platter.fail_in = Some((0, io::ErrorKind::Other, calls));
        }
        called
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.lock();
        platter.call()?;
        let at = offset as usize;
        let new: Vec<usize> = (at / BLOCK..(at + data.len()).div_ceil(BLOCK))
            .filter(|block| !platter.blocks.contains(block))
            .collect();
        if platter.used() + new.len() * BLOCK > platter.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.blocks.extend(new);
        let change = Change::Write(at, data.into());
        Platter::apply(&mut platter.seen, &change);
        platter.pending.push(change);
        Ok(())
    }
}

/// The disk, which outlives all that is done with it.
#[derive(Debug, Clone)]
pub struct Simulated {
    file: Option<Arc<Mutex<Platter>>>,
    new: Option<Arc<Mutex<Platter>>>,
    random: Random,
    cut_in: Option<u64>,
    reserve: usize,
    room: usize,
}

/// Shared, as the store owns its disk and a test looks at it.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<Simulated>>);

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        let random = Random::new(seed);
        Self(Arc::new(Mutex::new(Simulated {
            file: None,
            new: None,
            random,
            cut_in: None,
            reserve: 0,
            room: usize::MAX,
        })))
    }

    fn platter<T>(&self, look: impl FnOnce(&mut Platter) -> T) -> Option<T> {
        let disk = self.0.lock().unwrap();
        disk.file.as_ref().or(disk.new.as_ref()).map(|platter| look(&mut platter.lock().unwrap()))
    }

    /// Cuts the power after so many calls.
    pub fn cut_in(&self, calls: u64) {
        self.0.lock().unwrap().cut_in = Some(calls);
        self.platter(|platter| platter.cut_in = Some(calls));
    }

    /// Lets calls fail after so many: `times` of them.
    pub fn fail_in(&self, calls: u64, kind: io::ErrorKind, times: u64) {
        self.platter(|platter| platter.fail_in = Some((calls, kind, times)));
    }

    /// Has the next sync write all and fail; so do `calls` that follow.
    pub fn mute(&self, calls: u64) {
        self.platter(|platter| platter.mute = Some(calls));
    }

    /// How many bytes there is room for.
    pub fn room(&self, bytes: usize) {
        self.0.lock().unwrap().room = bytes;
        self.platter(|platter| platter.room = bytes);
    }

    /// The power is cut, if it was not before, and comes back.
    pub fn restart(&self) {
        self.platter(|platter| {
            if !platter.is_off {
                platter.cut();
            }
        });
        let mut disk = self.0.lock().unwrap();
        // What has not been adopted is not there.
        (disk.new, disk.cut_in) = (None, None);
        if let Some(file) = &disk.file {
            let mut platter = file.lock().unwrap();
            let fresh = Platter {
                durable: platter.durable.clone(),
                seen: platter.durable.clone(),
                pending: Vec::new(),
                random: platter.random.clone(),
                cut_in: None,
                is_off: false,
                fail_in: None,
                mute: None,
                room: platter.room,
                blocks: platter.blocks.clone(),
            };
            *platter = fresh;
        }
    }

    /// The same bytes on a disk of its own.
    pub fn copy(&self) -> Self {
        let copy = Self::new(1);
        let file = self.platter(|platter| Platter {
            durable: platter.durable.clone(),
            seen: platter.seen.clone(),
            pending: Vec::new(),
            random: platter.random.clone(),
            cut_in: None,
            is_off: false,
            fail_in: None,
            mute: None,
            room: platter.room,
            blocks: platter.blocks.clone(),
        });
        copy.0.lock().unwrap().file = file.map(|file| Arc::new(Mutex::new(file)));
        copy
    }

    /// Changes a byte behind everybody's back.
    pub fn damage(&self, at: usize) {
        self.platter(|platter| {
            platter.durable[at] ^= 0xff;
            platter.seen[at] ^= 0xff;
        });
    }

    pub fn len(&self) -> usize {
        self.platter(|platter| platter.durable.len()).unwrap_or_default()
    }
}

impl Disk for SimDisk {
    type Backend = File;

    fn is_there(&mut self) -> Result<bool, StoreError> {
        Ok(self.0.lock().unwrap().file.is_some())
    }

    fn begin(&mut self) -> Result<File, StoreError> {
        let mut disk = self.0.lock().unwrap();
        let random = Random::new(disk.random.next());
        let platter = Arc::new(Mutex::new(Platter {
            durable: Vec::new(),
            seen: Vec::new(),
            pending: Vec::new(),
            random,
            cut_in: disk.cut_in,
            is_off: false,
            fail_in: None,
            mute: None,
            room: disk.room,
            blocks: BTreeSet::new(),
        }));
        disk.new = Some(Arc::clone(&platter));
        Ok(File(platter))
    }

    fn adopt(&mut self) -> Result<(), StoreError> {
        let mut disk = self.0.lock().unwrap();
        if disk.new.as_ref().is_some_and(|new| new.lock().unwrap().is_off) {
            return Err(io::Error::other("the power is off").into());
        }
        disk.file = disk.new.take();
        Ok(())
    }

    fn open(&mut self) -> Result<File, StoreError> {
        let disk = self.0.lock().unwrap();
        let file = Arc::clone(disk.file.as_ref().ok_or(io::ErrorKind::NotFound).map_err(io::Error::from)?);
        let mut platter = file.lock().unwrap();
        if platter.is_off {
            return Err(io::Error::other("the power is off").into());
        }
        // What could be written back was; what failed is forgotten, as `Directory::open` sees to it.
        let pending = std::mem::take(&mut platter.pending);
        pending.iter().for_each(|change| Platter::apply(&mut platter.durable, change));
        platter.seen = platter.durable.clone();
        drop(platter);
        drop(disk);
        Ok(File(file))
    }

    fn keep_reserve(&mut self, keep: bool) {
        let mut disk = self.0.lock().unwrap();
        let Some(file) = disk.file.clone() else { return };
        let mut platter = file.lock().unwrap();
        match (keep, disk.reserve) {
            (true, 0) if platter.room == usize::MAX => disk.reserve = 1,
            (true, 0) if platter.room >= platter.used() + RESERVE => {
                platter.room -= RESERVE;
                disk.reserve = RESERVE;
            }
            (false, 1) => disk.reserve = 0,
            (false, bytes) => {
                platter.room += bytes;
                disk.reserve = 0;
            }
            _ => {}
        }
    }

    fn has_reserve(&self) -> bool {
        self.0.lock().unwrap().reserve > 0
    }

    fn bytes(&self) -> u64 {
        self.platter(|platter| platter.seen.len() as u64).unwrap_or_default()
    }
}
