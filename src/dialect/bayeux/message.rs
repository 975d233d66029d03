//! Reading messages: each body is parsed once, and what is only passed on or echoed stays the text it was.

use crate::wire::json;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Deepest nesting of a body: that of what it publishes, in a message in an array.
pub const DEPTH_MAX: usize = json::DEPTH_MAX + 2;
/// Longest `id`, in bytes of JSON.
const ID_BYTES_MAX: usize = 256;

/// A message as it came. Every field is optional, and of any JSON type until it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incoming<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    /// What is published; `null` counts.
    #[serde(borrow, default, deserialize_with = "present")]
    pub data: Option<&'a RawValue>,
    /// One channel or an array of them.
    #[serde(borrow)]
    pub subscription: Option<&'a RawValue>,
    #[serde(borrow)]
    connection_type: Option<&'a RawValue>,
    #[serde(borrow)]
    supported_connection_types: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    advice: Option<&'a RawValue>,
    #[serde(borrow)]
    ext: Option<&'a RawValue>,
}

/// A value that is there, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The extensions we know; others are none of our business.
#[derive(Debug, Default, Deserialize)]
pub struct Ext<'a> {
    /// Acknowledged delivery: wanted (handshake), or the last batch that arrived (connect).
    #[serde(borrow)]
    pub ack: Option<&'a RawValue>,
    /// Where subscriptions begin: channel → position.
    #[serde(borrow)]
    pub replay: Option<&'a RawValue>,
    /// The client's clock.
    #[serde(borrow)]
    pub timesync: Option<&'a RawValue>,
    /// What says who the client is.
    #[serde(borrow)]
    pub token: Option<&'a RawValue>,
}

/// What a client wishes of a connect.
#[derive(Debug, Default, Deserialize)]
struct Advice {
    timeout: Option<f64>,
}

/// The field is there, but is not what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Incoming<'a> {
    /// The channel, unless there is none.
    pub fn channel(&self) -> Result<Option<Cow<'a, str>>, Malformed> {
        self.channel.map(|raw| text(raw).ok_or(Malformed)).transpose()
    }

    /// Whether it begins a session, beside which nothing else in its batch counts.
    pub fn is_handshake(&self) -> bool {
        const CHANNEL: &str = "\"/meta/handshake\"";
        // Escapes make it longer.
        let may_be = self.channel.is_some_and(|channel| channel.get().len() >= CHANNEL.len());
        may_be && matches!(self.channel(), Ok(Some(channel)) if channel == "/meta/handshake")
    }

    /// Whether it is to the server itself.
    pub fn is_meta(&self) -> bool {
        matches!(self.channel(), Ok(Some(channel)) if channel.starts_with("/meta/"))
    }

    /// The channel as it came, to be echoed; nothing if that would be long, or would break its sender's parser.
    pub fn channel_token(&self) -> Option<&'a str> {
        let is_fit =
            |token: &&str| token.starts_with('"') && token.len() <= 300 && json::check_valid(token).is_ok();
        self.channel.map(RawValue::get).filter(is_fit)
    }

    /// The subscription as it came, to be echoed, unless it would break its sender's parser.
    pub fn subscription_token(&self) -> Option<&'a str> {
        self.subscription.map(RawValue::get).filter(|token| json::check_valid(token).is_ok())
    }

    /// The id as it came: a string or a number, to be echoed as it is. What is no text would break its sender's parser.
    pub fn id(&self) -> Result<Option<&'a str>, Malformed> {
        let Some(token) = self.id.map(RawValue::get) else { return Ok(None) };
        let is_scalar = token.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        match is_scalar && token.len() <= ID_BYTES_MAX && json::check_valid(token).is_ok() {
            true => Ok(Some(token)),
            false => Err(Malformed),
        }
    }

    /// The same, where it is known to be fit.
    pub fn fit_id(&self) -> Option<&'a str> {
        self.id.map(RawValue::get)
    }

    /// The session the message says it is of; an id that is no string is one nobody has.
    pub fn client_id(&self) -> Option<Cow<'a, str>> {
        self.client_id.map(|raw| text(raw).unwrap_or_default())
    }

    /// `ext.token`; what is no text is a bad token.
    pub fn token(&self) -> Option<Cow<'a, str>> {
        self.ext().token.map(|raw| text(raw).unwrap_or_default())
    }

    /// `connectionType`.
    pub fn connection_type(&self) -> Option<Cow<'a, str>> {
        self.connection_type.and_then(text)
    }

    /// `supportedConnectionTypes`; empty if it is no array of strings.
    pub fn connection_types(&self) -> Vec<String> {
        self.supported_connection_types
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default()
    }

    /// Whether it names a version as the specification spells them, `integer(.alphanumeric…)*`.
    pub fn has_version(&self) -> bool {
        let Some(version) = self.version.and_then(text) else { return false };
        let mut parts = version.split('.');
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        parts.next().is_some_and(is_number) && parts.all(is_word)
    }

    /// Milliseconds for which the client wants its connect held, if it says so.
    pub fn timeout_ms(&self) -> Option<u64> {
        let advice: Advice = json::object(self.advice?.get()).ok()?;
        advice.timeout.map(|timeout| timeout as u64)
    }

    /// The extensions.
    pub fn ext(&self) -> Ext<'a> {
        self.ext.and_then(|raw| json::object(raw.get()).ok()).unwrap_or_default()
    }
}

/// The text of a JSON string.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    match json::has_backslash(inner.as_bytes()) {
        true => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not a message or an array of messages in JSON.
    NotMessages,
    /// More messages than `bayeux.request_messages`.
    TooMany,
}

/// Adds the messages in `json`, an array or a single one, to `into`, which takes at most `max`.
pub fn read<'a>(json: &'a str, max: usize, into: &mut Vec<Incoming<'a>>) -> Result<(), Unreadable> {
    if !is_sound(json.as_bytes()) {
        return Err(Unreadable::NotMessages);
    }
    if json.trim_start().starts_with('{') {
        into.push(serde_json::from_str(json).map_err(|_| Unreadable::NotMessages)?);
    } else {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = Messages { into, max }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|_| if into.len() > max { Unreadable::TooMany } else { Unreadable::NotMessages })?;
    }
    if into.len() > max { Err(Unreadable::TooMany) } else { Ok(()) }
}

/// Whether a body is an object, or an array without arrays in it, and not nested too deeply. Whether it is
/// JSON is the parser's to say.
fn is_sound(body: &[u8]) -> bool {
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = json::after_string(body, at),
            b'[' if is_array && depth == 1 => return false,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

/// Reads an array of messages, and stops where there are too many.
struct Messages<'v, 'a> {
    into: &'v mut Vec<Incoming<'a>>,
    max: usize,
}

impl<'a> DeserializeSeed<'a> for Messages<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Messages<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(message) = array.next_element()? {
            self.into.push(message);
            if self.into.len() > self.max {
                return Err(A::Error::custom("too many messages"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(json: &str) -> Result<usize, Unreadable> {
        let mut messages = Vec::new();
        read(json, 3, &mut messages).map(|()| messages.len())
    }

    #[test]
    fn bodies() {
        assert_eq!(count("[]"), Ok(0));
        assert_eq!(count(" {\"id\":1}"), Ok(1));
        assert_eq!(count("[{},{\"channel\":5},{\"unknown\":[[]]}]"), Ok(3));
        assert_eq!(count(r#"[{"data":"\"[[\\"},{"\\":"]"}]"#), Ok(2), "brackets and quotes in strings");
        assert_eq!(count("[{},{},{},{}]"), Err(Unreadable::TooMany));
        for bad in [
            "",
            "1",
            "null",
            "[1]",
            "[null]",
            "[[]]",
            "[{}",
            "[{}]x",
            "{\"id\":1,\"id\":2}",
            "\"[]\"",
            "[\"",
            "\"\\",
        ] {
            assert_eq!(count(bad), Err(Unreadable::NotMessages), "{bad}");
        }
        let nested = |depth: usize| format!("{{\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(count(&nested(DEPTH_MAX - 1)), Ok(1));
        assert_eq!(count(&nested(DEPTH_MAX)), Err(Unreadable::NotMessages));
        assert_eq!(count(&format!("{{\"data\":\"{}\"}}", "[".repeat(500))), Ok(1));
    }

    #[test]
    fn fields() {
        let json = r#"{"channel":"/a\/b","id": 7.0,"clientId":"c","data":null,"version":"1.0beta","ext":5,
            "advice":{"timeout":0},"supportedConnectionTypes":["x"]}"#;
        let mut messages = Vec::new();
        read(json, 1, &mut messages).unwrap();
        let message = &messages[0];
        assert_eq!(message.channel().unwrap().unwrap(), "/a/b");
        assert_eq!(message.channel_token(), Some(r#""/a\/b""#));
        assert_eq!(message.id(), Ok(Some("7.0")));
        assert_eq!(message.data.unwrap().get(), "null");
        assert_eq!(message.timeout_ms(), Some(0));
        assert_eq!(message.connection_types(), ["x"]);
        assert!(message.has_version() && message.ext().ack.is_none());
    }

    #[test]
    fn a_channel_is_echoed_if_it_is_text() {
        for (channel, is_echoed) in [(r#""/a\/b""#, true), (r#""/a/\ud83d""#, false), ("7", false)] {
            let (json, mut messages) = (format!("{{\"channel\":{channel}}}"), Vec::new());
            read(&json, 1, &mut messages).unwrap();
            assert_eq!(messages[0].channel_token(), is_echoed.then_some(channel));
        }
    }

    #[test]
    fn ids_are_scalars_of_bounded_length() {
        let id = |token: &str| {
            let json = format!("{{\"id\":{token}}}");
            let mut messages = Vec::new();
            read(&json, 1, &mut messages).unwrap();
            messages[0].id().map(|id| id.map(str::to_owned))
        };
        assert_eq!(id("\"é\""), Ok(Some("\"é\"".into())));
        assert_eq!(id("-1e3"), Ok(Some("-1e3".into())));
        assert_eq!(id("null"), Ok(None));
        assert_eq!(id(r#""\ud83d\ude00""#), Ok(Some(r#""\ud83d\ude00""#.into())));
        for bad in ["{}", "[1]", "true", r#""\ud83d""#, r#""\ude00!""#, &format!("\"{}\"", "x".repeat(256))] {
            assert_eq!(id(bad), Err(Malformed), "{bad}");
        }
    }
}
