//! The `timesync` extension: a client measures by how much its clock differs from ours and how long messages
//! travel, with every message to the server itself. Nothing is remembered between two messages.

use super::message::Incoming;
use crate::carry::carry;
use crate::time::{Instant, Now};
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write;

/// A client that knows better than this is left in peace, in milliseconds.
const ACCURATE_MS: u64 = 25;

/// What the client says, and when it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Timesync {
    /// The client's clock when it sent the message, milliseconds.
    tc: i64,
    /// The lag it assumes.
    lag: i64,
    /// Its accuracy: how far off our clock it believed us to be.
    accuracy: i64,
    /// Our clocks when the message arrived.
    arrived_ms: u64,
    arrived: Instant,
}

carry! {
    struct Timesync { tc, lag, accuracy, arrived_ms, arrived }
}

#[derive(Deserialize)]
struct Wire {
    tc: f64,
    #[serde(default)]
    l: f64,
    #[serde(default)]
    o: f64,
}

impl Timesync {
    /// Reads `ext.timesync`.
    pub fn read(raw: Option<&RawValue>, now: Now) -> Option<Self> {
        let wire: Wire = json::object(raw?.get()).ok()?;
        let (tc, lag, offset) = (wire.tc as i64, wire.l as i64, wire.o as i64);
        let arrived_ms = now.unix * 1000 + u64::from(now.unix_ms);
        let believed = tc.saturating_add(offset).saturating_add(lag);
        let accuracy = believed.saturating_sub(arrived_ms as i64);
        Some(Self { tc, lag, accuracy, arrived_ms, arrived: now.at })
    }

    /// Appends `,"timesync":{…}`, if the client needs it.
    pub fn write(&self, out: &mut Vec<u8>, now: Instant) {
        if self.lag != 0 && self.accuracy.unsigned_abs() < ACCURATE_MS {
            return;
        }
        let Self { tc, accuracy, arrived_ms, .. } = self;
        let held = now.millis_since(self.arrived);
        let _ =
            write!(out, ",\"timesync\":{{\"tc\":{tc},\"ts\":{arrived_ms},\"p\":{held},\"a\":{accuracy}}}");
    }
}

/// Appends `,"ext":{"timesync":…}` to the reply to a message that is answered at once and has no other `ext`.
pub fn write_ext(out: &mut Vec<u8>, message: &Incoming, now: Now) {
    let Some(timesync) = Timesync::read(message.ext().timesync, now) else { return };
    let mut member = Vec::new();
    timesync.write(&mut member, now.at);
    if let Some((_comma, member)) = member.split_first() {
        out.extend_from_slice(b",\"ext\":{");
        out.extend_from_slice(member);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(json: &str) -> Option<String> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let now = Now { at: Instant::from_millis(5), unix: 100, unix_ms: 0 };
        let sync = Timesync::read(Some(&raw), now)?;
        let mut out = Vec::new();
        sync.write(&mut out, Instant::from_millis(12));
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn replies() {
        let first = reply(r#"{"tc":99000,"l":0,"o":0}"#);
        assert_eq!(first.as_deref(), Some(r#","timesync":{"tc":99000,"ts":100000,"p":7,"a":-1000}"#));
        assert_eq!(reply(r#"{"tc":99000,"l":20,"o":990}"#).as_deref(), Some(""), "accurate enough");
        assert!(reply(r#"{"tc":99000,"l":20,"o":900}"#).is_some_and(|reply| reply.ends_with(r#""a":-80}"#)));
        assert!(reply(r#"{"tc":1e300,"l":-1e300,"o":0}"#).is_some(), "absurd clocks do no harm");
        assert!(reply(r#"{"tc":-1e300,"l":-1,"o":0}"#).is_some(), "in either direction");
        assert_eq!(reply("true"), None);
    }
}
