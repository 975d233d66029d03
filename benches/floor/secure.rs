//! TLS at its cheapest: rustls without buffers of its own, a record into one scratch buffer, and one `write` of it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;

/// Room for what a record is more than its text.
const RECORD: usize = 1 << 10;

pub fn config(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    config.map(Arc::new).map_err(io::Error::other)
}

/// One session.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// Part of a record; in practice empty.
    rest: Vec<u8>,
}

impl Session {
    pub fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok(Self { connection, rest: Vec::new() })
    }

    /// Takes what was read; answers of the handshake go to the socket. Returns what of it is the client's text.
    pub fn receive(&mut self, bytes: &[u8], socket: &TcpStream) -> io::Result<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let mut incoming = std::mem::take(&mut self.rest);
        let (mut start, mut plain, mut answer) = (0, Vec::new(), Vec::new());
        loop {
            let status = self.connection.process_tls_records(&mut incoming[start..]);
            let mut used = status.discard;
            let is_done = match status.state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        used += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let begin = answer.len();
                    answer.resize(begin + (16 << 10), 0);
                    let count = data.encode(&mut answer[begin..]).map_err(io::Error::other)?;
                    answer.truncate(begin + count);
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                _ => true,
            };
            start += used;
            if is_done {
                break;
            }
        }
        self.rest = incoming.split_off(start);
        if !answer.is_empty() && rustix::io::write(socket, &answer)? < answer.len() {
            return Err(io::Error::other("a socket did not take a whole answer"));
        }
        Ok(plain)
    }

    /// Writes `plain` as one record. Returns whether all of it went.
    pub fn write(&mut self, plain: &[u8], socket: &TcpStream, scratch: &mut Vec<u8>) -> bool {
        if scratch.len() < plain.len() + RECORD {
            scratch.resize(plain.len() + RECORD, 0);
        }
        let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.connection.process_tls_records(&mut []).state
        else {
            return false;
        };
        let Ok(length) = traffic.encrypt(plain, scratch) else { return false };
        matches!(rustix::io::write(socket, &scratch[..length]), Ok(written) if written == length)
    }
}
