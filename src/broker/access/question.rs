//! What the application is asked: may this client do that on these channels?
//!
//! A question is a structure, and is compared as one: nothing that two clients send can be joined to the same text.

use crate::broker::Client;
use crate::carry::carry;
use crate::config::Config;
use crate::wire::head::Head;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// To listen.
    Subscribe,
    /// To publish.
    Publish,
}

carry! {
    enum Action { 0 => Subscribe, 1 => Publish }
}

impl Action {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }
}

/// Who wants to, as far as the application is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    address: IpAddr,
    origin: Option<Box<str>>,
    technique: Cow<'static, str>,
    /// The fields that are handed on, by their names in small letters.
    fields: Vec<(Box<str>, Box<str>)>,
}

carry! {
    struct Asker { address, origin, technique, fields }
}

impl Asker {
    /// Whoever sent `head`, and is served by `technique`.
    pub fn of(head: &Head, client: Client, technique: &'static str, config: &Config) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let field = |name: &String| {
            let values: Vec<String> = head.fields(name).map(text).collect();
            // One cookie after the other, as RFC 6265 joins them; all others as RFC 9110 does.
            let joint = if name == "cookie" { "; " } else { ", " };
            (!values.is_empty()).then(|| (name.as_str().into(), values.join(joint).into()))
        };
        let mut fields: Vec<_> = config.hook.headers.iter().filter_map(field).collect();
        fields.sort_unstable();
        fields.dedup();
        Self {
            address: client.address,
            origin: head.bytes("origin").map(|value| text(value).into()),
            technique: technique.into(),
            fields,
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// What is to be done.
    pub action: Action,
    /// Where: distinct names, in their order.
    pub channels: Vec<Box<str>>,
    /// By whom.
    pub asker: Rc<Asker>,
}

carry! {
    struct Question { action, channels, asker }
}

impl Question {
    /// Whether `asker` may do that on these channels.
    pub fn new(action: Action, mut channels: Vec<Box<str>>, asker: Rc<Asker>) -> Self {
        channels.sort_unstable();
        channels.dedup();
        Self { action, channels, asker }
    }

    /// Whether it is about that channel, too.
    pub fn is_about(&self, name: &str) -> bool {
        self.channels.binary_search_by(|channel| (**channel).cmp(name)).is_ok()
    }

    /// As the application is sent it.
    pub fn json(&self) -> Vec<u8> {
        let Asker { address, origin, technique, fields } = &*self.asker;
        let fields: Map<String, Value> =
            fields.iter().map(|(name, value)| (name.to_string(), Value::from(&**value))).collect();
        json!({
            "action": self.action.name(),
            "channels": self.channels,
            "client": {"address": address.to_string(), "origin": origin, "technique": technique},
            "headers": fields,
        })
        .to_string()
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    fn asker(fields: &str, config: &Config) -> Asker {
        let bytes = format!("GET /sub/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut slots = head::slots();
        let head = head::parse(bytes.as_bytes(), &mut slots).unwrap();
        Asker::of(&head, Client::OWN, "sse", config)
    }

    #[test]
    fn what_the_application_is_sent() {
        let fields = "Cookie: a=1\r\nCookie: b=2\r\nOrigin: https://app.example\r\nX-Secret: no\r\n";
        let asker = Rc::new(asker(fields, &Config::default()));
        let channels = ["b", "a", "b"].map(Box::from).to_vec();
        let question = Question::new(Action::Subscribe, channels, asker);
        let sent: Value = serde_json::from_slice(&question.json()).unwrap();
        let client = json!({"address": "127.0.0.1", "origin": "https://app.example", "technique": "sse"});
        let expected = json!({"action": "subscribe", "channels": ["a", "b"], "client": client,
            "headers": {"cookie": "a=1; b=2"}});
        assert_eq!(sent, expected);
        assert!(question.is_about("a") && !question.is_about("c"));
    }

    #[test]
    fn questions_are_not_joined_texts() {
        let config = Config::default();
        let one = |fields: &str, channels: &[&str]| {
            let channels = channels.iter().map(|name| (*name).into()).collect();
            Question::new(Action::Subscribe, channels, Rc::new(asker(fields, &config)))
        };
        assert_eq!(one("Cookie: a\r\n", &["x", "y"]), one("Cookie: a\r\n", &["y", "x"]));
        assert_ne!(one("Cookie: a\r\n", &["x,y"]), one("Cookie: a\r\n", &["x", "y"]));
        assert_ne!(one("Cookie: ab\r\n", &["x"]), one("Cookie: a\r\nAuthorization: b\r\n", &["x"]));
        assert_ne!(one("Cookie: a\r\n", &["x"]), one("Authorization: a\r\n", &["x"]));
    }
}
