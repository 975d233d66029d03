//! Answers about channels and publications, as JSON or as `key: value` lines.

use super::batch::line_of;
use crate::broker::presence::Here;
use crate::broker::{Receipt, Receipts, Refusal};
use crate::hub::{ChannelInfo, KeyError, Published};
use crate::id::MessageId;
use crate::transport::write_string;
use crate::wire::media;
use crate::wire::response::{Response, write_all, write_number};

/// Room for what is told of a channel with a name that is not long.
const JSON_BYTES: usize = 128;

/// Who is on a channel: the members, too, for who may know their `names`, if it was asked for and they are not too many.
pub fn presence(channel: &str, here: &Here<'_>, names: bool, has_members: bool) -> Response {
    let mut body = b"{\"channel\":".to_vec();
    write_string(&mut body, channel);
    write_all(
        &mut body,
        &[",\"count\":", &here.count.to_string(), ",\"anonymous\":", &here.anonymous.to_string()],
    );
    if let Some(members) = here.members.as_ref().filter(|_| names && has_members) {
        body.extend_from_slice(b",\"members\":[");
        for (place, member) in members.iter().enumerate() {
            body.extend_from_slice(if place == 0 { b"{\"id\":" } else { b",{\"id\":" });
            write_string(&mut body, member.subject);
            if let Some(info) = member.info {
                write_all(&mut body, &[",\"info\":", info]);
            }
            write_all(&mut body, &[",\"connections\":", &member.connections.to_string(), "}"]);
        }
        body.push(b']');
    }
    body.extend_from_slice(b"}\n");
    Response::new(200, media::JSON, body).with("Cache-Control", "no-store")
}

/// An answer that tells of one channel, or of several in a list.
#[derive(Debug)]
struct Answer {
    list: bool,
    as_text: bool,
    /// Somebody was listening.
    heard: bool,
    body: Vec<u8>,
}

impl Answer {
    /// An answer that tells nothing yet, to be written in `room`; unless it is a `list`, it has to tell of one channel.
    fn new(list: bool, as_text: bool, room: Vec<u8>) -> Self {
        Self { list, as_text, heard: false, body: room }
    }

    /// Tells what a publication did.
    fn tell_published(&mut self, channel: &str, published: &Published, told: bool) {
        self.heard |= published.subscribers > 0;
        self.tell(&describe_published(channel, published, told));
    }

    /// The answer to a publication: 201 if somebody was listening, else 202.
    fn published(self) -> Response {
        let status = if self.heard { 201 } else { 202 };
        self.finish(status)
    }

    fn tell(&mut self, description: &Description) {
        let is_first = self.body.is_empty();
        match (self.as_text, self.list) {
            (true, _) if is_first => {}
            (true, _) => self.body.push(b'\n'),
            (false, true) => self.body.push(if is_first { b'[' } else { b',' }),
            (false, false) => {}
        }
        match self.as_text {
            true => self.body.extend_from_slice(description.lines().as_bytes()),
            false => description.write_json(&mut self.body),
        }
    }

    fn finish(mut self, status: u16) -> Response {
        if self.as_text {
            return Response::new(status, media::TEXT, self.body);
        }
        if self.list {
            self.body.extend_from_slice(if self.body.is_empty() { b"[]" } else { b"]" });
        }
        Response::new(status, media::JSON, self.body)
    }
}

/// What is told of a channel.
struct Description<'a> {
    id: Option<MessageId>,
    channel: &'a str,
    /// None = it is not for who asks to know.
    subscribers: Option<usize>,
    messages: usize,
    /// Keys that have a value; not told to publishers.
    keys: Option<usize>,
}

impl Description<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self.id {
            Some(id) => {
                out.extend_from_slice(b"{\"id\":\"");
                id.write_to(out);
                out.extend_from_slice(b"\",\"channel\":");
            }
            None => out.extend_from_slice(b"{\"id\":null,\"channel\":"),
        }
        write_string(out, self.channel);
        if let Some(subscribers) = self.subscribers {
            out.extend_from_slice(b",\"subscribers\":");
            write_number(out, subscribers);
        }
        out.extend_from_slice(b",\"messages\":");
        write_number(out, self.messages);
        if let Some(keys) = self.keys {
            out.extend_from_slice(b",\"keys\":");
            write_number(out, keys);
        }
        out.push(b'}');
    }

    fn lines(&self) -> String {
        let id = self.id.map_or_else(String::new, |id| format!(" {id}"));
        let keys = self.keys.map_or_else(String::new, |keys| format!("keys: {keys}\n"));
        format!(
            "id:{id}\nchannel: {}\n{}messages: {}\n{keys}",
            self.channel,
            self.subscribers.map(|count| format!("subscribers: {count}\n")).unwrap_or_default(),
            self.messages
        )
    }
}

fn describe_published<'a>(channel: &'a str, published: &Published, told: bool) -> Description<'a> {
    let Published { id, subscribers, messages } = *published;
    Description { id: Some(id), channel, subscribers: told.then_some(subscribers), messages, keys: None }
}

/// The answer to a publication. How many listen is told to who may publish everything, and not to who publishes by the
/// grant of a token. It is written in `room`, which is empty.
pub fn published(receipts: &Receipts, (list, as_text): (bool, bool), told: bool, room: Vec<u8>) -> Response {
    let mut answer = Answer::new(list, as_text, room);
    receipts.iter().for_each(|receipt| answer.tell_published(&receipt.channel, &receipt.published, told));
    answer.published()
}

/// The answer to what the broker refuses of the batch in `body`, if it is about one of its messages.
#[cold]
pub fn refused_line(refusal: Refusal, body: &[u8], as_text: bool) -> Option<Response> {
    let Refusal::Key { place, .. } = refusal else { return None };
    let detail = format!("line {}: {}", line_of(body, place), refusal.detail());
    let response = Response::problem(status_of(refusal), &detail, as_text);
    Some(match refusal.retry_seconds() {
        Some((least, _)) => response.with("Retry-After", least),
        None => response,
    })
}

/// The answer to what the broker refuses, without the time after which to try again.
#[cold]
pub fn refused(refusal: Refusal, as_text: bool) -> Response {
    Response::problem(status_of(refusal), refusal.detail(), as_text)
}

const fn status_of(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::TooManyMatches => 400,
        Refusal::KeyReused => 422,
        Refusal::TooManyMessages
        | Refusal::TooManySearches
        | Refusal::ShareExceeded
        | Refusal::TooManyTemplates => 429,
        Refusal::TooManyChannels
        | Refusal::TooManySubscribers
        | Refusal::MemoryShort
        | Refusal::LogBehind
        | Refusal::PresenceUnknown
        | Refusal::Outdated => 503,
        Refusal::NotLatest => 412,
        Refusal::Reserved | Refusal::Presence => 403,
        Refusal::Key { error: KeyError::NoSuchKey, .. } => 404,
        Refusal::Key { error: KeyError::NotPatchable, .. } => 409,
        Refusal::Key { error: KeyError::TooLarge | KeyError::TooMuch, .. } => 413,
        Refusal::Key { error: KeyError::NoRoom(_), .. } => 503,
    }
}

/// What a publication of one message did, as JSON.
pub fn one(receipt: &Receipt, told: bool) -> String {
    let mut json = Vec::with_capacity(JSON_BYTES);
    describe_published(&receipt.channel, &receipt.published, told).write_json(&mut json);
    // A channel's name is UTF-8, and all else is ASCII.
    String::from_utf8(json).unwrap_or_default()
}

/// What is known of one channel.
pub fn info(info: &ChannelInfo, as_text: bool) -> Response {
    let mut answer = Answer::new(false, as_text, Vec::with_capacity(JSON_BYTES));
    answer.tell(&describe(info));
    answer.finish(200)
}

/// What is known of several channels.
pub fn list(channels: impl Iterator<Item = ChannelInfo>, as_text: bool) -> Response {
    let mut answer = Answer::new(true, as_text, Vec::new());
    channels.for_each(|info| answer.tell(&describe(&info)));
    answer.finish(200)
}

fn describe(info: &ChannelInfo) -> Description<'_> {
    let ChannelInfo { ref channel, newest, subscribers, messages, keys } = *info;
    Description { id: newest, channel, subscribers: Some(subscribers), messages, keys }
}

/// The answer to a revocation by which so many lost something that they had. It outlives the server only where several
/// share a history.
pub fn ended(count: usize, durable: bool, as_text: bool) -> Response {
    match as_text {
        true => Response::new(200, media::TEXT, format!("ended: {count}\ndurable: {durable}\n").into_bytes()),
        false => {
            let json = format!("{{\"ended\":{count},\"durable\":{durable}}}\n");
            Response::new(200, media::JSON, json.into_bytes())
        }
    }
}

/// The token of a guest of the demo, whom others know by `id`.
pub fn welcome(token: &str, id: &str) -> Response {
    // Both are base64url and dots.
    let json = format!("{{\"token\":\"{token}\",\"id\":\"{id}\"}}\n");
    Response::new(200, media::JSON, json.into_bytes())
}

/// The answer where too many guests come in a second.
#[cold]
pub fn too_many_guests(as_text: bool) -> Response {
    let detail = "too many guests of the demo come at once; try again in a second";
    Response::problem(429, detail, as_text).with("Retry-After", 1)
}

/// What a WebSocket is told that loses some of what it listens to: `{"revoked":true,"channels":[…]}`.
pub fn revoked<'i>(channels: impl Iterator<Item = &'i str>) -> String {
    let mut out = b"{\"revoked\":true,\"channels\":[".to_vec();
    for (place, channel) in channels.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write_string(&mut out, channel);
    }
    out.extend_from_slice(b"]}");
    String::from_utf8_lossy(&out).into_owned()
}
