//! One client's TLS session.
//!
//! What was encrypted has to be sent as it is: its record has a number. So a record that the socket takes only a part
//! of is kept, and the bytes in it count as not written. The server offers them again, as it does for a plain socket,
//! and they are skipped once the record has gone. Nobody above has to know, and a client that takes nothing is seen.

use mio::net::TcpStream;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use rustls::{Error, HandshakeKind, ServerConfig};
use std::io::IoSlice;
use std::net::Shutdown;
use std::sync::Arc;

/// Bytes of plain text in a record.
const FRAGMENT_BYTES: usize = 16 << 10;
/// Bytes that a record takes at most (RFC 5246, 6.2.3: what encryption may add), with its header.
pub const RECORD_BYTES: usize = FRAGMENT_BYTES + 2048 + 5;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes of plain text; if fewer than offered, the socket takes no more at the moment.
    Bytes(usize),
    /// The kernel has no memory at the moment; nothing counts as written.
    Starved,
    /// The connection is broken.
    Broken,
}

/// A session.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// What has arrived of a record that is not complete.
    partial: Vec<u8>,
    /// What the socket has not taken of records that were made.
    unsent: Vec<u8>,
    /// Bytes of plain text that are in records already, and that the server does not know to be written.
    ahead: usize,
    open: bool,
    /// The client has said that nothing more comes.
    ended: bool,
}

impl Session {
    /// A session that waits for its client's handshake.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            unsent: Vec::new(),
            ahead: 0,
            open: false,
            ended: false,
        })
    }

    /// Whether the handshake is done.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the client has said that nothing more comes.
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// How the handshake went.
    pub fn kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// Moves what is kept of an incomplete record to the beginning of `buffer`. Returns its length.
    pub fn take_partial(&mut self, buffer: &mut [u8]) -> usize {
        let partial = std::mem::take(&mut self.partial);
        buffer[..partial.len()].copy_from_slice(&partial);
        partial.len()
    }

    /// Keeps an incomplete record.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.partial = bytes.to_vec();
    }

    /// Takes what arrived: decrypts it into `plain`, goes on with the handshake, answers on `stream` what has to be
    /// answered. Returns how many bytes are in `plain`.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut [u8],
        stream: &TcpStream,
    ) -> Result<usize, Error> {
        let (mut answer, mut start) = (Vec::new(), 0);
        let result = self.process(incoming, &mut start, plain, &mut answer);
        let rest = &mut incoming[start..];
        if result.is_err() {
            self.open = false;
            // The alert that tells the client why.
            if let Ok(ConnectionState::EncodeTlsData(data)) = self.connection.process_tls_records(rest).state
            {
                encode(data, &mut answer)?;
            }
        } else if rest.len() > RECORD_BYTES {
            return Err(too_much());
        } else if !rest.is_empty() {
            self.keep(rest);
        }
        if !answer.is_empty() {
            self.push(stream, &answer)?;
        }
        result
    }

    /// [`Session::receive`], without sending anything. What stands before `start` in `incoming` has been dealt with.
    fn process(
        &mut self,
        incoming: &mut [u8],
        start: &mut usize,
        plain: &mut [u8],
        answer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let mut count = 0;
        loop {
            let status = self.connection.process_tls_records(&mut incoming[*start..]);
            let mut discard = status.discard;
            let state = match status.state {
                Ok(state) => state,
                Err(error) => {
                    *start += discard;
                    return Err(error);
                }
            };
            let is_done = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let end = count + record.payload.len();
                        plain.get_mut(count..end).ok_or_else(too_much)?.copy_from_slice(record.payload);
                        count = end;
                    }
                    false
                }
                ConnectionState::EncodeTlsData(data) => {
                    encode(data, answer)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    false
                }
                // Early data is not offered.
                _ => true,
            };
            *start += discard;
            if is_done {
                // In TLS 1.3 a server may send before it knows whom it talks to. This one does not.
                self.open = !self.connection.is_handshaking();
                return Ok(count);
            }
        }
    }

    /// Encrypts and sends what the socket takes of `slices`.
    pub fn write(&mut self, stream: &TcpStream, slices: &[IoSlice<'_>], outgoing: &mut [u8]) -> Sent {
        match self.flush(stream) {
            Sent::Bytes(_) if self.unsent.is_empty() => {}
            Sent::Bytes(_) => return Sent::Bytes(0),
            other => return other,
        }
        let mut taken = std::mem::take(&mut self.ahead);
        let mut skip = taken;
        let mut gathered = Vec::new();
        for (index, slice) in slices.iter().enumerate() {
            let rest = &slice[skip.min(slice.len())..];
            skip = skip.saturating_sub(slice.len());
            let is_last = index + 1 == slices.len();
            if gathered.is_empty() && is_last {
                return self.send_all(stream, rest, taken, outgoing);
            }
            // Small pieces share a record; a large one behind them begins there.
            let mut rest = rest;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(FRAGMENT_BYTES - gathered.len()));
                gathered.extend_from_slice(now);
                rest = later;
                if gathered.len() == FRAGMENT_BYTES {
                    match self.send_record(stream, &gathered, taken, outgoing) {
                        Ok(()) => taken += gathered.len(),
                        Err(sent) => return sent,
                    }
                    gathered.clear();
                }
            }
        }
        self.send_all(stream, &gathered, taken, outgoing)
    }

    /// Sends `plain` in as many records as it takes, after `taken` bytes that were written before.
    fn send_all(&mut self, stream: &TcpStream, plain: &[u8], mut taken: usize, outgoing: &mut [u8]) -> Sent {
        for fragment in plain.chunks(FRAGMENT_BYTES) {
            match self.send_record(stream, fragment, taken, outgoing) {
                Ok(()) => taken += fragment.len(),
                Err(sent) => return sent,
            }
        }
        Sent::Bytes(taken)
    }

    /// Sends one record. An error is what [`Session::write`] has to return.
    fn send_record(
        &mut self,
        stream: &TcpStream,
        plain: &[u8],
        taken: usize,
        outgoing: &mut [u8],
    ) -> Result<(), Sent> {
        let sealed = self.seal(plain, outgoing).ok_or(Sent::Broken)?;
        let record = &outgoing[..sealed];
        match send_some(stream, record) {
            Ok(count) if count == sealed => Ok(()),
            Ok(count) => {
                self.unsent = record[count..].to_vec();
                self.ahead = plain.len();
                Err(Sent::Bytes(taken))
            }
            Err(Errno::AGAIN) => {
                self.unsent = record.to_vec();
                self.ahead = plain.len();
                Err(Sent::Bytes(taken))
            }
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                self.unsent = record.to_vec();
                self.ahead = taken + plain.len();
                Err(Sent::Starved)
            }
            Err(_) => Err(Sent::Broken),
        }
    }

    /// Encrypts one record into `outgoing`, behind what the session itself may have to say.
    fn seal(&mut self, plain: &[u8], outgoing: &mut [u8]) -> Option<usize> {
        if !self.open {
            return None;
        }
        let mut own = 0;
        loop {
            match self.connection.process_tls_records(&mut self.partial).state.ok()? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return match traffic.encrypt(plain, &mut outgoing[own..]) {
                        Ok(count) => Some(own + count),
                        Err(EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted) => None,
                    };
                }
                ConnectionState::EncodeTlsData(mut data) => own += data.encode(&mut outgoing[own..]).ok()?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.ended = true,
                _ => return None,
            }
        }
    }

    /// Sends what the socket did not take before.
    pub fn flush(&mut self, stream: &TcpStream) -> Sent {
        while !self.unsent.is_empty() {
            match send_some(stream, &self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::AGAIN) => return Sent::Bytes(0),
                Err(Errno::NOBUFS | Errno::NOMEM) => return Sent::Starved,
                Err(_) => return Sent::Broken,
            }
        }
        self.unsent = Vec::new();
        Sent::Bytes(0)
    }

    /// Sends what the session itself has to say.
    fn push(&mut self, stream: &TcpStream, bytes: &[u8]) -> Result<(), Error> {
        if self.unsent.is_empty() {
            match send_some(stream, bytes) {
                Ok(count) => self.unsent.extend_from_slice(&bytes[count..]),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => self.unsent.extend_from_slice(bytes),
                Err(error) => return Err(Error::General(error.to_string())),
            }
        } else {
            self.unsent.extend_from_slice(bytes);
        }
        match self.unsent.len() > 4 * RECORD_BYTES {
            // It asks again and again and does not read the answers.
            true => Err(too_much()),
            false => Ok(()),
        }
    }

    /// Whether there is something that the socket has not taken.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Says that nothing more comes, if there is room for that, and shuts down the writing side.
    pub fn finish(&mut self, stream: &TcpStream, outgoing: &mut [u8]) {
        if self.open
            && self.unsent.is_empty()
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.connection.process_tls_records(&mut self.partial).state
            && let Ok(count) = traffic.queue_close_notify(outgoing)
        {
            // A client that does not get it sees the end of the stream all the same.
            let _ = send_some(stream, &outgoing[..count]);
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// Puts what the session has to say behind `answer`.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, answer: &mut Vec<u8>) -> Result<(), Error> {
    let used = answer.len();
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        _ => 0,
    };
    answer.resize(used + needed, 0);
    data.encode(&mut answer[used..]).map(drop).map_err(|error| Error::General(error.to_string()))
}

fn too_much() -> Error {
    Error::General("more at once than a client has to say".into())
}

fn send_some(stream: &TcpStream, bytes: &[u8]) -> rustix::io::Result<usize> {
    retry_on_intr(|| send(stream, bytes, SendFlags::NOSIGNAL))
}
