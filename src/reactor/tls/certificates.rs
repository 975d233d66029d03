//! Certificates and their keys: read from PEM files, chosen by the name that the client asks for.

use crate::config::Config;
use crate::time::{Instant, Now};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Later than any certificate is valid: 31 December 9999.
const LATEST: u64 = 253_402_300_799;
const DAY: u64 = 86_400;
/// Days before its end from which on a certificate is warned of. Those that are renewed by a program are by then.
const WARN_DAYS: u64 = 14;

/// All pairs of a chain and its key, in the order of the settings.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Arc<CertifiedKey>>,
    /// Of each pair, the file of the chain and the end of its validity, in seconds since 1970.
    ends: Vec<(String, u64)>,
}

impl Certificates {
    /// Reads what the settings name. An error says which file is wrong, and how.
    pub fn read(config: &Config) -> io::Result<Self> {
        let (mut pairs, mut ends) = (Vec::new(), Vec::new());
        for (chain, key) in config.tls.certificate.iter().zip(&config.tls.key) {
            let pair = read_pair(chain, key)?;
            ends.push((chain.display().to_string(), not_after(&pair.cert[0]).unwrap_or(LATEST)));
            pairs.push(Arc::new(pair));
        }
        Ok(Self { pairs, ends })
    }

    /// Of each, its file and when it ends, in seconds since 1970.
    pub fn ends(&self) -> Vec<(String, u64)> {
        self.ends.clone()
    }
}

/// When certificates end, and whether somebody has been told.
#[derive(Debug)]
pub struct Expiry {
    ends: Vec<(String, u64)>,
    /// When to look again.
    pub look_at: Instant,
}

impl Expiry {
    /// Looks at once.
    pub const fn new(ends: Vec<(String, u64)>) -> Self {
        Self { ends, look_at: Instant::from_millis(0) }
    }

    /// Tells of those that end within two weeks, or have ended. To be called when it is time to look, which is once a
    /// day.
    pub fn look(&mut self, now: Now) {
        self.look_at = now.at.plus_seconds(DAY);
        for (file, end) in &self.ends {
            match end.checked_sub(now.unix) {
                None => log::warn!("the certificate in {file} has expired: clients refuse it"),
                Some(left) if left < WARN_DAYS * DAY => {
                    log::warn!("the certificate in {file} expires in {} days", left / DAY);
                }
                Some(left) => log::debug!("the certificate in {file} is good for {} days", left / DAY),
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that is good for the name and that the client can check; else the first that it can check.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().filter(|_| self.pairs.len() > 1);
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| {
            let is_for = |pair: &&Arc<CertifiedKey>| {
                ParsedCertificate::try_from(&pair.cert[0])
                    .is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
            };
            self.pairs.iter().filter(is_for).find(fits)
        });
        named.or_else(|| self.pairs.iter().find(fits)).cloned()
    }
}

fn read_pair(chain: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&read(chain, "tls.certificate")?)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(chain, "tls.certificate", &error))?;
    if certificates.is_empty() {
        return Err(wrong(chain, "tls.certificate", &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key, "tls.key")?)
        .map_err(|error| wrong(key, "tls.key", &error))?;
    ParsedCertificate::try_from(&certificates[0]).map_err(|error| wrong(chain, "tls.certificate", &error))?;
    CertifiedKey::from_der(certificates, private, &rustls::crypto::ring::default_provider()).map_err(
        |error| {
            let error = match error {
                rustls::Error::InconsistentKeys(_) => format!("it does not belong to {}", chain.display()),
                error => error.to_string(),
            };
            wrong(key, "tls.key", &error)
        },
    )
}

fn read(path: &Path, setting: &str) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(path, setting, &error))
}

fn wrong(path: &Path, setting: &str, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{setting}: {}: {what}", path.display()))
}

/// When the validity of a certificate ends, in seconds since 1970. The library that checks certificates is asked
/// whether it is good at the end of all times, and answers until when it was.
fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(LATEST));
    let usage = webpki::KeyUsage::server_auth();
    match certificate.verify_for_usage(&[], &[], &[], time, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(not_after.as_secs()),
        _ => None,
    }
}
