//! Bayeux long polling: a session each, as CometD's clients have them.
//!
//! Handshake, then subscriptions to all rooms with a first connect that is answered at once, then connect after connect.

use std::io::Write;

use crate::answer::excerpt;
use crate::error::Error;
use crate::ledger::Room;

/// How far a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Session {
    #[default]
    None,
    /// It has shaken hands, and has this id.
    Begun(String),
    /// It listens.
    Subscribed(String),
}

impl Session {
    /// Appends the request that comes next.
    pub fn request(&self, rooms: &[Room], out: &mut Vec<u8>) {
        match self {
            Self::None => post(out, "/handshake", |out| {
                write!(
                    out,
                    r#"[{{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"id":"1"}}]"#
                )
            }),
            Self::Begun(id) => post(out, "/", |out| {
                write!(out, r#"[{{"channel":"/meta/subscribe","clientId":"{id}","id":"2","subscription":["#)?;
                for (at, room) in rooms.iter().enumerate() {
                    write!(out, r#"{}"/c{}""#, if at == 0 { "" } else { "," }, room.channel)?;
                }
                write!(
                    out,
                    r#"]}},{{"channel":"/meta/connect","clientId":"{id}","id":"3","connectionType":"long-polling","advice":{{"timeout":0}}}}]"#
                )
            }),
            Self::Subscribed(id) => post(out, "/connect", |out| {
                write!(
                    out,
                    r#"[{{"id":"4","channel":"/meta/connect","connectionType":"long-polling","clientId":"{id}"}}]"#
                )
            }),
        }
    }

    /// Goes on after an answer.
    pub fn answered(&mut self, body: &[u8]) -> Result<(), Error> {
        expect_success(body)?;
        match self {
            Self::None => {
                let replies: Vec<serde_json::Value> =
                    serde_json::from_slice(body).map_err(|_| Error::Refused(excerpt(body)))?;
                let id = replies.first().and_then(|reply| reply["clientId"].as_str());
                *self = Self::Begun(id.ok_or_else(|| Error::Refused(excerpt(body)))?.into());
            }
            Self::Begun(id) => *self = Self::Subscribed(std::mem::take(id)),
            Self::Subscribed(_) => {}
        }
        Ok(())
    }
}

/// A message that is refused is an error, although the request is not.
pub fn expect_success(body: &[u8]) -> Result<(), Error> {
    match memchr::memmem::find(body, br#""successful":false"#) {
        Some(_) => Err(Error::Refused(excerpt(body))),
        None => Ok(()),
    }
}

/// Appends a message to a batch.
pub fn add(number: u32, data: &[u8], batch: &mut Vec<u8>) {
    batch.push(if batch.is_empty() { b'[' } else { b',' });
    write!(batch, r#"{{"channel":"/c{number}","id":"9","data":""#).expect("a Vec takes everything");
    batch.extend_from_slice(data);
    batch.extend_from_slice(br#""}"#);
}

/// Appends the request that publishes a batch.
pub fn publish(batch: &[u8], out: &mut Vec<u8>) {
    post(out, "/", |out| {
        out.extend_from_slice(batch);
        out.write_all(b"]")
    });
}

fn post(out: &mut Vec<u8>, below: &str, body: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) {
    let mut text = Vec::with_capacity(256);
    body(&mut text)
        .and_then(|()| {
            write!(
                out,
                "POST /bayeux{below} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
                text.len()
            )
        })
        .expect("a Vec takes everything");
    out.extend_from_slice(&text);
}
