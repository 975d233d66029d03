//! The directory of a history: its file, what keeps other processes away, and bytes in reserve.

use super::StoreError;
use super::frozen::Frozen;
use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes that are given back when the disk is full, because deleting needs room, too.
const BALLAST_BYTES: u64 = 16 << 20;

/// Where a history lies: a directory, or what a test puts in its place.
pub trait Disk: Send + fmt::Debug {
    /// What `redb` reads and writes.
    type Backend: StorageBackend;

    /// Whether there is a history.
    fn is_there(&mut self) -> Result<bool, StoreError>;

    /// An empty file that is not the history yet.
    fn begin(&mut self) -> Result<Self::Backend, StoreError>;

    /// Makes that file the history, whatever happens to the power from now on.
    fn adopt(&mut self) -> Result<(), StoreError>;

    /// The history as it is on the disk: nothing that was written and could not be made to last.
    fn open(&mut self) -> Result<Self::Backend, StoreError>;

    /// Gives bytes back, or takes them again.
    fn keep_reserve(&mut self, keep: bool);

    /// Whether bytes are in reserve.
    fn has_reserve(&self) -> bool;

    /// Bytes of the file.
    fn bytes(&self) -> u64;
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
    has_reserve: bool,
}

impl Directory {
    /// Takes the directory at `path`, which is made if only itself is missing.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        match fs::create_dir(path) {
            Ok(()) => {
                let above = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                sync(above.unwrap_or_else(|| Path::new(".")))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoDirectory(path.parent().unwrap_or(path).into()));
            }
            Err(error) => return Err(at(path, error)),
        }
        let mut directory = Self::lock(path)?;
        directory.keep_reserve(true);
        Ok(directory)
    }

    /// Takes the directory at `path` if there is a history in it; makes nothing there but the lock.
    pub fn take_existing(path: &Path) -> Result<Self, StoreError> {
        let file = path.join("history.redb");
        match file.try_exists() {
            Ok(true) => Self::lock(path),
            Ok(false) => Err(StoreError::NoHistory(path.into())),
            Err(error) => Err(at(&file, error)),
        }
    }

    fn lock(path: &Path) -> Result<Self, StoreError> {
        let lock = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|e| at(&lock, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock, has_reserve: false }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.into())),
            Err(TryLockError::Error(error)) => Err(at(path, error)),
        }
    }

    /// The history, for reading only.
    pub fn open_frozen(&self) -> Result<Frozen, StoreError> {
        let path = self.file();
        let file = File::open(&path).map_err(|error| at(&path, error))?;
        not_empty(&file, &path)?;
        Ok(Frozen::new(file)?)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the history lies.
    pub fn file(&self) -> PathBuf {
        self.path.join("history.redb")
    }

    fn new_file(&self) -> PathBuf {
        self.path.join("history.redb.new")
    }

    fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }
}

impl Disk for Directory {
    type Backend = FileBackend;

    fn is_there(&mut self) -> Result<bool, StoreError> {
        Ok(self.file().try_exists()?)
    }

    fn begin(&mut self) -> Result<FileBackend, StoreError> {
        let path = self.new_file();
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o640).open(&path);
        backend(file.map_err(|error| at(&path, error))?)
    }

    fn adopt(&mut self) -> Result<(), StoreError> {
        fs::rename(self.new_file(), self.file())?;
        Ok(sync(&self.path)?)
    }

    fn open(&mut self) -> Result<FileBackend, StoreError> {
        let path = self.file();
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| at(&path, error))?;
        not_empty(&file, &path)?;
        // After a failed write the kernel may show what is not on the disk: it forgets that here. What is in order stays
        // in order, so that this may fail.
        _ = fadvise(&file, 0, None::<NonZeroU64>, Advice::DontNeed);
        backend(file)
    }

    fn keep_reserve(&mut self, keep: bool) {
        self.has_reserve = match keep {
            true => reserve(&self.reserve()).is_ok(),
            false => {
                _ = fs::remove_file(self.reserve());
                false
            }
        };
    }

    fn has_reserve(&self) -> bool {
        self.has_reserve
    }

    fn bytes(&self) -> u64 {
        fs::metadata(self.file()).map_or(0, |metadata| metadata.len())
    }
}

/// An empty file would be made a new history.
fn not_empty(file: &File, path: &Path) -> Result<(), StoreError> {
    match file.metadata()?.len() {
        0 => Err(StoreError::Damaged(format!("{} is empty", path.display()))),
        _ => Ok(()),
    }
}

fn backend(file: File) -> Result<FileBackend, StoreError> {
    FileBackend::new(file).map_err(|error| redb::Error::from(error).into())
}

/// Makes what a directory lists last.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn reserve(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let kept = fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).map_err(io::Error::from);
    if kept.is_err() {
        _ = fs::remove_file(path);
    }
    kept
}

/// An error that says where.
fn at(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io(io::Error::new(error.kind(), Located { path: path.into(), error }))
}

/// What the system said of a path.
#[derive(Debug)]
struct Located {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for Located {}
