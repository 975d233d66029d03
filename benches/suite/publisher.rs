//! A connection that publishes and waits for each answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Publisher {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Publisher {
    pub fn to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream: BufReader::new(stream), line: String::new() })
    }

    /// Publishes `body`; `fields` are further lines of the request's head.
    pub fn publish(&mut self, target: &str, fields: &str, body: &[u8]) -> io::Result<()> {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: bench\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (mut length, mut is_first) = (0, true);
        loop {
            self.line.clear();
            self.stream.read_line(&mut self.line)?;
            if std::mem::take(&mut is_first) && !matches!(self.line.get(9..12), Some("201" | "202")) {
                return Err(io::Error::other(format!("publishing: {}", self.line.trim())));
            }
            if let Some(value) = self.line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if self.line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)
    }

    /// Publishes lines, each a message with its channel.
    pub fn publish_batch(&mut self, lines: &str) -> io::Result<()> {
        self.publish("/pub", "Content-Type: application/x-ndjson\r\n", lines.as_bytes())
    }
}
