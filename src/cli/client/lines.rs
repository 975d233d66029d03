//! Lines of bytes from a stream, bounded.
//!
//! `read_until` alone would take a line without an end into memory until there is none left.

use std::io::{self, BufRead, Read};

/// Bytes of the longest line that is accepted, far above what a server takes for a message.
pub const LINE_BYTES: usize = 64 << 20;

/// What [`read_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line; its end is removed.
    Complete,
    /// The stream ended within this line.
    Cut,
    /// The stream ended.
    End,
}

/// Replaces what is in `line` by the next line of `reader`, without its `\n` or `\r\n`.
///
/// Errors are those of the reader, and `InvalidData` for a line longer than [`LINE_BYTES`].
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    read_line_within(reader, line, LINE_BYTES)
}

pub(super) fn read_line_within(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Line> {
    line.clear();
    reader.take(limit as u64 + 1).read_until(b'\n', line)?;
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        line.pop_if(|byte| *byte == b'\r');
        return Ok(Line::Complete);
    }
    if line.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a line is longer than {limit} bytes"),
        ));
    }
    Ok(if line.is_empty() { Line::End } else { Line::Cut })
}
