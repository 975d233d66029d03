//! Copies of a history: taken while its server runs, or while none does.
//!
//! A server listens at `copies` in the directory, a socket that only its user and root may connect to. Whoever connects is
//! sent every row as it was at that moment, as fast as it reads, and makes a new history of them: as small as can be, and
//! marked, so that its first server gives it an epoch of its own.
//!
//! ```text
//! row: kind (1) · bytes of the key (4) · bytes of the value (4) · key · value
//! kinds: c channel, k key, m message, t fact; e end; x failure, of which the value says why
//! ```

use super::clocks::Clocks;
use super::idle::Idle;
use super::rows::Row;
use super::tables::{Snapshot, Tables};
use super::{Order, StoreError};
use crate::reactor::draw_seed;
use redb::backends::FileBackend;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Who reads nothing for so long gets no more.
const PATIENCE: Duration = Duration::from_secs(30);
/// A row is no longer than this: a message with all that belongs to it.
const ROW_BYTES_MAX: usize = 1 << 30;

/// What a copy has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Messages in it.
    pub messages: u64,
    /// Bytes of its file.
    pub bytes: u64,
}

/// Answers everybody who wants a copy, one after the other. Without the socket, the history is kept all the same.
pub fn listen(directory: &Path, orders: Sender<Order>) {
    let path = socket(directory);
    // What an earlier process left; nobody else uses the directory.
    _ = fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            return log::warn!("store: no `encke backup` while this runs: {}: {error}", path.display());
        }
    };
    _ = fs::set_permissions(&path, Permissions::from_mode(0o600));
    let serve = move || {
        for stream in listener.incoming() {
            match stream.and_then(|stream| give(&stream, &orders)) {
                Ok(()) => log::info!("store: a copy was taken"),
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) => log::warn!("store: a copy was not completed: {error}"),
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("copies".into()).spawn(serve) {
        log::warn!("store: no `encke backup` while this runs: {error}");
    }
}

/// Lets nobody else come.
pub fn listen_no_more(directory: &Path) {
    _ = fs::remove_file(socket(directory));
}

/// Writes a copy to whoever reads.
fn give(stream: &UnixStream, orders: &Sender<Order>) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (reply, snapshot) = mpsc::sync_channel(1);
    let gone = |_| io::Error::from(ErrorKind::NotConnected);
    orders.send(Order::Copy(reply)).map_err(|_| io::Error::from(ErrorKind::NotConnected))?;
    let snapshot = snapshot.recv().map_err(gone)?;
    let mut out = BufWriter::with_capacity(1 << 16, stream);
    if let Err(error) = snapshot.and_then(|snapshot| write_rows(&mut out, &snapshot)) {
        write_row(&mut out, b'x', &[], error.to_string().as_bytes())?;
        out.flush()?;
        return Err(io::Error::other(error.to_string()));
    }
    out.flush()
}

fn write_rows(out: &mut impl Write, snapshot: &Snapshot) -> Result<(), StoreError> {
    snapshot.rows(&mut |row| {
        let number;
        let (kind, key, value) = match &row {
            Row::Message(seq, record) => {
                number = seq.to_le_bytes();
                (b'm', &number[..], record)
            }
            Row::Channel(name, value) => (b'c', name.as_bytes(), value),
            Row::Key(name, value) => (b'k', name.as_bytes(), value),
            Row::Meta(name, value) => (b't', name.as_bytes(), value),
        };
        Ok(write_row(out, kind, key, value)?)
    })?;
    Ok(write_row(out, b'e', &[], &[])?)
}

fn write_row(out: &mut impl Write, kind: u8, key: &[u8], value: &[u8]) -> io::Result<()> {
    out.write_all(&[kind])?;
    out.write_all(&(key.len() as u32).to_le_bytes())?;
    out.write_all(&(value.len() as u32).to_le_bytes())?;
    out.write_all(key)?;
    out.write_all(value)
}

/// Reads a row; `None` is the end.
fn read_row(input: &mut impl Read) -> Result<Option<Row>, StoreError> {
    let broken = || StoreError::Io(io::Error::other("the server's copy cannot be read"));
    let mut head = [0; 9];
    input.read_exact(&mut head).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::other("the server left before the copy was complete"),
        _ => error,
    })?;
    let length =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (key, value) = (length(1), length(5));
    if key + value > ROW_BYTES_MAX {
        return Err(broken());
    }
    let mut take = |length: usize| -> io::Result<Box<[u8]>> {
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes)?;
        Ok(bytes.into())
    };
    let (key, value) = (take(key)?, take(value)?);
    let name = || std::str::from_utf8(&key).map(Box::from).map_err(|_| broken());
    Ok(Some(match head[0] {
        b'm' => Row::Message(u64::from_le_bytes(key[..].try_into().map_err(|_| broken())?), value),
        b'c' => Row::Channel(name()?, value),
        b'k' => Row::Key(name()?, value),
        b't' => Row::Meta(name()?, value),
        b'e' => return Ok(None),
        b'x' => return Err(StoreError::Io(io::Error::other(String::from_utf8_lossy(&value).into_owned()))),
        _ => return Err(broken()),
    }))
}

/// Copies the history in the directory at `from`, which a server may use meanwhile, to the file at `to`, which it takes
/// the place of when it is complete. Reads at most so many bytes a second.
pub fn back_up(from: &Path, to: &Path, bytes_per_second: u64) -> Result<Copied, StoreError> {
    let stream = match UnixStream::connect(socket(from)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            at_rest(Idle::take(from)?)?
        }
        Err(error) => return Err(StoreError::Io(error)),
    };
    let part = beside(to);
    let copied = receive(stream, &part, bytes_per_second).and_then(|copied| {
        fs::rename(&part, to)?;
        let above = to.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(copied)
    });
    if copied.is_err() {
        _ = fs::remove_file(&part);
    }
    copied
}

/// The same rows of a history that no server uses.
fn at_rest(history: Idle) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    thread::Builder::new().spawn(move || {
        let mut out = BufWriter::with_capacity(1 << 16, theirs);
        if let Err(error) = history.snapshot(|snapshot| write_rows(&mut out, snapshot)) {
            _ = write_row(&mut out, b'x', &[], error.to_string().as_bytes());
        }
        _ = out.flush();
    })?;
    Ok(ours)
}

fn receive(stream: UnixStream, part: &Path, bytes_per_second: u64) -> Result<Copied, StoreError> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o640).open(part)?;
    let backend = FileBackend::new(file).map_err(redb::Error::from)?;
    let mut tables = Tables::create(backend, draw_seed()?, Clocks::read())?;
    let slow = Slow { stream, bytes_per_second, begun: Instant::now(), bytes: 0 };
    let mut input = BufReader::with_capacity(1 << 16, slow);
    let messages = tables.fill(&mut || read_row(&mut input))?;
    // The file has its length when it is closed.
    drop(tables);
    Ok(Copied { messages, bytes: fs::metadata(part)?.len() })
}

/// Reads no faster than it may: the server's disk and processor are for its clients.
struct Slow {
    stream: UnixStream,
    bytes_per_second: u64,
    begun: Instant,
    bytes: u64,
}

impl Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(out)?;
        self.bytes += count as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second as f64);
        thread::sleep(due.saturating_sub(self.begun.elapsed()));
        Ok(count)
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("copies")
}

/// Where it is made.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_and_nothing_else_is() {
        let mut bytes = Vec::new();
        write_row(&mut bytes, b'm', &7u64.to_le_bytes(), b"record").unwrap();
        write_row(&mut bytes, b'c', b"name", b"marks").unwrap();
        write_row(&mut bytes, b'x', b"", b"cannot store").unwrap();
        write_row(&mut bytes, b'e', b"", b"").unwrap();
        let mut input = &bytes[..];
        assert_eq!(read_row(&mut input).unwrap(), Some(Row::Message(7, b"record"[..].into())));
        assert_eq!(read_row(&mut input).unwrap(), Some(Row::Channel("name".into(), b"marks"[..].into())));
        assert_eq!(read_row(&mut input).unwrap_err().to_string(), "cannot store");
        assert_eq!(read_row(&mut input).unwrap(), None);
        assert!(read_row(&mut input).is_err(), "a stream that breaks off is no copy");
        for wrong in
            [&b"m\x01\0\0\0\0\0\0\0x"[..], b"z\0\0\0\0\0\0\0\0", b"c\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(read_row(&mut &*wrong).is_err());
        }
    }
}
