//! Event types: what a message is and what a window wants.
//!
//! There are 32 of them, a bit each. The first 16 are for the messages of one user and may carry numbers
//! (`chat,250`: the chat in room 250); the others are public groups, each of which is a channel.

use crate::carry::carry;
use std::fmt::Write;

/// The types, in the order of their bits.
pub const NAMES: [&str; 32] = [
    "unw", "gen", "chat", "toq", "twp", "suo", "sus", "sho", "shs", "shc", "mes", "ord", "ccd", "itm", "lne",
    "usr", "main", "gchat", "ques", "answ", "ofrs", "pric", "opin", "users", "ords", "geic", "feed", "mese",
    "netk", "task", "frid", "info",
];
/// The type by which a window asks for what no window had asked for.
pub const UNW: u8 = 0;
/// The type of a user's message that names none.
pub const MES: u8 = 10;
/// Groups begin here.
const FIRST_GROUP: u8 = 16;
/// Most ids of one type.
const IDS_MAX: usize = 16;
/// Ids, here and elsewhere, are what a signed 32-bit number holds.
pub const ID_MAX: u32 = i32::MAX as u32;

/// Whether a type is a group.
pub const fn is_group(kind: u8) -> bool {
    kind >= FIRST_GROUP
}

/// The type of that name.
pub fn find(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|at| at as u8)
}

/// A set of types, some of them narrowed to ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Types {
    bits: u32,
    /// Type and id, in the order of the request.
    ids: Box<[(u8, u32)]>,
}

carry! {
    struct Types { bits, ids }
}

impl Types {
    /// Reads a type list, such as `chat,250,251|ord|gchat`; the separators may be percent-encoded. `None` if
    /// it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut types = Self::default();
        types.add(text).then_some(types)
    }

    /// Adds the types of another list; false if it is none.
    pub fn add(&mut self, text: &str) -> bool {
        let decoded;
        let text = match text.contains('%') {
            true => {
                decoded = ["%7C", "%7c"].iter().fold(text.to_owned(), |text, code| text.replace(code, "|"));
                &["%2C", "%2c"].iter().fold(decoded, |text, code| text.replace(code, ","))
            }
            false => text,
        };
        let mut ids = std::mem::take(&mut self.ids).into_vec();
        let good = text.split('|').all(|item| self.add_item(item, &mut ids));
        self.ids = ids.into();
        good
    }

    fn add_item(&mut self, item: &str, ids: &mut Vec<(u8, u32)>) -> bool {
        let mut words = item.split(',');
        let Some(kind) = words.next().and_then(find) else { return false };
        self.bits |= 1 << kind;
        for word in words {
            let Some(id) = number(word).filter(|_| !is_group(kind)) else { return false };
            if !ids.contains(&(kind, id)) {
                ids.push((kind, id));
            }
        }
        ids.iter().filter(|(of, _)| *of == kind).count() <= IDS_MAX
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.bits == 0
    }

    /// Whether a type is among them.
    pub const fn has(&self, kind: u8) -> bool {
        self.bits & (1 << kind) != 0
    }

    /// The only type, if there is only one.
    pub fn only(&self) -> Option<u8> {
        (self.bits.count_ones() == 1).then(|| self.bits.trailing_zeros() as u8)
    }

    /// The ids of a type.
    pub fn ids(&self, kind: u8) -> impl Iterator<Item = u32> {
        self.ids.iter().filter(move |(of, _)| *of == kind).map(|(_, id)| *id)
    }

    /// The groups among them.
    pub fn groups(&self) -> impl Iterator<Item = u8> {
        (FIRST_GROUP..32).filter(|&kind| self.has(kind))
    }

    /// Whether a window that wants these types takes a message of type `kind`, which `message` has the ids
    /// of: no ids on either side stand for all of them.
    pub fn take(&self, kind: u8, message: &Self) -> bool {
        let wants = || self.ids(kind).next().is_none();
        let names = || message.ids(kind).next().is_none();
        self.has(kind)
            && (wants() || names() || self.ids(kind).any(|id| message.ids(kind).any(|of| of == id)))
    }

    /// The list as it is read.
    pub fn print(&self) -> String {
        let mut text = String::new();
        for kind in (0..32).filter(|&kind| self.has(kind)) {
            let _ = write!(text, "{}{}", if text.is_empty() { "" } else { "|" }, NAMES[usize::from(kind)]);
            self.ids(kind).for_each(|id| {
                let _ = write!(text, ",{id}");
            });
        }
        text
    }
}

/// Types and `amode` of a message for a user, as the event of what is published: so they are known wherever it is read, on
/// another server or in another life, too.
pub fn event(types: &Types, amode: u32) -> String {
    match amode {
        0 => types.print(),
        amode => format!("{}{AMODE}{amode}", types.print()),
    }
}

/// What the event of a message says; what it does not say is of no type, or 0.
pub fn of_event(event: &str) -> (Types, u32) {
    let (types, amode) = match event.split_once(AMODE) {
        Some((types, amode)) => (types, number(amode)),
        None => (event, Some(0)),
    };
    Types::parse(types).zip(amode).unwrap_or_default()
}

/// What stands between both.
const AMODE: &str = ";amode=";

/// One to ten digits that make no more than [`ID_MAX`].
pub fn number(text: &str) -> Option<u32> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| is_number && number <= ID_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let check = |text: &str, printed: Option<&str>| {
            assert_eq!(Types::parse(text).map(|types| types.print()).as_deref(), printed, "{text}");
        };
        check("chat,250,251|ord|gchat", Some("chat,250,251|ord|gchat"));
        check("gchat%7Cchat%2C7%7cord", Some("chat,7|ord|gchat"));
        check("unw|info", Some("unw|info"));
        check("chat|chat,5", Some("chat,5"));
        check("", None);
        check("chat|", None);
        check("Chat", None);
        check("gchat,1", None);
        check("chat,", None);
        check("chat,2147483648", None);
        check("chat,2147483647", Some("chat,2147483647"));
        check("chat,00000000001", None);
        check("chat%20", None);
        let ids = |count: u32| (1..=count).fold("chat".to_owned(), |list, id| format!("{list},{id}"));
        check(&ids(16), Some(&ids(16)));
        check(&ids(17), None);
        for (kind, name) in (0..).zip(NAMES) {
            assert_eq!(Types::parse(name).unwrap().only(), Some(kind));
        }
    }

    #[test]
    fn events() {
        for (text, types, amode) in [
            ("chat,5", "chat,5", 0),
            ("chat,5|ord;amode=1", "chat,5|ord", 1),
            ("ord;amode=2", "ord", 2),
            ("ord;amode=", "", 0),
            ("ord;amode=x", "", 0),
            ("ord;amode=1;amode=2", "", 0),
            ("other;amode=1", "", 0),
            (";amode=1", "", 0),
            ("", "", 0),
        ] {
            let (read, mode) = of_event(text);
            assert_eq!((&*read.print(), mode), (types, amode), "{text}");
            assert!(read.is_empty() || event(&read, mode) == text, "{text}");
        }
    }

    #[test]
    fn who_takes_what() {
        let check = |wants: &str, message: &str, takes: bool| {
            let (wants, message) = (Types::parse(wants).unwrap(), Types::parse(message).unwrap());
            assert_eq!(wants.take(message.only().unwrap(), &message), takes, "{wants:?} {message:?}");
        };
        check("chat", "chat", true);
        check("chat", "chat,5", true);
        check("chat,5", "chat", true);
        check("chat,5,6", "chat,6,7", true);
        check("chat,5", "chat,6", false);
        check("ord,6", "chat,6", false);
        check("ord|chat,5", "ord,9", true);
    }
}
