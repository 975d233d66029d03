//! A certificate for servers under test, made by openssl.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Certificate and key as files.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// Makes one for localhost, with the kind of key that is usual and quick.
    pub fn make(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let (certificate, key) = (directory.join("bench.pem"), directory.join("bench.key"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args([
            "-subj",
            "/CN=localhost",
            "-days",
            "30",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Ok(Self { certificate, key }),
            Ok(status) => Err(io::Error::other(format!("openssl makes no certificate: {status}"))),
            Err(error) => Err(io::Error::other(format!("openssl: {error}"))),
        }
    }

    /// Encke's options for it.
    pub fn options(&self) -> [String; 6] {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.display().to_string());
        [
            "--tls-listen".into(),
            "127.0.0.1:0".into(),
            "--tls-certificate".into(),
            certificate,
            "--tls-key".into(),
            key,
        ]
    }
}
