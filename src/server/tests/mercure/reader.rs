//! A subscriber of Mercure: what is owed to it, and what it was told.

use crate::conn::ConnId;
use crate::hub::Message;
use crate::id::{MessageId, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// All that is history, by its number.
pub(super) type Journal = BTreeMap<Seq, Message>;

/// What a token grants, until when, and its number.
#[derive(Debug, Clone)]
pub(super) struct Right {
    pub sees: BTreeSet<&'static str>,
    pub ends: u64,
    pub number: String,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    pub id: Option<ConnId>,
    pub inbox: Vec<u8>,
    /// The head of the answer has been read.
    pub has_head: bool,
    pub selects: BTreeSet<&'static str>,
    pub right: Option<Right>,
    pub is_revoked: bool,
    /// Its right has ended: nothing newer than this is for it.
    pub ended_at: Option<Seq>,
    /// Everything up to here has come, or was not to come.
    pub cursor: Seq,
    /// What was there when it began; of that, what was held.
    pub began: Seq,
    pub held: BTreeSet<Seq>,
    /// What was there when it was last told of a gap: some of that was lost.
    pub told: Seq,
    /// It asked for what cannot be known any more: a gap has to be told first.
    pub must_be_told: bool,
    /// The last id that it has seen.
    pub last: Option<String>,
    pub got: usize,
    pub gaps: usize,
}

/// The topics of a message, and whether it is private.
pub(super) fn topics_of(message: &Message) -> (Vec<String>, bool) {
    match message.publication.update.as_deref() {
        Some(update) => (update.topics.iter().map(|topic| topic.to_string()).collect(), update.private),
        None => (vec![message.channel.to_string()], false),
    }
}

impl Reader {
    /// Whether a message is for it.
    pub fn wants(&self, message: &Message) -> bool {
        let (topics, private) = topics_of(message);
        let has = |set: &BTreeSet<&str>| topics.iter().any(|topic| set.contains(topic.as_str()));
        has(&self.selects) && (!private || self.right.as_ref().is_some_and(|right| has(&right.sees)))
    }

    /// Everything up to `upto` has come, or nobody has to send it.
    pub fn account(&mut self, journal: &Journal, upto: Seq) {
        for (&seq, message) in journal.range(self.cursor + 1..upto.max(self.cursor) + 1) {
            let is_owed = seq > self.told && (seq > self.began || self.held.contains(&seq));
            assert!(!is_owed || !self.wants(message), "{seq} is missing: {self:?}");
        }
        self.cursor = self.cursor.max(upto);
    }

    fn event(&mut self, journal: &Journal, newest: Seq, block: &str) {
        let field = |name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
        };
        let (event, id, data) = (field("event"), field("id").to_owned(), field("data"));
        assert!(!data.is_empty() && !id.is_empty(), "a block without data or id: {block:?}");
        match event {
            "encke.gap" => {
                let position = MessageId::parse(&id[1..]).expect("a gap is told with an id of ours").seq;
                assert!(position <= newest);
                self.cursor = self.cursor.max(position);
                self.told = newest;
                self.must_be_told = false;
                self.gaps += 1;
            }
            "encke.expired" | "encke.revoked" => {}
            _ => {
                // What was sent says its number; so ids that were chosen twice are told apart.
                let message =
                    journal.values().find(|message| message.publication.data.bytes() == data.as_bytes());
                let message = message.unwrap_or_else(|| panic!("{data:?} is not history"));
                let chosen = message.publication.update.as_deref().and_then(|update| update.id.as_deref());
                let seq = message.id.seq;
                assert_eq!(id, chosen.map_or_else(|| format!("#{}", message.id), str::to_owned));
                assert!(self.wants(message), "{seq} is not for it: {self:?}");
                assert!(seq > self.cursor, "{seq} comes twice, or late: {self:?}");
                assert!(!self.must_be_told, "nothing was told of what is lost");
                self.account(journal, seq - 1);
                assert!(
                    self.ended_at.is_none_or(|ended| seq <= ended),
                    "{seq} came beyond the end of its right"
                );
                self.cursor = seq;
                self.got += 1;
            }
        }
        self.last = Some(id);
    }

    /// Reads what has arrived: a head, then chunks with whole events.
    pub fn read(&mut self, journal: &Journal, newest: Seq, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        if !self.has_head {
            let Some(end) = self.inbox.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head = String::from_utf8(self.inbox.drain(..end + 4).collect()).unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            self.has_head = true;
        }
        while let Some(line) = self.inbox.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.inbox[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if self.inbox.len() < line + 2 + size + 2 {
                return;
            }
            let chunk = self.inbox[line + 2..line + 2 + size].to_vec();
            self.inbox.drain(..line + 2 + size + 2);
            for block in String::from_utf8(chunk).unwrap().split("\n\n") {
                if block.lines().any(|line| line.starts_with("data")) {
                    self.event(journal, newest, block);
                }
            }
        }
    }
}
