//! What was taken back: tokens of a subject that were issued until some moment, or a single token, for all channels or
//! for some.
//!
//! No token is valid for longer than `tokens.max_seconds`, so an entry lapses when the last token that it concerns must
//! have expired. But of a token that does not say when it was issued nobody knows how old it is: it may have been made
//! long ago, to be valid only now. So an entry stays for these as long as there is room. The list is bounded. When it is
//! full, what has lapsed goes, and every token without that date is refused from then on; if nothing has, the entry whose
//! tokens are the oldest becomes a watermark: every token issued until then is refused. So a full list refuses too much,
//! never too little.

use super::Grant;
use crate::carry::{carry, resume};
use crate::hub::meets;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Who, or what, loses its right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// All tokens of a subject that were issued until this second, by the issuer's clock. One that does not say when it
    /// was issued is one of them.
    Subject(Box<str>),
    /// The token of that number.
    Token(Box<str>),
    /// All tokens that were issued until this second, or do not say when: what is left of entries that had to go, and
    /// of those that have lapsed until its own `lapses`.
    Everybody,
}

carry! {
    enum Whose { 0 => Subject(subject: Box<str>), 1 => Token(token: Box<str>), 2 => Everybody }
}

/// A right that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub whose: Whose,
    /// Tokens issued until this second are concerned; of a single token it says when it was revoked.
    pub before: u64,
    /// The names and patterns of channels it is for; empty = all.
    pub channels: Vec<Box<str>>,
    /// The second from which no token that it concerns can count any more.
    pub lapses: u64,
}

carry! {
    struct Revocation { whose, before, channels, lapses }
}

/// A revocation as other servers, and other lives, are told of it.
#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    token: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    everybody: bool,
    before: u64,
    lapses: u64,
    #[serde(borrow)]
    channels: Vec<Cow<'a, str>>,
}

impl Revocation {
    /// As text, for other servers and other lives.
    pub fn text(&self) -> String {
        let (subject, token) = match &self.whose {
            Whose::Subject(subject) => (Some((&**subject).into()), None),
            Whose::Token(token) => (None, Some((&**token).into())),
            Whose::Everybody => (None, None),
        };
        let channels = self.channels.iter().map(|channel| (&**channel).into()).collect();
        let everybody = self.whose == Whose::Everybody;
        let text = Text { subject, token, everybody, before: self.before, lapses: self.lapses, channels };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Reads what [`Revocation::text`] wrote.
    pub fn of_text(text: &str) -> Option<Self> {
        let Text { subject, token, everybody, before, lapses, channels } = serde_json::from_str(text).ok()?;
        let whose = match (subject, token, everybody) {
            (Some(subject), None, false) => Whose::Subject((&*subject).into()),
            (None, Some(token), false) => Whose::Token((&*token).into()),
            (None, None, true) => Whose::Everybody,
            _ => return None,
        };
        Some(Self {
            whose,
            before,
            lapses,
            channels: channels.iter().map(|channel| (&**channel).into()).collect(),
        })
    }

    /// Whether it concerns who was granted that.
    pub fn concerns(&self, grant: &Grant) -> bool {
        match &self.whose {
            Whose::Subject(subject) => {
                grant.subject.as_ref() == Some(subject) && grant.issued.unwrap_or(0) <= self.before
            }
            Whose::Token(id) => grant.id.as_ref() == Some(id),
            Whose::Everybody => grant.issued.unwrap_or(0) <= self.before,
        }
    }

    /// Whether it takes back all of `item`, a name or a pattern, or some channel of it.
    pub fn takes(&self, item: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|taken| meets(taken, item))
    }
}

/// All that were taken back.
#[derive(Debug, Default)]
pub struct Revocations {
    entries: BTreeMap<Whose, Vec<Revocation>>,
    count: usize,
    max: usize,
    /// Tokens issued until this second are refused, whoever they are of.
    watermark: Option<u64>,
}

resume! {
    Revocations {
        carried: entries, count, watermark;
        resumed: ;
        given: max
    }
}

/// What is left of a grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it.
    All,
    /// All but these channels.
    Except(Vec<Box<str>>),
    /// Nothing.
    Nothing,
}

impl Revocations {
    /// None, and room for `max`.
    pub fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Notes that a right is taken back. Returns what is left of entries that had to go to make room.
    pub fn add(&mut self, revocation: Revocation, unix: u64) -> Option<Revocation> {
        if revocation.whose == Whose::Everybody {
            self.watermark = self.watermark.max(Some(revocation.before));
            return None;
        }
        let mut has_room = true;
        while self.count >= self.max.max(1) {
            has_room = false;
            if !self.lapse(unix) {
                self.raise_watermark();
            }
        }
        let entries = self.entries.entry(revocation.whose.clone()).or_default();
        let old = entries.len();
        // One that says the same, or less, is none any more.
        entries.retain(|entry| {
            entry.before > revocation.before
                || !revocation.channels.is_empty() && entry.channels != revocation.channels
        });
        self.count = self.count + 1 + entries.len() - old;
        entries.push(revocation);
        let before = self.watermark.filter(|_| !has_room)?;
        Some(Revocation { whose: Whose::Everybody, before, channels: Vec::new(), lapses: unix })
    }

    /// What is left of a grant.
    pub fn left(&self, grant: &Grant) -> Left {
        let issued = grant.issued.unwrap_or(0);
        if self.watermark.is_some_and(|watermark| issued <= watermark) {
            return Left::Nothing;
        }
        let subject = grant.subject.clone().map(Whose::Subject);
        let token = grant.id.clone().map(Whose::Token);
        let mut except = Vec::new();
        let found = [subject, token].into_iter().flatten().filter_map(|whose| self.entries.get(&whose));
        for entry in found.flatten().filter(|entry| entry.concerns(grant)) {
            match entry.channels.is_empty() {
                true => return Left::Nothing,
                false => except.extend(entry.channels.iter().cloned()),
            }
        }
        if except.is_empty() { Left::All } else { Left::Except(except) }
    }

    /// Forgets entries that concern nobody any more who says when the token was issued; who does not is refused from
    /// then on. Returns whether there were any.
    fn lapse(&mut self, unix: u64) -> bool {
        self.entries.retain(|_, entries| {
            entries.retain(|entry| entry.lapses > unix);
            !entries.is_empty()
        });
        let count = self.entries.values().map(Vec::len).sum();
        let has_lapsed = count < self.count;
        if has_lapsed {
            self.watermark = self.watermark.max(Some(0));
        }
        self.count = count;
        has_lapsed
    }

    /// Makes room by refusing every token that is as old as those of the oldest entry.
    fn raise_watermark(&mut self) {
        let oldest = self.entries.values().flatten().map(|entry| entry.before).min();
        self.watermark = self.watermark.max(oldest);
        let watermark = self.watermark.unwrap_or(0);
        self.entries.retain(|_, entries| {
            entries.retain(|entry| entry.before > watermark);
            !entries.is_empty()
        });
        self.count = self.entries.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(whose: Whose, before: u64, channels: &[&str]) -> Revocation {
        let channels = channels.iter().map(|channel| (*channel).into()).collect();
        Revocation { whose, before, channels, lapses: before + 100 }
    }

    fn grant(subject: &str, id: &str, issued: Option<u64>) -> Grant {
        Grant { subject: Some(subject.into()), id: Some(id.into()), issued, ..Grant::default() }
    }

    #[test]
    fn other_servers_read_what_is_written() {
        for whose in [Whose::Subject("al\"ice".into()), Whose::Token("7".into()), Whose::Everybody] {
            let one = revocation(whose, 50, &["chat/**", "né\n"]);
            assert_eq!(Revocation::of_text(&one.text()), Some(one));
        }
        assert_eq!(Revocation::of_text("{\"before\":1,\"lapses\":2,\"channels\":[]}"), None);
        assert_eq!(Revocation::of_text(""), None);
    }

    #[test]
    fn whom_a_revocation_concerns() {
        let mut all = Revocations::new(10);
        all.add(revocation(Whose::Subject("alice".into()), 50, &[]), 50);
        all.add(revocation(Whose::Token("7".into()), 50, &[]), 50);
        all.add(revocation(Whose::Subject("bob".into()), 50, &["chat/**"]), 50);
        for (subject, id, issued, left) in [
            ("alice", "1", Some(50), Left::Nothing),
            ("alice", "1", None, Left::Nothing),
            ("alice", "1", Some(51), Left::All),
            ("carol", "7", Some(99), Left::Nothing),
            ("carol", "8", Some(1), Left::All),
            ("bob", "9", Some(1), Left::Except(vec!["chat/**".into()])),
        ] {
            assert_eq!(all.left(&grant(subject, id, issued)), left, "{subject} {id} {issued:?}");
        }
        assert!(revocation(Whose::Token("7".into()), 0, &["chat/**"]).takes("*/a"));
        assert!(!revocation(Whose::Token("7".into()), 0, &["chat/**"]).takes("news"));
    }

    #[test]
    fn entries_lapse_and_the_same_is_noted_once() {
        let mut all = Revocations::new(10);
        for before in [50, 60, 60] {
            all.add(revocation(Whose::Subject("alice".into()), before, &[]), 60);
        }
        assert_eq!(all.count, 1);
        // It is long over, but for a token that was made back then to be valid only now.
        assert_eq!(all.add(revocation(Whose::Subject("bob".into()), 170, &[]), 170), None);
        assert_eq!(all.left(&grant("alice", "1", None)), Left::Nothing);
        assert_eq!(all.left(&grant("carol", "1", None)), Left::All);
        // What has lapsed goes first, and then nobody knows any more whose tokens without a date were revoked.
        let mut all = Revocations::new(2);
        all.add(revocation(Whose::Subject("alice".into()), 50, &[]), 50);
        all.add(revocation(Whose::Subject("bob".into()), 100, &[]), 100);
        let left = all.add(revocation(Whose::Subject("carol".into()), 160, &[]), 160).unwrap();
        assert_eq!((&left.whose, left.before, left.lapses, all.count), (&Whose::Everybody, 0, 160, 2));
        assert_eq!(all.left(&grant("alice", "1", Some(51))), Left::All);
        assert_eq!(all.left(&grant("bob", "1", Some(100))), Left::Nothing);
        assert_eq!(all.left(&grant("dave", "1", Some(1))), Left::All);
        assert_eq!(all.left(&grant("dave", "1", None)), Left::Nothing);
        // Another life knows it, too.
        let mut next = Revocations::new(2);
        next.add(Revocation::of_text(&left.text()).unwrap(), 160);
        assert_eq!(next.left(&grant("dave", "1", None)), Left::Nothing);
        assert_eq!(next.left(&grant("dave", "1", Some(1))), Left::All);
    }

    #[test]
    fn a_full_list_refuses_more_and_never_less() {
        let mut all = Revocations::new(3);
        for number in 0..100 {
            all.add(revocation(Whose::Subject(format!("user{number}").into()), 1000 + number, &[]), 1000);
            assert!(all.count <= 3);
            for revoked in 0..=number {
                let grant = grant(&format!("user{revoked}"), "1", Some(1000 + revoked));
                assert_eq!(all.left(&grant), Left::Nothing, "user{revoked} after {number}");
            }
        }
        assert_eq!(all.left(&grant("user0", "1", Some(1200))), Left::All);
        assert_eq!(all.left(&grant("stranger", "1", None)), Left::Nothing);
    }
}
