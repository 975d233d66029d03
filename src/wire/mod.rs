//! Bytes on the wire to values and back: HTTP/1.1 heads, chunked bodies, query strings, WebSocket frames.
//! Knows no hub.

pub mod chunked;
pub mod head;
mod host;
pub mod json;
pub mod media;
pub mod query;
pub mod response;
pub mod shown;
pub mod tags;
mod target;
pub mod websocket;
pub mod words;
