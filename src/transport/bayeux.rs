//! Events of Bayeux: `{"channel":"/a/b","data":…}`, shared by all sessions however they are connected.

use super::Format;
use super::envelope::{write_data64, write_string};
use crate::hub::{Data, Message, one_line};
use crate::id::{Epoch, MessageId, Seq};

/// Bits of a replay id that are the number of a message; those above name the history. Together they are 52,
/// because clients keep the id in a double.
const SEQ_BITS: u32 = 40;
const EPOCH_MASK: u64 = (1 << 12) - 1;

/// The event of `message`, and how much was newly encoded for it. Empty for a channel that Bayeux keeps for
/// itself. With `replay` the event tells its position, as clients of Salesforce's streaming API expect it:
/// `data.event.replayId`, where the data is an object.
pub fn event(message: &Message, replay: bool) -> (&[u8], usize) {
    let format = if replay { Format::BayeuxReplay } else { Format::Bayeux };
    message.frame(format.number(), |message| {
        let mut out = Vec::new();
        // It has no word for the removal of a key.
        if !is_reserved(&message.channel) && !message.is_removal() {
            write_event(&mut out, message, replay.then(|| replay_id(message.id)));
        }
        out.into()
    })
}

/// Whether Bayeux gives channels of that name another meaning.
fn is_reserved(channel: &str) -> bool {
    matches!(channel.split('/').next(), Some("meta" | "service"))
}

/// The position of a message as a number.
pub fn replay_id(id: MessageId) -> u64 {
    (epoch_bits(id.epoch) << SEQ_BITS) | (id.seq & ((1 << SEQ_BITS) - 1))
}

/// The number of the message at a position; `None` if it is one of another history than `epoch`.
pub fn replayed_seq(position: u64, epoch: Epoch) -> Option<Seq> {
    (position >> SEQ_BITS == epoch_bits(epoch)).then_some(position & ((1 << SEQ_BITS) - 1))
}

/// Never 0, so that no position looks like a small number.
const fn epoch_bits(epoch: Epoch) -> u64 {
    let bits = epoch.bits() & EPOCH_MASK;
    if bits == 0 { 1 } else { bits }
}

fn write_event(out: &mut Vec<u8>, message: &Message, replay: Option<u64>) {
    out.extend_from_slice(b"{\"channel\":");
    let mut channel = String::with_capacity(message.channel.len() + 1);
    channel.push('/');
    channel.push_str(&message.channel);
    write_string(out, &channel);
    out.extend_from_slice(b",\"data\":");
    match &message.publication.data {
        Data::Json(json) => write_json(out, &one_line(json), replay),
        Data::Text(text) => write_string(out, text),
        Data::Binary(bytes) => {
            out.push(b'{');
            write_data64(out, bytes);
            out.push(b'}');
        }
        Data::Removed => out.extend_from_slice(b"null"),
    }
    if let Some(position) = replay {
        out.extend_from_slice(format!(",\"ext\":{{\"replayId\":{position}}}").as_bytes());
    }
    out.push(b'}');
}

/// Appends the data; an object gets the position as its first member, which gives way to one of its own.
fn write_json(out: &mut Vec<u8>, json: &str, replay: Option<u64>) {
    let Some((position, members)) = replay.zip(json.trim_start().strip_prefix('{')) else {
        return out.extend_from_slice(json.as_bytes());
    };
    let members = members.trim_start();
    let comma = if members.starts_with('}') { "" } else { "," };
    out.extend_from_slice(format!("{{\"event\":{{\"replayId\":{position}}}{comma}{members}").as_bytes());
}
