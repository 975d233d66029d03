//! The two scripts: numbering a batch, and finding the history. Each is a step that happens as a whole or not at all.

use super::Settings;
use crate::id::{Epoch, Seed, Seq};
use crate::log::{JUMPS_MAX, Jump, Jumps, LEASE_MS, LogTime, Proposal, Record, Ticket};
use redis::{Connection, FromRedisValue, RedisError, RedisResult, Script, Value};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Tickets from this one on are those of beats.
pub const BEATS: Ticket = Ticket(1 << 63);

/// The scripts, and the keys that they work on.
#[derive(Debug)]
pub struct Scripts {
    append: Script,
    attach: Script,
    /// What all keys begin with, and the three of them that are named.
    pub prefix: String,
    meta: String,
    pub log: String,
    me: String,
    jumps: String,
}

/// What is in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name of the history, and what hides idempotency keys in it.
    pub seed: (Epoch, u128),
    /// The last number.
    pub last: Seq,
    /// The first number in the stream; the next one if it is empty.
    pub first: Seq,
    /// What the clock of Redis says.
    pub time: LogTime,
    /// The last batch of ours that it knows of: its serial number, and the number of its last record.
    pub before: (u64, Seq),
    /// The latest jumps.
    pub jumps: Jumps,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the stream.
    Taken,
    /// It repeats what was published as that number, and was answered so.
    Repeated(Seq, Vec<u8>),
    /// It was made of what has changed since.
    Outdated,
}

/// Jumps are at least as far: no server can have given out as many numbers that nobody else has seen. They are at random
/// up to [`JUMPS`] times as far, which keeps two halves apart that have both jumped.
const JUMP: u32 = 1 << 20;
const JUMPS: u32 = 16;

impl Scripts {
    /// Those of a history.
    pub fn new(settings: &Settings) -> Self {
        Self {
            append: Script::new(include_str!("append.lua")),
            attach: Script::new(include_str!("attach.lua")),
            prefix: settings.key(""),
            meta: settings.key("meta"),
            log: settings.key("log"),
            me: settings.key(&format!("node:{}", settings.node)),
            jumps: settings.key("jumps"),
        }
    }

    /// Finds the history, or begins it with the name `mine`. `known` is the highest number that anybody was told here; batches
    /// up to the serial number `fence` are refused from now on.
    pub fn attach(
        &self,
        connection: &mut Connection,
        run: &str,
        settings: &Settings,
        mine: Seed,
        known: Seq,
        fence: u64,
    ) -> RedisResult<Found> {
        let jump = JUMP + getrandom::u32().map_or(0, |random| random % (JUMP * (JUMPS - 1)));
        let mut call = self.attach.key(&self.meta);
        call.key(&self.log).key(&self.me).key(&self.jumps);
        call.arg(run).arg(settings.node.to_string()).arg(fence);
        call.arg(mine.epoch.bits()).arg(mine.secret.to_string()).arg(known).arg(jump).arg(JUMPS_MAX);
        let texts: Vec<String> = call.invoke(connection)?;
        found(&texts).ok_or_else(|| strange("the keys of the history are not ours"))
    }

    /// Numbers a batch and writes it, as a whole. Returns what became of each proposal, and the last number.
    pub fn append(
        &self,
        connection: &mut Connection,
        run: &str,
        settings: &Settings,
        (serial, keep): (u64, Seq),
        batch: &[&Proposal],
    ) -> RedisResult<(Vec<Outcome>, Seq)> {
        let mut call = self.append.key(&self.meta);
        call.key(&self.log).key(&self.me);
        call.arg(run).arg(keep).arg(settings.node.to_string()).arg(serial).arg(&self.prefix);
        let mut bytes = Vec::new();
        for proposal in batch {
            bytes.clear();
            proposal.write(&mut bytes);
            let answered = proposal.answered.as_ref();
            call.arg(answered.map_or("", |answered| &*answered.key));
            call.arg(answered.map_or(&b""[..], |answered| &answered.answer));
            call.arg(proposal.seen.map(|seen| seen.to_string()).unwrap_or_default());
            call.arg(values(proposal)).arg(revoked(proposal)).arg(proposal.records.len()).arg(&bytes);
        }
        let mut told: Vec<Vec<u8>> = call.invoke(connection)?;
        let last = told.pop().and_then(|last| number(&last));
        let outcomes = told.iter().map(|told| outcome(told)).collect::<Option<Vec<_>>>();
        match (outcomes, last) {
            (Some(outcomes), Some(last)) if outcomes.len() == batch.len() => Ok((outcomes, last)),
            _ => Err(strange("the script answered something else")),
        }
    }
}

/// An error of what we were told.
pub fn strange(what: &'static str) -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, what).into()
}

fn found(texts: &[String]) -> Option<Found> {
    let [epoch, secret, last, first, time, before, jumps] = texts else { return None };
    let jump = |text: &str| {
        text.split_once(' ')
            .and_then(|(to, after)| Some(Jump { to: to.parse().ok()?, after: after.parse().ok()? }))
    };
    let jumps = jumps.split(',').filter(|text| !text.is_empty()).map(jump).collect::<Option<_>>()?;
    let (serial, number) = before.split_once(' ')?;
    Some(Found {
        seed: (Epoch::from_random(epoch.parse().ok()?), secret.parse().ok()?),
        last: last.parse().ok()?,
        first: first.parse().ok()?,
        time: LogTime(time.parse().ok()?),
        before: (serial.parse().ok()?, number.parse().ok()?),
        jumps,
    })
}

fn outcome(told: &[u8]) -> Option<Outcome> {
    match told {
        b"" => Some(Outcome::Taken),
        b"!" => Some(Outcome::Outdated),
        [b'=', rest @ ..] => {
            let blank = rest.iter().position(|&byte| byte == b' ')?;
            Some(Outcome::Repeated(number(&rest[..blank])?, rest[blank + 1..].to_vec()))
        }
        _ => None,
    }
}

/// A number in decimal.
pub fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Names of the values that a proposal gives keys, which say nothing about them.
fn values(proposal: &Proposal) -> String {
    let mut names = String::new();
    for record in &proposal.records {
        let Record::Message { channel, publication, .. } = record else { continue };
        let Some(key) = &publication.key else { continue };
        if !names.is_empty() {
            names.push(' ');
        }
        names.push_str(&digest(&[channel, key]));
    }
    names
}

/// Rights that a proposal takes back: a name of 32 digits, when it lapses, and what it is.
fn revoked(proposal: &Proposal) -> String {
    match &proposal.records[..] {
        [Record::Revoked { text, lapses }] => format!("{}{lapses} {text}", digest(&[text])),
        _ => String::new(),
    }
}

/// A name for texts, the same on every server. Whoever could choose two that share one gains nothing.
pub fn digest(texts: &[&str]) -> String {
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    for text in texts {
        hasher.write_usize(text.len());
        hasher.write(text.as_bytes());
    }
    format!("{:032x}", hasher.finish128().as_u128())
}

/// An entry of the stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of its last record, which is its id.
    pub last: Seq,
    /// That of its first.
    pub first: Seq,
    /// When Redis took it.
    pub at: LogTime,
    /// Who wrote it.
    pub node: Vec<u8>,
    /// Proposals, one after the other.
    pub bytes: Vec<u8>,
    /// It is a jump: what came after this number is lost.
    pub lost: Option<Seq>,
}

/// The entries in the answer to `XREAD` on one stream.
pub fn entries(answer: Value) -> RedisResult<Vec<Entry>> {
    let wrong = || strange("the stream has entries that are not ours");
    let streams = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(streams) => streams,
        _ => return Err(wrong()),
    };
    let Some(Value::Array(stream)) = streams.into_iter().next() else { return Ok(Vec::new()) };
    let Some(Value::Array(found)) = stream.into_iter().nth(1) else { return Err(wrong()) };
    found.into_iter().map(|entry| one(entry).ok_or_else(wrong)).collect()
}

fn one(entry: Value) -> Option<Entry> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let id = String::from_redis_value(id).ok()?;
    let mut entry = Entry { last: id.strip_suffix("-0")?.parse().ok()?, ..Entry::default() };
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) = (fields.next(), fields.next())
    {
        match &name[..] {
            b"f" => entry.first = number(&value)?,
            b"t" => entry.at = LogTime(number(&value)?),
            b"n" => entry.node = value,
            b"b" => entry.bytes = value,
            b"lost" => entry.lost = Some(number(&value)?),
            _ => {}
        }
    }
    (entry.first > 0 && entry.first <= entry.last).then_some(entry)
}

/// A beat as a proposal.
pub fn beat(settings: &Settings, number: u64) -> Proposal {
    let record = Record::Beat { node: settings.node, lease_ms: LEASE_MS };
    of(Ticket(BEATS.0 + number), record)
}

/// Our leaving as a proposal.
pub fn leaving(settings: &Settings) -> Proposal {
    of(BEATS, Record::Left(settings.node))
}

fn of(ticket: Ticket, record: Record) -> Proposal {
    Proposal { ticket, first: 1, records: vec![record], answered: None, seen: None }
}
