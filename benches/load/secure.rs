//! TLS as generators speak it: to whoever is there, unverified, each connection with a handshake of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

/// What all connections have in common.
pub fn config() -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let verifier = Arc::new(Unverified(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The other end is a server that was started for the purpose: checking what it signs would cost the generator time.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One connection.
pub struct Secure(ClientConnection);

impl Secure {
    pub fn new(config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(config), name).map(Self).map_err(io::Error::other)
    }

    /// What a client says first.
    #[allow(dead_code, reason = "only strangers say no more than that")]
    pub fn hello(config: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
        let (mut one, mut bytes) = (Self::new(config)?, Vec::new());
        one.0.write_tls(&mut bytes)?;
        Ok(bytes)
    }

    /// Goes on with the handshake as far as the socket lets it. Returns whether it is done.
    pub fn shake(&mut self, socket: &mut (impl Read + Write)) -> io::Result<bool> {
        loop {
            self.flush(socket)?;
            if !self.0.is_handshaking() {
                return Ok(true);
            }
            if !self.take(socket)? {
                return Ok(false);
            }
        }
    }

    /// What has come, decrypted.
    pub fn read(&mut self, socket: &mut (impl Read + Write), plain: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(plain) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            if !self.take(socket)? {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Sends something short into a socket that takes it.
    pub fn write(&mut self, socket: &mut (impl Read + Write), plain: &[u8]) -> io::Result<usize> {
        let count = self.0.writer().write(plain)?;
        self.flush(socket)?;
        Ok(count)
    }

    fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.0.wants_write() {
            match self.0.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes records from the socket. Returns whether there were any.
    fn take(&mut self, socket: &mut impl Read) -> io::Result<bool> {
        match self.0.read_tls(socket) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        self.0.process_new_packets().map_err(io::Error::other)?;
        Ok(true)
    }
}
