//! Answers about channels and publications, as JSON or as `key: value` lines.

use crate::hub::{ChannelInfo, Published};
use crate::id::MessageId;
use crate::transport::write_string;
use crate::wire::media;
use crate::wire::response::{Response, write_all};

/// Room for what is told of a channel with a name that is not long.
const JSON_BYTES: usize = 128;

/// What is told of a channel.
struct Description<'a> {
    id: Option<MessageId>,
    channel: &'a str,
    subscribers: usize,
    messages: usize,
}

impl Description<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self.id {
            Some(id) => write_all(out, &["{\"id\":\"", &id.text(), "\",\"channel\":"]),
            None => write_all(out, &["{\"id\":null,\"channel\":"]),
        }
        write_string(out, self.channel);
        write_all(out, &[",\"subscribers\":", itoa::Buffer::new().format(self.subscribers)]);
        write_all(out, &[",\"messages\":", itoa::Buffer::new().format(self.messages), "}"]);
    }

    fn lines(&self) -> String {
        let id = self.id.map_or_else(String::new, |id| format!(" {id}"));
        format!(
            "id:{id}\nchannel: {}\nsubscribers: {}\nmessages: {}\n",
            self.channel, self.subscribers, self.messages
        )
    }
}

/// The answer to a publication: 201 if somebody was listening, else 202.
pub fn published<'a>(
    messages: impl Iterator<Item = (&'a str, &'a Published)>,
    list: bool,
    as_text: bool,
) -> Response {
    let all: Vec<Description> =
        messages.map(|(channel, published)| describe_published(channel, published)).collect();
    let heard = all.iter().any(|message| message.subscribers > 0);
    render(if heard { 201 } else { 202 }, &all, list, as_text)
}

const fn describe_published<'a>(channel: &'a str, published: &Published) -> Description<'a> {
    let Published { id, subscribers, messages } = *published;
    Description { id: Some(id), channel, subscribers, messages }
}

/// What a publication of one message did, as JSON.
pub fn one(channel: &str, published: &Published) -> String {
    let mut json = Vec::with_capacity(JSON_BYTES);
    describe_published(channel, published).write_json(&mut json);
    // A channel's name is UTF-8, and all else is ASCII.
    String::from_utf8(json).unwrap_or_default()
}

/// What is known of one channel.
pub fn info(info: &ChannelInfo, as_text: bool) -> Response {
    render(200, &[describe(info)], false, as_text)
}

/// What is known of several channels.
pub fn list(channels: impl Iterator<Item = ChannelInfo>, as_text: bool) -> Response {
    let channels: Vec<ChannelInfo> = channels.collect();
    let all: Vec<Description> = channels.iter().map(describe).collect();
    render(200, &all, true, as_text)
}

fn describe(info: &ChannelInfo) -> Description<'_> {
    let ChannelInfo { ref channel, newest, subscribers, messages } = *info;
    Description { id: newest, channel, subscribers, messages }
}

/// A list, unless it is about one thing that was asked for alone.
fn render(status: u16, all: &[Description], list: bool, as_text: bool) -> Response {
    if as_text {
        let blocks: Vec<String> = all.iter().map(Description::lines).collect();
        return Response::new(status, media::TEXT, blocks.join("\n").into_bytes());
    }
    let mut json = Vec::with_capacity(JSON_BYTES * all.len());
    match all {
        [only] if !list => only.write_json(&mut json),
        all => {
            json.push(b'[');
            for (index, description) in all.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                description.write_json(&mut json);
            }
            json.push(b']');
        }
    }
    Response::new(status, media::JSON, json)
}
