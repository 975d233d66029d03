//! WebSockets in the simulation, with their commands: what they listen to changes while messages come, and an oracle knows
//! what had to come and what must not.

use super::budgets::frame;
use super::client::View;
use super::ledger::Ledger;
use crate::conn::ConnId;
use crate::id::{MessageId, Seq};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A command that has not been answered.
#[derive(Debug)]
enum Command {
    Subscribe {
        items: Vec<&'static str>,
        asked: Seq,
    },
    Unsubscribe {
        item: &'static str,
        asked: Seq,
    },
    Publish {
        channel: &'static str,
        payload: String,
    },
    /// One that makes no sense.
    Nonsense,
}

/// A client that speaks through a WebSocket.
#[derive(Debug, Default)]
pub struct Talker {
    pub id: Option<ConnId>,
    inbox: Vec<u8>,
    /// The answer to the handshake has been read.
    is_open: bool,
    /// Nothing follows.
    pub over: bool,
    ledger: Ledger,
    commands: VecDeque<(u64, Command)>,
    count: u64,
    pub seen: Seen,
}

/// What all its connections have shown: of what never comes, nothing is known.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub messages: u64,
    pub gaps: u64,
    pub done: u64,
    pub refused: u64,
}

impl Talker {
    /// The handshake of one that begins with `item`.
    pub fn begin(&mut self, id: ConnId, item: &'static str, newest: Seq) -> String {
        self.leave();
        self.id = Some(id);
        self.ledger.begin(item, newest, newest);
        format!(
            "GET /sub/{item}?after=now HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    /// Forgets the connection, which it names.
    pub fn leave(&mut self) -> Option<ConnId> {
        let id = self.id;
        *self = Self { seen: self.seen, ..Self::default() };
        id
    }

    /// Whether it may say something.
    pub const fn may_speak(&self) -> bool {
        self.is_open && !self.over
    }

    pub fn subscribe(&mut self, items: Vec<&'static str>, newest: Seq) -> Vec<u8> {
        let shown = json!({"subscribe": items});
        self.say(shown, Command::Subscribe { items, asked: newest })
    }

    pub fn unsubscribe(&mut self, item: &'static str, newest: Seq) -> Vec<u8> {
        self.say(json!({"unsubscribe": [item]}), Command::Unsubscribe { item, asked: newest })
    }

    pub fn publish(&mut self, channel: &'static str, payload: String, more: &Value) -> Vec<u8> {
        let mut line = json!({"channel": channel, "data": payload});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.say(json!({"publish": line}), Command::Publish { channel, payload })
    }

    pub fn say_nonsense(&mut self) -> Vec<u8> {
        self.say(json!({"subscribe": "everything"}), Command::Nonsense)
    }

    fn say(&mut self, mut command: Value, kind: Command) -> Vec<u8> {
        self.count += 1;
        command["ref"] = self.count.into();
        self.commands.push_back((self.count, kind));
        frame(&command.to_string())
    }

    /// Takes bytes that arrived.
    pub fn take(&mut self, bytes: &[u8], view: &View) {
        self.inbox.extend_from_slice(bytes);
        if !self.is_open && !self.over {
            let Some(end) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            let head = String::from_utf8(self.inbox.drain(..end + 4).collect()).unwrap();
            self.is_open = head.starts_with("HTTP/1.1 101 ");
            assert!(
                self.is_open || ["429", "503"].iter().any(|status| head[9..].starts_with(status)),
                "{head}"
            );
            self.over = !self.is_open;
        }
        if !self.is_open {
            return self.inbox.clear();
        }
        while let Some((opcode, payload)) = take_frame(&mut self.inbox) {
            assert!(!self.over, "frames after the last one");
            match opcode {
                0x1 => self.text(&serde_json::from_slice(&payload).unwrap(), view),
                0x8 => self.over = true,
                0x9 | 0xa => {}
                _ => panic!("a frame of kind {opcode}"),
            }
        }
    }

    fn text(&mut self, value: &Value, view: &View) {
        let seq = |id: &Value| MessageId::parse(id.as_str().expect("an id")).expect("an id").seq;
        if let Some(number) = value.get("ref") {
            let (expected, command) = self.commands.pop_front().expect("an answer to nothing");
            assert_eq!(number, expected, "answers come in order");
            return self.answered(command, value, view);
        }
        if let Some(gap) = value.get("gap") {
            let channel = gap["channel"].as_str().unwrap().to_owned();
            self.seen.gaps += 1;
            return self.ledger.gap(&channel, seq(&gap["oldest"]));
        }
        if let Some(data) = value.get("data") {
            return self.message(seq(&value["id"]), &payload(data), view);
        }
        if value.get("heartbeat").is_some() {
            self.ledger.begin_at(seq(&value["next"]));
        }
    }

    fn answered(&mut self, command: Command, value: &Value, view: &View) {
        let (ok, newest) = (value.get("ok"), view.newest());
        self.seen.done += u64::from(ok.is_some());
        self.seen.refused += u64::from(ok.is_none());
        match command {
            Command::Nonsense => assert!(ok.is_none() && value["error"].is_string(), "{value}"),
            // No room for a channel.
            _ if ok.is_none() => assert!(value["error"].is_string(), "{value}"),
            Command::Subscribe { items, asked } => {
                items.into_iter().for_each(|item| self.ledger.begin(item, asked, newest));
            }
            Command::Unsubscribe { item, asked } => self.ledger.end(item, asked, newest),
            Command::Publish { channel, payload } => {
                let id = MessageId::parse(ok.unwrap()["id"].as_str().unwrap()).unwrap();
                let message = &view.journal[id.seq as usize - 1];
                assert_eq!(
                    (&*message.channel, message.publication.data.bytes()),
                    (channel, payload.as_bytes())
                );
            }
        }
    }

    fn message(&mut self, seq: Seq, data: &[u8], view: &View) {
        assert_eq!(view.journal[seq as usize - 1].publication.data.bytes(), data);
        let pending = self.commands.iter().filter_map(|(_, command)| match command {
            Command::Subscribe { items, asked } => Some((&items[..], *asked)),
            _ => None,
        });
        self.ledger.message(seq, view, pending);
        self.seen.messages += 1;
    }

    /// Everything up to `upto` has come, or is explained.
    pub fn account(&mut self, upto: Seq, view: &View) {
        self.ledger.account(upto, view);
    }
}

/// The next frame of a server, if all of it is there.
pub fn take_frame(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (inbox.first()?, inbox.get(1)?);
    assert!(first & 0xf0 == 0x80 && second < 0x80, "one frame a message, not masked");
    let (begin, length) = match second {
        126 => (4, u16::from_be_bytes(inbox.get(2..4)?.try_into().unwrap()).into()),
        127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, short.into()),
    };
    let payload = inbox.get(begin..begin + length)?.to_vec();
    inbox.drain(..begin + length);
    Some((first & 0xf, payload))
}

/// What a message says, whose data stands in JSON as text, or as the JSON it is.
pub fn payload(data: &Value) -> Vec<u8> {
    data.as_str().map_or_else(|| data.to_string().into_bytes(), |text| text.as_bytes().to_vec())
}
