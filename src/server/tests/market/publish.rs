//! What is published, by requests of all kinds, and what they have to be answered.

use super::items::Answer;
use super::truth::patched;
use super::{CHANNELS, KEYS, Sim};
use crate::hub::Data;
use crate::id::{Epoch, MessageId, Seq};
use crate::wire::query::encode_path;
use serde_json::{Value, json};
use std::fmt::Write;

/// A change of a key that is to be published.
#[derive(Debug, Clone)]
struct Change {
    channel: &'static str,
    key: &'static str,
    what: Op,
    ttl: Option<u64>,
}

#[derive(Debug, Clone)]
enum Op {
    Put(Value),
    Patch(Value),
    Remove,
}

/// What is published.
impl Sim {
    fn value(&mut self) -> Value {
        self.numbers += 1;
        let number = self.numbers;
        if self.random.one_in(8) {
            return format!("text {number}").into();
        }
        let size = self.of(&[0, 3, 60, 400]);
        let mut value =
            json!({"n": number, "name": "x".repeat(size), "o": {"a": self.random.below(3), "b": [1, null]}});
        match self.random.below(12) {
            0 => value["o"]["c"] = Value::Null,
            1 => value["p"] = json!(1.5),
            2 => value["<é\u{2028}"] = json!("</script>"),
            _ => {}
        }
        value
    }

    fn patch(&mut self) -> Value {
        self.numbers += 1;
        let number = self.numbers;
        match self.random.below(8) {
            0 => json!({"n": number, "p": null}),
            1 => json!({"n": number, "o": {"a": number}}),
            2 => json!({"n": number, "o": null, "q": {"deep": {"x": null}}}),
            3 => json!({}),
            _ => json!({ "n": number }),
        }
    }

    fn change(&mut self) -> Change {
        let (channel, key) = (self.of(&CHANNELS), self.of(&KEYS));
        let what = match self.random.below(10) {
            0 => Op::Remove,
            1..4 => Op::Patch(self.patch()),
            4 if self.current(channel, key).is_some() => {
                Op::Put(self.truth.get(self.current(channel, key).unwrap()).value())
            }
            _ => Op::Put(self.value()),
        };
        let ttl = (!matches!(what, Op::Remove) && self.random.one_in(8)).then(|| self.of(&[0, 1, 15]));
        Change { channel, key, what, ttl }
    }

    /// The number of the value that a key has now.
    fn current(&self, channel: &str, key: &str) -> Option<Seq> {
        let seq = self.truth.value_at(channel, key, self.truth.newest())?;
        (self.truth.get(seq).expires > self.world.now.at).then_some(seq)
    }

    pub(super) fn publish(&mut self) {
        match self.random.below(4) {
            0 => self.publish_batch(),
            _ => self.publish_one(),
        }
    }

    fn publish_one(&mut self) {
        let change = self.change();
        let (mut fields, target) = match self.random.one_in(2) {
            true => (format!("Encke-Key: {}\r\n", change.key), String::new()),
            false => (String::new(), format!("?key={}", encode_path(change.key))),
        };
        if let Some(ttl) = change.ttl {
            let _ = write!(fields, "Encke-TTL: {ttl}\r\n");
        }
        let current = self.current(change.channel, change.key);
        let wanted = self.random.one_in(6).then(|| self.random.below(self.truth.newest() + 1));
        let wanted = wanted.map(|other| if self.random.one_in(2) { current.unwrap_or(other) } else { other });
        if let Some(wanted) = wanted {
            let _ = write!(fields, "If-Match: \"{}\"\r\n", self.id(wanted));
        }
        let (method, body, content_type) = match &change.what {
            Op::Put(Value::String(text)) => ("POST", text.clone(), "text/plain"),
            Op::Put(value) => (self.of(&["POST", "PUT"]), value.to_string(), "application/json"),
            Op::Patch(patch) => ("PATCH", patch.to_string(), "application/merge-patch+json"),
            Op::Remove => ("DELETE", String::new(), ""),
        };
        if !content_type.is_empty() {
            let _ = write!(fields, "Content-Type: {content_type}\r\n");
        }
        let text = format!(
            "{method} /pub/{}{target} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            change.channel,
            body.len()
        );
        let answer = self.request(&text);
        let outcome = self.expected(std::slice::from_ref(&change));
        let expected = match outcome {
            Ok(_) if wanted.is_some_and(|wanted| Some(wanted) != current) => Err(412),
            // What would be refused anyway is (RFC 9110, section 13.2.1).
            other => other,
        };
        let is_removal = matches!(change.what, Op::Remove);
        self.judge(&answer, expected, &[change], if is_removal { &[200] } else { &[201, 202] });
    }

    fn publish_batch(&mut self) {
        let changes: Vec<Change> = (0..=self.random.below(7)).map(|_| self.change()).collect();
        let mut body = String::new();
        for Change { channel, key, what, ttl } in &changes {
            let mut line = json!({"channel": channel, "key": key});
            match what {
                Op::Put(value) => line["data"] = value.clone(),
                Op::Patch(patch) => line["patch"] = patch.clone(),
                Op::Remove => line["remove"] = true.into(),
            }
            if let Some(ttl) = ttl {
                line["ttl"] = (*ttl).into();
            }
            let _ = writeln!(body, "{line}");
        }
        let head = "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n";
        let answer = self.request(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        let expected = self.expected(&changes);
        self.judge(&answer, expected, &changes, &[201, 202]);
    }

    /// The values that all these changes make, one after the other, or the status with which they are refused.
    fn expected(&self, changes: &[Change]) -> Result<Vec<Option<Value>>, u16> {
        let mut made: Vec<Option<Value>> = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            let is_same =
                |other: &&(usize, &Change)| (other.1.channel, other.1.key) == (change.channel, change.key);
            let earlier: Vec<(usize, &Change)> = changes[..at].iter().enumerate().collect();
            let before = match earlier.iter().rev().find(is_same) {
                Some((place, _)) => made[*place].clone(),
                None => self.current(change.channel, change.key).map(|seq| self.truth.get(seq).value()),
            };
            made.push(match (&change.what, before) {
                (Op::Put(value), _) => Some(value.clone()),
                (Op::Patch(_) | Op::Remove, None) => return Err(404),
                (Op::Remove, Some(_)) => None,
                (Op::Patch(patch), Some(Value::Object(before))) => Some(patched(&before.into(), patch)),
                (Op::Patch(_), Some(_)) => return Err(409),
            });
        }
        Ok(made)
    }

    /// Compares an answer with what was expected, and what was published with both.
    fn judge(
        &mut self,
        answer: &Answer,
        expected: Result<Vec<Option<Value>>, u16>,
        changes: &[Change],
        ok: &[u16],
    ) {
        let journal = &self.server.broker.hub.journal[self.seen..];
        if answer.status == 503 {
            assert!(journal.is_empty(), "all or none");
            self.counts[4] += 1;
            return;
        }
        let values = match expected {
            Err(status) => {
                assert_eq!(answer.status, status, "{changes:?}");
                assert!(journal.is_empty(), "all or none");
                self.counts[4] += 1;
                return;
            }
            Ok(values) => values,
        };
        assert!(ok.contains(&answer.status), "{}: {changes:?}", answer.status);
        assert_eq!(journal.len(), changes.len());
        let told = answer.json();
        let told = if let Value::Array(all) = told { all } else { vec![told] };
        for (((message, change), value), told) in journal.iter().zip(changes).zip(&values).zip(told) {
            assert_eq!(told["id"].as_str(), Some(&*message.id.text()));
            assert_eq!((&*message.channel, message.key()), (change.channel, Some(change.key)));
            self.truth.note(message);
            assert_eq!(value.as_ref().unwrap_or(&Value::Null), &self.truth.get(message.id.seq).value());
            assert_eq!(value.is_none(), message.is_removal());
        }
        self.seen = self.server.broker.hub.journal.len();
    }

    fn id(&self, seq: Seq) -> MessageId {
        MessageId { epoch: Epoch::from_random(self.epoch), seq }
    }

    pub(super) fn publish_without_key(&mut self) {
        self.numbers += 1;
        let (channel, body) = (self.of(&CHANNELS), format!("news {}", self.numbers));
        let ttl = if self.random.one_in(4) { "Encke-TTL: 1\r\n" } else { "" };
        let head = format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\n{ttl}");
        let answer = self.request(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        if answer.status == 503 {
            return;
        }
        assert!(matches!(answer.status, 201 | 202));
        let message = self.server.broker.hub.journal.last().unwrap();
        assert_eq!(message.publication.data, Data::Text(body.into()));
        self.truth.note(message);
        self.seen += 1;
    }

    /// The latest value of a key is what was published.
    pub(super) fn look(&mut self) {
        let (channel, key) = (self.of(&CHANNELS), self.of(&KEYS));
        let current = self.current(channel, key);
        let knows = self.random.one_in(3);
        let mut fields = format!("Encke-Key: {key}\r\n");
        if knows && let Some(seq) = current {
            let _ = write!(fields, "If-None-Match: \"{}\"\r\n", self.id(seq));
        }
        let answer = self.request(&format!("GET /pub/{channel} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        let Some(seq) = current else { return assert_eq!(answer.status, 404) };
        assert_eq!(answer.field("etag"), Some(&*format!("\"{}\"", self.id(seq))));
        assert_eq!(answer.status, if knows { 304 } else { 200 });
        assert!(knows || answer.body == self.truth.get(seq).data.bytes());
    }

    pub(super) fn delete(&mut self) {
        let channel = self.of(&CHANNELS);
        let answer = self.request(&format!("DELETE /pub/{channel} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(matches!(answer.status, 204 | 404), "{}", answer.status);
        // Deleting a channel with keys takes a number of its own, and so does each that the disk has to know.
        let number = match &self.disk {
            Some(disk) => disk.lost.get(channel).map(|marks| marks.deleted),
            None => Some(self.server.broker.hub.newest().seq),
        };
        if let Some(number) = number.filter(|number| *number > self.truth.newest()) {
            self.truth.note_deletion(channel);
            assert_eq!(self.truth.newest(), number);
        }
        assert_eq!(self.server.broker.hub.journal.len(), self.seen);
    }
}
