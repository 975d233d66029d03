//! Tokens: JSON Web Tokens (RFC 7519, and RFC 8725 for what goes wrong with them), verified and read.
//!
//! `ring` verifies signatures; everything else is decided here, in the order in which it costs least: size, header,
//! key, signature, claims. A token that was good is remembered, so that a poll that comes every second is not verified
//! every second. What is remembered is what it grants and from when to when, never that it is good.

mod claims;
pub mod details;
pub mod guests;
mod json;
mod jws;
mod keys;
pub mod mercure;
#[cfg(test)]
mod tests;

use super::{Grant, Left, Revocation, Revocations};
use crate::carry::resume;
use crate::config::{Algorithm, Config, Tokens as Settings};
use crate::id::Seed;
use guests::{Guest, Guests, Welcome, is_of_guest};
use jws::Parts;
use keys::Key;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// A longer token is refused unread.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// So many keys are tried for a token that names none.
const KEYS_TRIED_MAX: usize = 4;

pub use jws::claims_to_be_access_token;
pub use mercure::{Draft, MercureGrant, MercureTokens, Role};

/// What is wrong with a token: a sentence of ours, in ASCII, that repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad(pub &'static str);

impl Bad {
    /// The token has ended.
    pub const EXPIRED: Self = Self("the token has expired");
    /// The token was taken back.
    pub const REVOKED: Self = Self("the token was revoked");
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What is wrong with a row of `[[tokens.keys]]`: its place, and a sentence.
pub type KeyProblem = (usize, String);

/// The keys, and the tokens that were verified by them lately.
#[derive(Debug, Default)]
pub struct Tokens {
    keys: Vec<Key>,
    settings: Settings,
    verified: Memory,
    revoked: Revocations,
    /// What makes and verifies tokens of the demo's guests, where there is a demo.
    guests: Option<Guests>,
}

resume! {
    Tokens {
        carried: ;
        resumed: revoked, verified;
        given: keys, settings, guests
    }
}

impl Tokens {
    /// The keys of the settings; or everything that is wrong with them.
    pub fn new(config: &Config) -> Result<Self, Vec<KeyProblem>> {
        let (mut keys, mut problems) = (Vec::<Key>::new(), Vec::new());
        for (place, row) in config.token_keys.iter().enumerate() {
            let read = match keys::read(row) {
                Ok(read) => read,
                Err(text) => {
                    let file = row.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
                    problems.push((place, format!("{file} {text}")));
                    continue;
                }
            };
            for key in read {
                if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                    let id = key.id.as_deref().unwrap_or_default();
                    problems.push((place, format!("two keys have the id {id:?}; ids must differ")));
                }
                keys.push(key);
            }
        }
        let verified = Memory::new(config.limits.tokens_remembered);
        let revoked = Revocations::new(config.limits.revocations);
        match problems.is_empty() {
            true => Ok(Self { keys, settings: config.tokens.clone(), verified, revoked, guests: None }),
            false => Err(problems),
        }
    }

    /// Takes other keys and settings, which were checked before. What was revoked stays so; what was remembered is
    /// forgotten.
    pub fn reconfigure(&mut self, config: &Config) {
        let (revoked, guests) = (std::mem::take(&mut self.revoked), self.guests.take());
        *self = Self { revoked, guests, ..Self::new(config).unwrap_or_default() };
    }

    /// Lets guests of the demo come, who are the same again wherever `seed` is.
    pub fn admit_guests(&mut self, seed: Seed) {
        self.guests = Some(Guests::new(seed));
    }

    /// Goes on with guests by another seed, if they may come: that of the history, which lasts.
    pub fn know_guests_by(&mut self, seed: Seed) {
        if self.guests.is_some() {
            self.admit_guests(seed);
        }
    }

    /// A token for a guest of the demo, who comes in the second `unix`; none without a demo.
    pub fn welcome(&self, guest: &Guest, unix: u64) -> Option<Welcome> {
        self.guests.as_ref().map(|guests| guests.welcome(guest, unix))
    }

    /// What makes guests' tokens, if that is one.
    fn guests_of(&self, token: &str) -> Option<&Guests> {
        self.guests.as_ref().filter(|_| is_of_guest(token))
    }

    /// Whether that is the token of a guest, good or bad.
    pub fn is_of_guest(&self, token: &str) -> bool {
        self.guests_of(token).is_some()
    }

    /// What tokens are judged by, as values that are the same if that is.
    pub fn judges_by(&self) -> (String, Vec<u64>) {
        (format!("{:?}", self.settings), self.keys.iter().map(|key| key.mark).collect())
    }

    /// Has every token verified anew.
    pub fn forget_verified(&mut self) {
        self.verified.clear();
    }

    /// Whether the key is still there that verified a grant.
    pub fn has_key(&self, mark: u64) -> bool {
        let is_of_guests = |guests: &Guests| guests.mark() == mark;
        self.keys.iter().any(|key| key.mark == mark) || self.guests.as_ref().is_some_and(is_of_guests)
    }

    /// What `token` grants in the second `unix`, if it is remembered and counts.
    pub fn remembered(&mut self, token: &[u8], unix: u64) -> Option<Rc<Grant>> {
        self.verified.find(token).filter(|grant| in_time(grant, unix).is_ok())
    }

    /// What `token` grants in the second `unix`.
    pub fn check(&mut self, token: &str, unix: u64) -> Result<Rc<Grant>, Bad> {
        if let Some(grant) = self.verified.find(token.as_bytes()) {
            return in_time(&grant, unix).map(|()| grant);
        }
        if let Some(guests) = self.guests_of(token) {
            // Nothing of a guest is remembered: there can be so many that others would be forgotten.
            let grant = guests.read(token, self.settings.leeway_seconds)?;
            return in_time(&grant, unix).and_then(|()| self.left_of(grant)).map(Rc::new);
        }
        let grant = Rc::new(self.left_of(self.verify(token, unix)?)?);
        self.verified.insert(token.as_bytes(), Rc::clone(&grant));
        Ok(grant)
    }

    /// A grant without what was taken back of it.
    fn left_of(&self, grant: Grant) -> Result<Grant, Bad> {
        match self.revoked.left(&grant) {
            Left::All => Ok(grant),
            Left::Except(except) => Ok(Grant { except, ..grant }),
            Left::Nothing => Err(Bad::REVOKED),
        }
    }

    /// Takes a right back. Every token is verified anew, as what is remembered does not know.
    pub fn revoke(&mut self, revocation: Revocation, unix: u64) -> Option<Revocation> {
        self.verified.clear();
        self.revoked.add(revocation, unix)
    }

    /// What a revocation that is given `text` means: the token itself if it is one of ours, expired or not, else the
    /// number of one. `None` if it looks like a token and is not good.
    pub fn number_of(&self, text: &str) -> Option<Box<str>> {
        if let Some(guests) = self.guests_of(text) {
            return guests.number(text);
        }
        let Ok(parts) = Parts::read(text) else { return Some(text.into()) };
        self.verify_signature(&parts).ok()?;
        claims::number(&parts.payload).or_else(|| Some(fingerprint(parts.signed)))
    }

    /// Whether `token` was verified and is remembered.
    pub fn knows(&self, token: &str) -> bool {
        let token = token.as_bytes();
        self.verified.younger.contains_key(token) || self.verified.older.contains_key(token)
    }

    /// What `token` grants in the second `unix`, without remembering anything.
    pub fn verify(&self, token: &str, unix: u64) -> Result<Grant, Bad> {
        let parts = Parts::read(token)?;
        let key = self.verify_signature(&parts)?.mark;
        let mut grant = Grant { key, ..claims::read(&parts.payload, &self.settings, unix)? };
        grant.id.get_or_insert_with(|| fingerprint(parts.signed));
        in_time(&grant, unix).map(|()| grant)
    }

    /// The id, if it has one, of the key of `algorithm` whose signature of `message` that is.
    pub fn key_of(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<Option<&str>> {
        let key =
            self.keys.iter().find(|key| key.algorithm == algorithm && key.verifies(message, signature))?;
        Some(key.id.as_deref())
    }

    fn verify_signature(&self, parts: &Parts<'_>) -> Result<&Key, Bad> {
        let fits =
            |key: &&Key| key.algorithm == parts.algorithm && key.verifies(parts.signed, &parts.signature);
        const FORGED: Bad = Bad("the token's signature is not good");
        let Some(id) = &parts.key else {
            let mut tried =
                self.keys.iter().filter(|key| key.algorithm == parts.algorithm).take(KEYS_TRIED_MAX);
            return tried.find(fits).ok_or(FORGED);
        };
        let named = self.keys.iter().find(|key| key.id.as_deref() == Some(id));
        let key = named.ok_or(Bad("the token's key is not known here"))?;
        if key.algorithm != parts.algorithm {
            return Err(Bad("the token's algorithm is not that of its key"));
        }
        Some(key).filter(fits).ok_or(FORGED)
    }
}

/// What a token without a number goes by: a hash of what is signed. Not of the signature, of which there can be several
/// that are good.
fn fingerprint(signed: &[u8]) -> Box<str> {
    let hash = ring::digest::digest(&ring::digest::SHA256, signed);
    format!("~{}", data_encoding::HEXLOWER.encode(hash.as_ref())).into()
}

/// Whether what was granted counts in that second.
fn in_time(grant: &Grant, unix: u64) -> Result<(), Bad> {
    match () {
        () if unix < grant.begins => Err(Bad("the token is not valid yet")),
        () if unix >= grant.ends => Err(Bad::EXPIRED),
        () => Ok(()),
    }
}

/// Tokens that were verified, by the whole token: nothing that two of them could share. They are in two halves; when
/// the younger is full, the older is forgotten and their places are exchanged.
#[derive(Debug, Default)]
struct Memory {
    /// Most tokens in a half.
    max: usize,
    younger: BTreeMap<Box<[u8]>, Rc<Grant>>,
    older: BTreeMap<Box<[u8]>, Rc<Grant>>,
}

resume! {
    Memory {
        carried: younger, older;
        resumed: ;
        given: max
    }
}

impl Memory {
    fn clear(&mut self) {
        (self.younger, self.older) = Default::default();
    }

    fn new(max: usize) -> Self {
        Self { max: max.div_ceil(2), ..Self::default() }
    }

    fn find(&mut self, token: &[u8]) -> Option<Rc<Grant>> {
        if let Some(grant) = self.younger.get(token) {
            return Some(Rc::clone(grant));
        }
        let grant = self.older.remove(token)?;
        self.insert(token, Rc::clone(&grant));
        Some(grant)
    }

    fn insert(&mut self, token: &[u8], grant: Rc<Grant>) {
        if self.younger.len() >= self.max {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(token.into(), grant);
    }
}
