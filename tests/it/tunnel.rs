//! From plain TCP to TLS: what any client of these tests says goes to the server encrypted, and comes back decrypted.
//!
//! The other side of TLS is rustls', too, but its buffered half, which the server does not use; `tls.rs` has clients of
//! other makes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Starts a tunnel to the TLS listener at `to`, whose certificate is in the file `trusted`. No write to the server has
/// more than `piece` bytes. Returns where it listens.
pub fn start(to: SocketAddr, trusted: &Path, piece: usize) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(trusted).expect("a certificate");
    roots.add(certificate).expect("a certificate that can be a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth());
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for plain in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                // A server that closes, or a client that goes, ends it.
                let _ = TcpStream::connect(to).and_then(|secure| pump(&plain, &secure, config, piece));
            });
        }
    });
    address
}

/// Writes a few bytes at a time.
struct Pieces<'a>(&'a TcpStream, usize);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pump(
    mut plain: &TcpStream,
    mut secure: &TcpStream,
    config: Arc<ClientConfig>,
    piece: usize,
) -> io::Result<()> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    for stream in [plain, secure] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let mut buffer = vec![0; 64 << 10];
    let mut down = Vec::new();
    let (mut asked_all, mut told_all) = (false, false);
    loop {
        let mut of_plain = PollFlags::empty();
        of_plain.set(PollFlags::IN, !asked_all && !tls.is_handshaking() && !tls.wants_write());
        of_plain.set(PollFlags::OUT, !down.is_empty());
        let mut of_secure = PollFlags::empty();
        of_secure.set(PollFlags::IN, down.is_empty() && !told_all);
        of_secure.set(PollFlags::OUT, tls.wants_write());
        let mut ready = [PollFd::new(&plain, of_plain), PollFd::new(&secure, of_secure)];
        poll(&mut ready, None)?;
        let [by_plain, by_secure] = [ready[0].revents(), ready[1].revents()];
        if by_plain.intersects(PollFlags::ERR) || by_secure.intersects(PollFlags::ERR) {
            // The other side sees a reset, too.
            return Ok(());
        }
        if by_plain.contains(PollFlags::IN) && of_plain.contains(PollFlags::IN) {
            match plain.read(&mut buffer)? {
                0 => {
                    asked_all = true;
                    tls.send_close_notify();
                }
                count => tls.writer().write_all(&buffer[..count])?,
            }
        }
        if by_secure.contains(PollFlags::OUT) {
            tls.write_tls(&mut Pieces(secure, piece))?;
        }
        if asked_all && !tls.wants_write() && !told_all {
            let _ = secure.shutdown(Shutdown::Write);
        }
        if by_secure.intersects(PollFlags::IN | PollFlags::HUP) && of_secure.contains(PollFlags::IN) {
            let is_end = match tls.read_tls(&mut secure) {
                Ok(count) => count == 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => return Err(error),
            };
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let start = down.len();
            down.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut down[start..])?;
            told_all |= is_end || state.peer_has_closed();
        }
        if !down.is_empty() {
            match plain.write(&down) {
                Ok(count) => drop(down.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if told_all && down.is_empty() {
            return plain.shutdown(Shutdown::Write);
        }
    }
}
