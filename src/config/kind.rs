//! How values are read and shown: a kind for numbers, one for byte sizes, one for addresses …
//!
//! A kind is more than a type: it carries the bounds, and a size in bytes is read differently from a number
//! of connections though both are `usize`.

mod secret;
mod units;
mod word;

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::de::DeValue;

pub use secret::{KeyValue, Secret, Secrets};
pub use units::{Bytes, Time, milliseconds};
pub use word::{
    Address, ChannelPattern, Event, FolderName, Function, Ip, Level, List, Mount, Network, One, Optional,
    TechniqueName, TextFile, WebOrigin, Word,
};

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// By an option or the environment.
    Text(&'a str),
    /// By a TOML file.
    Toml(&'a DeValue<'a>),
}

impl<'a> Given<'a> {
    /// The text, if it is one.
    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            Self::Toml(value) => value.as_str(),
        }
    }

    fn integer(self) -> Option<u64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Toml(value) => {
                let integer = value.as_integer()?;
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
        }
    }
}

/// What there is to know about a kind without its type.
pub trait Describe {
    /// What is allowed, to follow "must be".
    fn allowed(&self) -> String;
    /// What stands for the value in the help text.
    fn placeholder(&self) -> &'static str;
    /// Whether the option may stand without a value.
    fn is_flag(&self) -> bool {
        false
    }
    /// Whether the value may be shown to nobody.
    fn is_secret(&self) -> bool {
        false
    }
}

/// Reads and shows values of type `T`.
pub trait Kind<T>: Describe {
    /// The value, or nothing when it is not allowed.
    fn read(&self, given: Given<'_>) -> Option<T>;
    /// The value as TOML, which [`Kind::read`] reads back.
    fn show(&self, value: &T) -> String;
}

/// A whole number within bounds.
pub struct Number(pub RangeInclusive<u64>);

impl Describe for Number {
    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn placeholder(&self) -> &'static str {
        "N"
    }
}

impl<T: TryFrom<u64> + Display> Kind<T> for Number {
    fn read(&self, given: Given<'_>) -> Option<T> {
        let number = given.integer().filter(|number| self.0.contains(number))?;
        T::try_from(number).ok()
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }
}

/// One of a few numbers.
pub struct OneOf(pub &'static [u16]);

impl Describe for OneOf {
    fn allowed(&self) -> String {
        let numbers: Vec<String> = self.0.iter().map(u16::to_string).collect();
        format!("one of {}", numbers.join(", "))
    }

    fn placeholder(&self) -> &'static str {
        "N"
    }
}

impl Kind<u16> for OneOf {
    fn read(&self, given: Given<'_>) -> Option<u16> {
        let number = u16::try_from(given.integer()?).ok()?;
        self.0.contains(&number).then_some(number)
    }

    fn show(&self, value: &u16) -> String {
        value.to_string()
    }
}
/// Yes or no.
pub struct Flag;

impl Describe for Flag {
    fn allowed(&self) -> String {
        "true or false".into()
    }

    fn placeholder(&self) -> &'static str {
        "BOOL"
    }

    fn is_flag(&self) -> bool {
        true
    }
}

impl Kind<bool> for Flag {
    fn read(&self, given: Given<'_>) -> Option<bool> {
        match given {
            Given::Text(text) => text.trim().parse().ok(),
            Given::Toml(value) => value.as_bool(),
        }
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}
/// Text of any kind: a name, a piece of JavaScript or HTML.
pub struct Text;

impl Describe for Text {
    fn allowed(&self) -> String {
        "text without control characters other than line ends".into()
    }

    fn placeholder(&self) -> &'static str {
        "TEXT"
    }
}

impl Kind<String> for Text {
    fn read(&self, given: Given<'_>) -> Option<String> {
        let text = match given {
            Given::Text(text) => text,
            Given::Toml(value) => value.as_str()?,
        };
        text.chars().all(|c| c == '\n' || !c.is_control()).then(|| text.into())
    }

    fn show(&self, value: &String) -> String {
        quote(value)
    }
}
/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
