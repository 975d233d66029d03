//! Answers about channels and publications, as JSON or as `key: value` lines.

use crate::hub::{ChannelInfo, Published};
use crate::wire::media;
use crate::wire::response::Response;
use serde_json::{Value, json};

/// The answer to a publication: 201 if somebody was listening, else 202.
pub fn published<'a>(
    messages: impl Iterator<Item = (&'a str, &'a Published)>,
    list: bool,
    as_text: bool,
) -> Response {
    let mut heard = false;
    let mut all = Vec::new();
    for (channel, published) in messages {
        heard |= published.subscribers > 0;
        all.push(one(channel, published));
    }
    render(if heard { 201 } else { 202 }, all, list, as_text)
}

/// What a publication of one message did.
pub fn one(channel: &str, published: &Published) -> Value {
    description(Some(published.id.to_string()), channel, published.subscribers, published.messages)
}

/// What is known of one channel.
pub fn info(info: &ChannelInfo, as_text: bool) -> Response {
    render(200, vec![describe(info)], false, as_text)
}

/// What is known of several channels.
pub fn list(channels: impl Iterator<Item = ChannelInfo>, as_text: bool) -> Response {
    render(200, channels.map(|info| describe(&info)).collect(), true, as_text)
}

fn describe(info: &ChannelInfo) -> Value {
    let id = info.newest.map(|id| id.to_string());
    description(id, &info.channel, info.subscribers, info.messages)
}

fn description(id: Option<String>, channel: &str, subscribers: usize, messages: usize) -> Value {
    json!({"id": id, "channel": channel, "subscribers": subscribers, "messages": messages})
}

fn render(status: u16, mut all: Vec<Value>, list: bool, as_text: bool) -> Response {
    if as_text {
        let blocks: Vec<String> = all.iter().map(as_lines).collect();
        return Response::new(status, media::TEXT, blocks.join("\n").into_bytes());
    }
    let value = match (list, all.pop()) {
        (false, Some(only)) => only,
        (_, last) => {
            all.extend(last);
            Value::Array(all)
        }
    };
    Response::new(status, media::JSON, value.to_string().into_bytes())
}

fn as_lines(value: &Value) -> String {
    ["id", "channel", "subscribers", "messages"].iter().fold(String::new(), |lines, name| {
        match &value[*name] {
            Value::String(text) => lines + &format!("{name}: {text}\n"),
            Value::Null => lines + &format!("{name}:\n"),
            other => lines + &format!("{name}: {other}\n"),
        }
    })
}
