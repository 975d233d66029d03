//! WebSockets in the simulation, with their commands: what they listen to changes while messages come, and an oracle knows
//! what had to come and what must not.

use super::budgets::frame;
use super::client::View;
use super::oracle::matches;
use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::{MessageId, Seq};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Something that is listened to for a time. Between what was written and what was read lies what nobody can know.
#[derive(Debug)]
struct Member {
    item: &'static str,
    /// The newest message when it was asked for, and when the answer was read.
    asked: Seq,
    begun: Seq,
    /// The same of its end.
    left: Option<(Seq, Seq)>,
}

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
    members: Vec<Member>,
    commands: VecDeque<(u64, Command)>,
    count: u64,
    /// Everything up to here was had, or is explained.
    cursor: Seq,
    /// Channels or patterns, and up to where a gap was told of them.
    gaps: Vec<(String, Seq)>,
    pub seen: Seen,
    /// Channels are deleted. What was owed on one to who had left it goes without a word.
    deletes: bool,
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
    /// One that is not connected, where channels are deleted or not.
    pub fn new(deletes: bool) -> Self {
        Self { deletes, ..Self::default() }
    }

    /// The handshake of one that begins with `item`.
    pub fn begin(&mut self, id: ConnId, item: &'static str, newest: Seq) -> String {
        self.leave();
        self.id = Some(id);
        self.members.push(Member { item, asked: newest, begun: newest, left: None });
        format!(
            "GET /sub/{item}?after=now HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    /// Forgets the connection, which it names.
    pub fn leave(&mut self) -> Option<ConnId> {
        let id = self.id;
        *self = Self { seen: self.seen, ..Self::new(self.deletes) };
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
        while let Some((opcode, payload)) = self.frame() {
            assert!(!self.over, "frames after the last one");
            match opcode {
                0x1 => self.text(&serde_json::from_slice(&payload).unwrap(), view),
                0x8 => self.over = true,
                0x9 | 0xa => {}
                _ => panic!("a frame of kind {opcode}"),
            }
        }
    }

    /// The next frame, if all of it is there.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&first, &second) = (self.inbox.first()?, self.inbox.get(1)?);
        assert!(first & 0xf0 == 0x80 && second < 0x80, "one frame a message, not masked");
        let (begin, length) = match second {
            126 => (4, u16::from_be_bytes(self.inbox.get(2..4)?.try_into().unwrap()).into()),
            127 => (10, u64::from_be_bytes(self.inbox.get(2..10)?.try_into().unwrap()) as usize),
            short => (2, short.into()),
        };
        let payload = self.inbox.get(begin..begin + length)?.to_vec();
        self.inbox.drain(..begin + length);
        Some((first & 0xf, payload))
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
            return self.gaps.push((channel, seq(&gap["oldest"])));
        }
        if let Some(data) = value.get("data") {
            return self.message(seq(&value["id"]), data.as_str().unwrap(), view);
        }
        if value.get("heartbeat").is_some() {
            let begun = seq(&value["next"]);
            self.members.iter_mut().for_each(|member| (member.asked, member.begun) = (begun, begun));
            self.cursor = begun;
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
                let begin = |item| Member { item, asked, begun: newest, left: None };
                self.members.extend(items.into_iter().map(begin));
            }
            Command::Unsubscribe { item, asked } => {
                let current = self.members.iter_mut().filter(|member| member.item == item);
                let current = current.filter(|member| member.left.is_none());
                current.for_each(|member| member.left = Some((asked, newest)));
            }
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

    fn message(&mut self, seq: Seq, data: &str, view: &View) {
        let message = &view.journal[seq as usize - 1];
        assert_eq!(message.publication.data.bytes(), data.as_bytes());
        assert!(seq > self.cursor, "{seq} comes twice, or too late: {self:?}");
        let pending = self.commands.iter().filter_map(|(_, command)| match command {
            Command::Subscribe { items, asked } => Some((items, *asked)),
            _ => None,
        });
        // Whoever came back before it had all that it was owed goes on where it was.
        let mut may_come = self.members.iter().map(|member| (member.item, member.asked, member.left));
        let is_asked = |(item, asked, left): (&str, Seq, Option<(Seq, Seq)>)| {
            let is_back = |other: &Member| other.left.is_none() && matches(other.item, &message.channel);
            let again = self.members.iter().any(is_back);
            matches(item, &message.channel)
                && seq > asked
                && (again || left.is_none_or(|(_, read)| seq <= read))
        };
        let is_pending = pending
            .into_iter()
            .any(|(items, asked)| seq > asked && items.iter().any(|item| matches(item, &message.channel)));
        assert!(
            may_come.any(is_asked) || is_pending,
            "{seq} of {} was not asked for: {self:?}",
            message.channel
        );
        self.account(seq - 1, view);
        self.cursor = seq;
        self.seen.messages += 1;
    }

    /// Everything up to `upto` has come, or is explained.
    pub fn account(&mut self, upto: Seq, view: &View) {
        let begin = self.cursor.min(upto) as usize;
        for message in &view.journal[begin..upto as usize] {
            let is_lost = self.has_to_come(message) && !message.expired(view.at) && !self.is_told(message);
            let is_lost = is_lost && !self.may_be_deleted(message);
            assert!(!is_lost, "{} of {} is missing: {self:?}", message.id.seq, message.channel);
        }
        self.cursor = self.cursor.max(upto);
    }

    fn has_to_come(&self, message: &Message) -> bool {
        let seq = message.id.seq;
        self.members.iter().any(|member| {
            let is_over = member.left.is_some_and(|(asked, _)| seq > asked);
            matches(member.item, &message.channel) && seq > member.begun && !is_over
        })
    }

    fn may_be_deleted(&self, message: &Message) -> bool {
        let has_left = |member: &Member| member.left.is_some() && matches(member.item, &message.channel);
        self.deletes && self.members.iter().any(has_left)
    }

    fn is_told(&self, message: &Message) -> bool {
        self.gaps.iter().any(|(channel, upto)| message.id.seq <= *upto && matches(channel, &message.channel))
    }
}
