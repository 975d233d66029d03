//! How a record lies on disk: a byte of kinds, then fields in a fixed order, lengths and numbers as LEB128.
//!
//! ```text
//! kinds: bits 0-1 data (0 JSON, 1 text, 2 binary, 3 the key is gone) · 2 content type · 3 event · 4 key · 5 TTL · 6: 0
//!        · 7 update
//! at · channel · [content type] · [event] · [key] · [TTL] · [update] · data
//! update: flags (0 private · 1 id · 2 retry) · number of topics · topics · [id] · [retry]
//! ```
//!
//! Other records, which lie in a log of several servers only, have bit 6 set, and what they are in the others.
//!
//! What is read was written by us, but a disk may give back anything: every length is checked against what is there,
//! nothing is allocated beyond it, and a record ends exactly where its bytes do.

use super::{LogTime, NodeId, Proposal, Record, Said, Ticket};
use crate::hub::{Data, Publication, Update};
use std::collections::BTreeSet;
use std::fmt;

const DATA: u8 = 0b11;
const JSON: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const REMOVED: u8 = 3;
const CONTENT_TYPE: u8 = 1 << 2;
const EVENT: u8 = 1 << 3;
const KEY: u8 = 1 << 4;
const TTL: u8 = 1 << 5;
const UPDATE: u8 = 1 << 7;
const UNUSED: u8 = !(DATA | CONTENT_TYPE | EVENT | KEY | TTL | UPDATE);
const DELETED: u8 = 0x40;
const REVOKED: u8 = 0x41;
const BEAT: u8 = 0x42;
const LEFT: u8 = 0x43;
const LOST: u8 = 0x44;
const HERE: u8 = 0x45;
const GONE: u8 = 0x46;
const OTHERS: u8 = 0x47;
const ASKED: u8 = 0x48;
const ALL_SAID: u8 = 0x49;

const PRIVATE: u8 = 1;
const ID: u8 = 1 << 1;
const RETRY: u8 = 1 << 2;

/// The bytes are not those of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record cannot be read")
    }
}

impl Record {
    /// Appends a message's bytes to `out`. (A deletion has none: it is a mark on its channel.)
    pub fn write_message(out: &mut Vec<u8>, channel: &str, publication: &Publication, at: LogTime) {
        let Publication { data, content_type, event, key, ttl_ms, update } = publication;
        let kind = match data {
            Data::Json(_) => JSON,
            Data::Text(_) => TEXT,
            Data::Binary(_) => BINARY,
            Data::Removed => REMOVED,
        };
        let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
        out.push(
            kind | flag(content_type.is_some(), CONTENT_TYPE)
                | flag(event.is_some(), EVENT)
                | flag(key.is_some(), KEY)
                | flag(ttl_ms.is_some(), TTL)
                | flag(update.is_some(), UPDATE),
        );
        write_number(out, at.0);
        write_bytes(out, channel.as_bytes());
        for text in [content_type, event, key].into_iter().flatten() {
            write_bytes(out, text.as_bytes());
        }
        if let Some(ttl) = ttl_ms {
            write_number(out, *ttl);
        }
        if let Some(update) = update {
            write_update(out, update);
        }
        write_bytes(out, data.bytes());
    }

    /// Reads what [`Record::write_message`] wrote.
    pub fn read_message(mut bytes: &[u8]) -> Result<Self, Damaged> {
        let bytes = &mut bytes;
        let kinds = take(bytes, 1)?[0];
        if kinds & UNUSED != 0 {
            return Err(Damaged);
        }
        let at = LogTime(read_number(bytes)?);
        let channel = read_text(bytes)?.into();
        let optional = |bytes: &mut &[u8], flag: u8| -> Result<Option<Box<str>>, Damaged> {
            if kinds & flag == 0 { Ok(None) } else { Ok(Some(read_text(bytes)?.into())) }
        };
        let content_type = optional(bytes, CONTENT_TYPE)?;
        let event = optional(bytes, EVENT)?;
        let key = optional(bytes, KEY)?;
        let ttl_ms = if kinds & TTL == 0 { None } else { Some(read_number(bytes)?) };
        let update = if kinds & UPDATE == 0 { None } else { Some(Box::new(read_update(bytes)?)) };
        let data = match kinds & DATA {
            JSON => Data::Json(read_text(bytes)?.into()),
            TEXT => Data::Text(read_text(bytes)?.into()),
            BINARY => Data::Binary(read_bytes(bytes)?.into()),
            _ if read_bytes(bytes)?.is_empty() => Data::Removed,
            _ => return Err(Damaged),
        };
        if !bytes.is_empty() {
            return Err(Damaged);
        }
        let publication = Publication { data, content_type, event, key, ttl_ms, update };
        Ok(Self::Message { channel, publication, at })
    }

    /// Appends the bytes of any record to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message { channel, publication, at } => Self::write_message(out, channel, publication, *at),
            Self::Deleted { channel } => {
                out.push(DELETED);
                write_bytes(out, channel.as_bytes());
            }
            Self::Revoked { text, lapses } => {
                out.push(REVOKED);
                write_number(out, *lapses);
                write_bytes(out, text.as_bytes());
            }
            Self::Beat { node, lease_ms } => {
                out.push(BEAT);
                write_number(out, node.0);
                write_number(out, *lease_ms);
            }
            Self::Left(node) => {
                out.push(LEFT);
                write_number(out, node.0);
            }
            Self::Lost(after) => {
                out.push(LOST);
                write_number(out, *after);
            }
            Self::Said { node, channel, what } => write_said(out, *node, channel, what),
            Self::Asked(node) => {
                out.push(ASKED);
                write_number(out, node.0);
            }
            Self::AllSaid { node, since } => {
                out.push(ALL_SAID);
                write_number(out, node.0);
                write_number(out, *since);
            }
        }
    }

    /// Reads what [`Record::write`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Damaged> {
        let (&kind, mut rest) = bytes.split_first().ok_or(Damaged)?;
        if kind & DELETED == 0 {
            return Self::read_message(bytes);
        }
        let rest = &mut rest;
        let record = match kind {
            DELETED => Self::Deleted { channel: read_text(rest)?.into() },
            REVOKED => {
                let lapses = read_number(rest)?;
                Self::Revoked { text: read_text(rest)?.into(), lapses }
            }
            BEAT => Self::Beat { node: NodeId(read_number(rest)?), lease_ms: read_number(rest)? },
            LEFT => Self::Left(NodeId(read_number(rest)?)),
            LOST => Self::Lost(read_number(rest)?),
            HERE | GONE | OTHERS => read_said(kind, rest)?,
            ASKED => Self::Asked(NodeId(read_number(rest)?)),
            ALL_SAID => Self::AllSaid { node: NodeId(read_number(rest)?), since: read_number(rest)? },
            _ => return Err(Damaged),
        };
        if rest.is_empty() { Ok(record) } else { Err(Damaged) }
    }

    /// Whether it removes a key, without reading the rest.
    pub fn is_removal(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|kinds| kinds & DATA == REMOVED)
    }

    /// The channels that have a message, without reading the rest where there is one.
    pub fn channels_of(bytes: &[u8]) -> Result<BTreeSet<String>, Damaged> {
        match bytes.first().is_some_and(|kinds| kinds & UPDATE != 0) {
            true => Ok(Self::read_message(bytes)?.channels()),
            false => Ok(BTreeSet::from([Self::channel_of(bytes)?.to_owned()])),
        }
    }

    /// The channel of a message, without reading the rest.
    pub fn channel_of(mut bytes: &[u8]) -> Result<&str, Damaged> {
        let bytes = &mut bytes;
        take(bytes, 1)?;
        read_number(bytes)?;
        read_text(bytes)
    }
}

impl Proposal {
    /// Its records as they lie in a log of several servers: its ticket, their number, and each with its length before it.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_number(out, self.ticket.0);
        write_number(out, self.records.len() as u64);
        let mut scratch = Vec::new();
        for record in &self.records {
            scratch.clear();
            record.write(&mut scratch);
            write_bytes(out, &scratch);
        }
    }

    /// Takes the records of one proposal, and its ticket, off the front of `bytes`.
    pub fn read(bytes: &mut &[u8]) -> Result<(Ticket, Vec<Record>), Damaged> {
        let ticket = Ticket(read_number(bytes)?);
        let count = read_number(bytes)?;
        // Each has two bytes at least.
        let mut records =
            Vec::with_capacity(usize::try_from(count).map_err(|_| Damaged)?.min(bytes.len() / 2));
        for _ in 0..count {
            records.push(Record::read(read_bytes(bytes)?)?);
        }
        Ok((ticket, records))
    }
}

fn write_said(out: &mut Vec<u8>, node: NodeId, channel: &str, what: &Said) {
    out.push(match what {
        Said::Here { .. } => HERE,
        Said::Gone { .. } => GONE,
        Said::Others(_) => OTHERS,
    });
    write_number(out, node.0);
    write_bytes(out, channel.as_bytes());
    match what {
        Said::Here { subject, info, since } => {
            write_bytes(out, subject.as_bytes());
            // Information is JSON, and so never empty.
            write_bytes(out, info.as_deref().unwrap_or_default().as_bytes());
            write_number(out, since.0);
        }
        Said::Gone { subject } => write_bytes(out, subject.as_bytes()),
        Said::Others(count) => write_number(out, *count),
    }
}

fn read_said(kind: u8, bytes: &mut &[u8]) -> Result<Record, Damaged> {
    let (node, channel) = (NodeId(read_number(bytes)?), read_text(bytes)?.into());
    let what = match kind {
        HERE => {
            let (subject, info) = (read_text(bytes)?.into(), read_text(bytes)?);
            let info = (!info.is_empty()).then(|| info.into());
            Said::Here { subject, info, since: LogTime(read_number(bytes)?) }
        }
        GONE => Said::Gone { subject: read_text(bytes)?.into() },
        _ => Said::Others(read_number(bytes)?),
    };
    Ok(Record::Said { node, channel, what })
}

fn write_update(out: &mut Vec<u8>, Update { topics, private, id, retry_ms }: &Update) {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    out.push(flag(*private, PRIVATE) | flag(id.is_some(), ID) | flag(retry_ms.is_some(), RETRY));
    write_number(out, topics.len() as u64);
    for text in topics.iter().chain(id) {
        write_bytes(out, text.as_bytes());
    }
    if let Some(retry_ms) = retry_ms {
        write_number(out, *retry_ms);
    }
}

fn read_update(bytes: &mut &[u8]) -> Result<Update, Damaged> {
    let flags = take(bytes, 1)?[0];
    if flags & !(PRIVATE | ID | RETRY) != 0 {
        return Err(Damaged);
    }
    let topics: Vec<Box<str>> =
        (0..read_number(bytes)?).map(|_| read_text(bytes).map(Box::from)).collect::<Result<_, _>>()?;
    let id = if flags & ID == 0 { None } else { Some(read_text(bytes)?.into()) };
    let retry_ms = if flags & RETRY == 0 { None } else { Some(read_number(bytes)?) };
    Ok(Update { topics, private: flags & PRIVATE != 0, id, retry_ms })
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Damaged> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Damaged)?;
    *bytes = rest;
    Ok(taken)
}

/// In its shortest form, as it is written.
fn read_number(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = take(bytes, 1)?[0];
        let digit = u64::from(byte & 0x7f);
        if digit << shift >> shift != digit || shift > 0 && byte == 0 {
            return Err(Damaged);
        }
        number |= digit << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let count = usize::try_from(read_number(bytes)?).map_err(|_| Damaged)?;
    take(bytes, count)
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Damaged> {
    std::str::from_utf8(read_bytes(bytes)?).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Random;

    fn record(random: &mut Random) -> Record {
        let update = (random.below(3) == 0).then(|| {
            let text = |random: &mut Random| -> Box<str> { "é".repeat(random.below(4) as usize).into() };
            Box::new(Update {
                topics: (0..random.below(4)).map(|_| text(random)).collect(),
                private: random.one_in(2),
                id: random.one_in(2).then(|| text(random)),
                retry_ms: random.one_in(2).then(|| random.below(1 << 40)),
            })
        });
        let mut text = |max: u64| -> String {
            (0..random.below(max)).map(|_| ['a', 'é', '"', '\n', '𝄞'][random.below(5) as usize]).collect()
        };
        let (channel, data, some) = (text(9).into(), text(300), [text(5), text(5), text(5)]);
        let mut optional = some.into_iter().map(|text| (random.below(2) == 0).then(|| text.into()));
        let publication = Publication {
            update,
            content_type: optional.next().flatten(),
            event: optional.next().flatten(),
            key: optional.next().flatten(),
            ttl_ms: match random.below(4) {
                0 => Some(0),
                1 => Some(u64::MAX),
                2 => Some(random.below(1 << 20)),
                _ => None,
            },
            data: match random.below(4) {
                0 => Data::Json(data.into()),
                1 => Data::Text(data.into()),
                2 => Data::Removed,
                _ => Data::Binary(data.bytes().map(|byte| byte ^ 0x80).collect()),
            },
        };
        Record::Message { channel, publication, at: LogTime(random.below(1 << 42)) }
    }

    fn bytes_of(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Record::Message { channel, publication, at } = record else { panic!("only messages have bytes") };
        Record::write_message(&mut bytes, channel, publication, *at);
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_taken_for_it() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            let record = record(&mut random);
            let mut bytes = bytes_of(&record);
            assert_eq!(Record::read_message(&bytes), Ok(record.clone()));
            assert_eq!(Record::channel_of(&bytes), Ok(record.channel()));
            for end in 0..bytes.len() {
                assert_eq!(Record::read_message(&bytes[..end]), Err(Damaged), "cut at {end}");
            }
            bytes.push(0);
            assert_eq!(Record::read_message(&bytes), Err(Damaged), "longer than it is");
        }
    }

    /// Whatever is read from damaged bytes would be written as those bytes: nothing is read in two ways.
    #[test]
    fn damaged_bytes_are_refused_or_another_record() {
        let mut random = Random::new(11);
        for _ in 0..20_000 {
            let mut bytes = bytes_of(&record(&mut random));
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.below(256) as u8;
            }
            if let Ok(record) = Record::read_message(&bytes) {
                assert_eq!(bytes_of(&record), bytes);
            }
        }
    }

    #[test]
    fn proposals_are_read_one_after_the_other() {
        let mut random = Random::new(13);
        for _ in 0..200 {
            let records = |random: &mut Random| -> Vec<Record> {
                let count = random.below(4);
                let said = |random: &mut Random| match random.below(3) {
                    0 => Said::Here {
                        subject: "é".into(),
                        info: random.one_in(2).then(|| "{}".into()),
                        since: LogTime(random.below(1 << 42)),
                    },
                    1 => Said::Gone { subject: "a".into() },
                    _ => Said::Others(random.below(1 << 20)),
                };
                let one = |random: &mut Random| match random.below(9) {
                    0 => Record::Deleted { channel: "a/b".into() },
                    1 => Record::Revoked { text: "{}".into(), lapses: random.below(1 << 40) },
                    2 => Record::Beat { node: NodeId(random.next()), lease_ms: random.below(1 << 20) },
                    3 => Record::Left(NodeId(random.next())),
                    4 => Record::Lost(random.next()),
                    5 => {
                        let what = said(random);
                        Record::Said { node: NodeId(random.next()), channel: "a/b".into(), what }
                    }
                    6 => Record::Asked(NodeId(random.next())),
                    7 => Record::AllSaid { node: NodeId(random.next()), since: random.next() },
                    _ => record(random),
                };
                (0..count).map(|_| one(random)).collect()
            };
            let proposals: Vec<Proposal> = (0..3)
                .map(|_| Proposal {
                    ticket: Ticket(random.next()),
                    first: 0,
                    records: records(&mut random),
                    answered: None,
                    seen: None,
                })
                .collect();
            let mut bytes = Vec::new();
            proposals.iter().for_each(|proposal| proposal.write(&mut bytes));
            let mut rest = &bytes[..];
            for Proposal { ticket, records, .. } in proposals {
                assert_eq!(Proposal::read(&mut rest), Ok((ticket, records)));
            }
            assert!(rest.is_empty());
            for end in 0..bytes.len() {
                let mut rest = &bytes[..end];
                let read = (0..3).try_for_each(|_| Proposal::read(&mut rest).map(|_| ()));
                assert_eq!(read, Err(Damaged), "cut at {end}");
            }
        }
        let mut huge = vec![1];
        write_number(&mut huge, u64::MAX);
        assert_eq!(Proposal::read(&mut &huge[..]), Err(Damaged), "nothing is allocated for it");
    }

    #[test]
    fn a_length_beyond_all_memory_allocates_nothing() {
        let mut bytes = vec![TEXT, 0];
        write_number(&mut bytes, u64::MAX);
        assert_eq!(Record::read_message(&bytes), Err(Damaged));
        assert_eq!(
            Record::read_message(&[TEXT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
            Err(Damaged)
        );
    }

    #[test]
    fn a_small_message_costs_few_bytes_more_than_its_own() {
        let publication = Publication::of(Data::Text("x".repeat(200).into()));
        let mut bytes = Vec::new();
        Record::write_message(&mut bytes, "quotes/ACME", &publication, LogTime(1_800_000_000_000));
        assert_eq!(bytes.len(), 1 + 6 + 1 + 11 + 2 + 200);
    }
}
