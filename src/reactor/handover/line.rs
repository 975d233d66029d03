//! The line between two processes: bytes, and descriptors that go with them.

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// Descriptors of one message; the kernel takes 253.
const AT_ONCE: usize = 250;
/// How long to wait when too many descriptors are on their way.
const FULL: Duration = Duration::from_millis(1);
/// A message may not be larger than this: what says so is no message.
const BYTES_MAX: u64 = 1 << 40;

/// One end of it, and until when what is asked of it has to be done.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    deadline: Instant,
}

impl Line {
    /// That end of a line. Every call waits until `patience` has passed from now on.
    pub fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self { stream, deadline: Instant::now() + patience })
    }

    /// Has calls from now on wait for so long.
    pub fn wait_for(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(bytes).map_err(timed_out)
    }

    /// Receives as many bytes as there is room for.
    pub fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read_exact(bytes).map_err(timed_out)
    }

    /// Receives some bytes.
    pub fn receive_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(bytes).map_err(timed_out)
    }

    /// Sends a message with descriptors.
    pub fn send_all(&mut self, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
        self.send(&(bytes.len() as u64).to_le_bytes())?;
        self.send(&(descriptors.len() as u64).to_le_bytes())?;
        for some in descriptors.chunks(AT_ONCE) {
            self.send_descriptors(some)?;
        }
        self.send(bytes)
    }

    /// Receives what [`Line::send_all`] sent.
    pub fn receive_all(&mut self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut lengths = [[0; 8]; 2];
        self.receive(lengths.as_flattened_mut())?;
        let [bytes, count] = lengths.map(u64::from_le_bytes);
        if bytes > BYTES_MAX || count > u32::MAX.into() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut descriptors = Vec::new();
        while (descriptors.len() as u64) < count {
            self.receive_descriptors(&mut descriptors)?;
        }
        let mut message = Vec::new();
        message.try_reserve_exact(bytes as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
        message.resize(bytes as usize, 0);
        self.receive(&mut message)?;
        Ok((message, descriptors))
    }

    fn send_descriptors(&self, descriptors: &[BorrowedFd]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        loop {
            self.stream.set_write_timeout(Some(self.left()?))?;
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            match sendmsg(&self.stream, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                // The other end has to take some of them first.
                Err(Errno::TOOMANYREFS) => thread::sleep(FULL),
                Err(error) => return Err(timed_out(error.into())),
            }
        }
    }

    fn receive_descriptors(&self, descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        self.stream.set_read_timeout(Some(self.left()?))?;
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Err(Errno::INTR) => return Ok(()),
            received => received.map_err(|error| timed_out(error.into()))?,
        };
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = descriptors.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                descriptors.extend(more);
            }
        }
        // Cut short, as this process may not have so many.
        let is_cut = received.flags.contains(rustix::net::ReturnFlags::CTRUNC);
        if is_cut || descriptors.len() == before {
            return Err(io::Error::other(
                "this process may not have so many open files (LimitNOFILE, ulimit -n)",
            ));
        }
        Ok(())
    }
}

/// A timeout of a socket says that it would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn lines() -> (Line, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        let line = |stream| Line::new(stream, Duration::from_secs(30)).unwrap();
        (line(one), line(other))
    }

    #[test]
    fn bytes_and_descriptors_arrive_in_order() {
        let (mut one, mut other) = lines();
        let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let bytes: Vec<u8> = (0..3_000_000).map(|number| number as u8).collect();
        let sent = bytes.clone();
        let ends: Vec<UnixStream> = pairs.iter().map(|(_, end)| end.try_clone().unwrap()).collect();
        let sender = thread::spawn(move || {
            let descriptors: Vec<BorrowedFd> = ends.iter().map(AsFd::as_fd).collect();
            one.send_all(&sent, &descriptors).unwrap();
        });
        let (received, descriptors) = other.receive_all().unwrap();
        sender.join().unwrap();
        assert!(received == bytes && descriptors.len() == pairs.len());
        for (place, ((mut end, _), descriptor)) in pairs.into_iter().zip(descriptors).enumerate() {
            end.write_all(&[place as u8]).unwrap();
            let mut byte = [0];
            UnixStream::from(descriptor).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [place as u8]);
        }
    }

    #[test]
    fn a_line_that_ends_or_says_nothing_is_an_error() {
        let (one, mut other) = lines();
        drop(one);
        assert_eq!(other.receive_all().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (_one, mut other) = lines();
        other.wait_for(Duration::from_millis(20));
        assert_eq!(other.receive_all().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_announces_too_much_is_refused() {
        let (mut one, mut other) = lines();
        one.send(&[0xff; 16]).unwrap();
        assert_eq!(other.receive_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
