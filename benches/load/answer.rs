//! As much of HTTP answers as the generator needs.

use crate::error::Error;
use crate::technique::Cursor;

/// The head of an answer.
pub struct Head {
    pub status: u16,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Bytes of the body; none for one that is chunked or ends with the connection.
    pub body: Option<usize>,
    pub cursor: Option<Cursor>,
}

impl Head {
    /// The head at the front of `bytes`, or `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let mut headers = [httparse::EMPTY_HEADER; 48];
        let mut answer = httparse::Response::new(&mut headers);
        let length = match answer.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(Error::Refused(format!("no HTTP: {error}"))),
        };
        let status = answer.code.unwrap_or(0);
        let mut body = None;
        let (mut id, mut tag, mut modified) = ("", "", "");
        for header in answer.headers.iter() {
            let value = || std::str::from_utf8(header.value).unwrap_or("");
            match header.name {
                name if name.eq_ignore_ascii_case("content-length") => body = value().parse().ok(),
                name if name.eq_ignore_ascii_case("encke-next") => id = value(),
                name if name.eq_ignore_ascii_case("etag") => tag = value(),
                name if name.eq_ignore_ascii_case("last-modified") => modified = value(),
                _ => {}
            }
        }
        let id = if id.is_empty() { tag } else { id };
        let cursor = (!id.is_empty()).then(|| Cursor { id: id.into(), modified: modified.into() });
        match status {
            // nchan gives it a length all the same (RFC 9110, section 8.6: it must not).
            101 => body = None,
            204 | 304 => body = Some(0),
            _ => {}
        }
        Ok(Some(Self { status, length, body, cursor }))
    }
}

/// The beginning of an answer, to be shown in an error.
pub fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).replace("\r\n", " | ")
}
