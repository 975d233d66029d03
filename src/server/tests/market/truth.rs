//! What was published, and which value every key had at which number.

use crate::hub::{Data, Message};
use crate::id::Seq;
use crate::time::Instant;
use serde_json::Value;
use std::collections::BTreeMap;

/// A number, and what was published under it; nothing if a channel was deleted.
#[derive(Debug)]
pub struct Entry {
    pub channel: String,
    pub key: Option<String>,
    pub data: Data,
    pub expires: Instant,
}

impl Entry {
    /// What its payload means in an envelope.
    pub fn value(&self) -> Value {
        match &self.data {
            Data::Json(text) => serde_json::from_str(text).unwrap(),
            Data::Text(text) => text.to_string().into(),
            Data::Binary(_) | Data::Removed => Value::Null,
        }
    }

    pub fn is_removal(&self) -> bool {
        self.data == Data::Removed
    }
}

/// Everything that was published in one life of the server.
#[derive(Debug, Default)]
pub struct Truth {
    entries: Vec<Entry>,
    /// By channel and key: when it changed, in order.
    changes: BTreeMap<(String, String), Vec<Seq>>,
    /// When channels were deleted.
    deleted: BTreeMap<String, Vec<Seq>>,
}

impl Truth {
    pub fn newest(&self) -> Seq {
        self.entries.len() as Seq
    }

    pub fn get(&self, seq: Seq) -> &Entry {
        &self.entries[usize::try_from(seq - 1).unwrap()]
    }

    /// Numbers with what was published under them, from one up to another.
    pub fn between(&self, after: Seq, upto: Seq) -> impl Iterator<Item = (Seq, &Entry)> {
        (after + 1..=upto).map(|seq| (seq, self.get(seq)))
    }

    pub fn note(&mut self, message: &Message) {
        let entry = Entry {
            channel: message.channel.to_string(),
            key: message.key().map(str::to_owned),
            data: message.publication.data.clone(),
            expires: message.expires(),
        };
        self.entries.push(entry);
        let seq = self.newest();
        assert_eq!(message.id.seq, seq);
        if let Some(key) = message.key() {
            self.changes.entry((message.channel.to_string(), key.into())).or_default().push(seq);
        }
    }

    /// Number `seq` was taken by the end of a channel.
    pub fn note_deletion(&mut self, channel: &str) {
        self.entries.push(Entry {
            channel: channel.into(),
            key: None,
            data: Data::Removed,
            expires: Instant::from_millis(0),
        });
        let seq = self.newest();
        self.deleted.entry(channel.into()).or_default().push(seq);
    }

    /// The number under which a key last changed up to `upto`.
    pub fn changed(&self, channel: &str, key: &str, upto: Seq) -> Option<Seq> {
        let changes = self.changes.get(&(channel.to_owned(), key.to_owned()))?;
        changes.iter().rev().find(|&&seq| seq <= upto).copied()
    }

    /// Its value at `upto`: its number.
    pub fn value_at(&self, channel: &str, key: &str, upto: Seq) -> Option<Seq> {
        let seq = self.changed(channel, key, upto).filter(|&seq| !self.get(seq).is_removal())?;
        let is_deleted = |at: &Seq| *at > seq && *at <= upto;
        (!self.deleted.get(channel).is_some_and(|all| all.iter().any(is_deleted))).then_some(seq)
    }

    /// All keys there ever were of channels that are `wanted`.
    pub fn keys<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a (String, String)> {
        self.changes.keys().filter(move |(channel, _)| wanted(channel))
    }
}

/// RFC 7396, as it stands there.
pub fn patched(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut new = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            new.remove(name);
        } else {
            new.insert(name.clone(), patched(new.get(name).unwrap_or(&Value::Null), value));
        }
    }
    Value::Object(new)
}
