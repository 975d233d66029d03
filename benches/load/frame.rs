//! Frames of a WebSocket, as a server sends them: unmasked (RFC 6455, section 5.2).

/// The payload and the length of the frame at the front of `bytes`, if it is complete.
pub fn first(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    Some((bytes.get(head..head + length)?, head + length))
}
