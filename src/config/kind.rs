//! How values are read and shown: a kind for numbers, one for byte sizes, one for addresses …
//!
//! A kind is more than a type: it carries the bounds, and a size in bytes is read differently from a number
//! of connections though both are `usize`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeValue;

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

/// What may follow a number, in any case, and how much it stands for.
type Units = &'static [(&'static str, u64)];

/// The number in front of a unit, times what the unit stands for; a number alone is itself.
fn with_unit(text: &str, units: Units) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<u64>().ok()?, text[digits..].trim_start());
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    number.checked_mul(*factor)
}

/// A time: a plain number of the unit that is in the setting's name, or one with its unit.
pub enum Time {
    /// In seconds.
    Seconds(RangeInclusive<u64>),
    /// In milliseconds.
    Millis(RangeInclusive<u64>),
}

const TIME_UNITS: Units =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Time {
    /// What is allowed, how many milliseconds one of it has, and its name.
    const fn parts(&self) -> (&RangeInclusive<u64>, u64, &'static str) {
        match self {
            Self::Seconds(range) => (range, 1000, "seconds"),
            Self::Millis(range) => (range, 1, "milliseconds"),
        }
    }
}

/// A time of any unit, in milliseconds; a number alone is seconds.
pub fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1000),
        Err(_) => with_unit(text, TIME_UNITS),
    }
}

impl Describe for Time {
    fn allowed(&self) -> String {
        let (range, _, unit) = self.parts();
        format!(
            "a time from {} to {} {unit}, as a number or as 500ms, 15s, 2m, 1h, 1d",
            range.start(),
            range.end()
        )
    }

    fn placeholder(&self) -> &'static str {
        "TIME"
    }
}

impl Kind<u64> for Time {
    fn read(&self, given: Given<'_>) -> Option<u64> {
        let (range, factor, _) = self.parts();
        let number = match given.integer() {
            Some(number) => number,
            None => {
                let millis = with_unit(given.text()?, TIME_UNITS)?;
                millis.is_multiple_of(factor).then_some(millis / factor)?
            }
        };
        range.contains(&number).then_some(number)
    }

    fn show(&self, value: &u64) -> String {
        value.to_string()
    }
}

/// A size in bytes: a plain number, or one with `KiB`, `MiB` or `GiB`. `KB` and `K` are the same as `KiB`, 1024 bytes,
/// as they are for nginx, Redis and PostgreSQL.
pub struct Bytes(pub RangeInclusive<u64>);

const BYTE_UNITS: Units = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

impl Bytes {
    fn print(bytes: u64) -> String {
        match BYTE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
            Some((name, factor)) if *factor > 1 => format!("{}{name}", bytes / factor),
            _ => bytes.to_string(),
        }
    }
}

impl Describe for Bytes {
    fn allowed(&self) -> String {
        let (least, most) = (Self::print(*self.0.start()), Self::print(*self.0.end()));
        format!("a size from {least} to {most}, in bytes or as 512KiB, 64KB, 1MiB, 2GiB")
    }

    fn placeholder(&self) -> &'static str {
        "SIZE"
    }
}

impl Kind<usize> for Bytes {
    fn read(&self, given: Given<'_>) -> Option<usize> {
        let bytes = given.integer().or_else(|| with_unit(given.text()?, BYTE_UNITS))?;
        usize::try_from(bytes).ok().filter(|_| self.0.contains(&bytes))
    }

    fn show(&self, value: &usize) -> String {
        let printed = Self::print(*value as u64);
        if printed.ends_with('B') { quote(&printed) } else { printed }
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

/// A kind that is written as one piece of text, and can so be an item of a [`List`] or be absent.
pub trait Word {
    /// The type it is read into.
    type Value;
    /// What is allowed, to follow "must be".
    const ALLOWED: &'static str;
    /// What stands for the value in the help text.
    const PLACEHOLDER: &'static str;
    /// Whether a list of one may be written as that one.
    const SINGLE: bool = false;
    /// The value, or nothing when it is not allowed.
    fn parse(text: &str) -> Option<Self::Value>;
    /// Text that [`Word::parse`] reads back.
    fn print(value: &Self::Value) -> String;
}

/// Address and port; a port alone is one on the loopback address.
pub struct Address;

impl Word for Address {
    type Value = SocketAddr;
    const ALLOWED: &'static str = "ADDRESS:PORT such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080, or a PORT alone \
                                   for the loopback address";
    const PLACEHOLDER: &'static str = "ADDR:PORT";

    fn parse(text: &str) -> Option<SocketAddr> {
        let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
        match port.parse::<u16>() {
            Ok(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Err(_) => text.parse().ok(),
        }
    }

    fn print(value: &SocketAddr) -> String {
        value.to_string()
    }
}

impl Describe for Address {
    fn allowed(&self) -> String {
        Self::ALLOWED.into()
    }

    fn placeholder(&self) -> &'static str {
        Self::PLACEHOLDER
    }
}

impl Kind<SocketAddr> for Address {
    fn read(&self, given: Given<'_>) -> Option<SocketAddr> {
        Self::parse(&word(given)?)
    }

    fn show(&self, value: &SocketAddr) -> String {
        quote(&Self::print(value))
    }
}

/// An IP address.
pub struct Ip;

impl Word for Ip {
    type Value = IpAddr;
    const ALLOWED: &'static str = "IP addresses such as 10.0.0.1 or fd00::1";
    const PLACEHOLDER: &'static str = "IP,…";

    fn parse(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    fn print(value: &IpAddr) -> String {
        value.to_string()
    }
}

/// An IP address, or a network of them (CIDR).
pub struct Network;

impl Word for Network {
    type Value = IpNet;
    const ALLOWED: &'static str = "IP addresses or networks such as 10.0.0.1, 10.0.0.0/8 or fd00::/8";
    const PLACEHOLDER: &'static str = "IP[/BITS],…";

    fn parse(text: &str) -> Option<IpNet> {
        let network = text.parse::<IpNet>().ok().map(|network| network.trunc());
        network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    }

    fn print(value: &IpNet) -> String {
        match value.prefix_len() == value.max_prefix_len() {
            true => value.addr().to_string(),
            false => value.to_string(),
        }
    }
}

/// The origin of a web page as browsers send it, or `*`.
pub struct WebOrigin;

impl Word for WebOrigin {
    type Value = String;
    const ALLOWED: &'static str =
        "origins such as https://example.com, in small letters and without a path, or *";
    const PLACEHOLDER: &'static str = "ORIGIN,…";

    fn parse(text: &str) -> Option<String> {
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            let plain = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase() && !"/?#@,\\*".contains(c);
            !scheme.is_empty() && !host.is_empty() && scheme.chars().all(plain) && host.chars().all(plain)
        });
        (text == "*" || is_origin).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The type of an event: a word in small letters.
pub struct Event;

impl Word for Event {
    type Value = String;
    const ALLOWED: &'static str = "event types such as chat";
    const PLACEHOLDER: &'static str = "TYPE,…";

    fn parse(text: &str) -> Option<String> {
        let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
        is_word.then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A function of a page, as a script names it.
pub struct Function;

impl Word for Function {
    type Value = String;
    const ALLOWED: &'static str = "names of functions such as app.push.received";
    const PLACEHOLDER: &'static str = "NAME,…";

    fn parse(text: &str) -> Option<String> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
        let is_name = |part: &str| {
            part.bytes().all(is_word) && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        };
        text.split('.').all(is_name).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
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

/// A path that a protocol is served at.
pub struct Mount;

impl Word for Mount {
    type Value = String;
    const ALLOWED: &'static str =
        "paths such as /bayeux, without a slash at the end, other than those of the native API";
    const PLACEHOLDER: &'static str = "PATH,…";

    fn parse(text: &str) -> Option<String> {
        let own = ["pub", "sub", "demo", "encke.js", "healthz", "metrics", "stats"];
        let mut segments = text.strip_prefix('/')?.split('/');
        let plain = |segment: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !segment.is_empty() && segment.bytes().all(allowed)
        };
        let first = segments.next()?;
        (plain(first) && segments.all(plain) && !own.contains(&first)).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A channel, or a pattern of channels.
pub struct ChannelPattern;

impl Word for ChannelPattern {
    type Value = String;
    const ALLOWED: &'static str =
        "channels such as news or chat/**, where * stands for a segment and ** at the end for all below";
    const PLACEHOLDER: &'static str = "CHANNEL,…";

    fn parse(text: &str) -> Option<String> {
        let name = text.strip_prefix('/').unwrap_or(text);
        let segments: Vec<&str> = name.split('/').collect();
        let endless = segments.iter().position(|segment| *segment == "**");
        let sound = segments.iter().all(|segment| !matches!(*segment, "" | "." | ".."));
        let ends = endless.is_none_or(|at| at + 1 == segments.len());
        (sound && ends && name.len() <= 255 && !name.chars().any(char::is_control)).then(|| name.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A way for messages to reach a client.
pub struct TechniqueName;

impl Word for TechniqueName {
    type Value = String;
    const ALLOWED: &'static str = "poll, interval, sse, sse-envelope, stream, raw, iframe, jsonp, multipart, x-mixed-replace or websocket";
    const PLACEHOLDER: &'static str = "TECHNIQUE,…";

    fn parse(text: &str) -> Option<String> {
        Self::ALLOWED.split([',', ' ']).any(|name| name == text && name != "or").then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// How much is logged.
pub struct Level;

impl Word for Level {
    type Value = String;
    const ALLOWED: &'static str = "error, warn, info, debug or trace";
    const PLACEHOLDER: &'static str = "LEVEL";

    fn parse(text: &str) -> Option<String> {
        matches!(text, "error" | "warn" | "info" | "debug" | "trace").then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The name of a file.
pub struct TextFile;

impl Word for TextFile {
    type Value = PathBuf;
    const ALLOWED: &'static str = "names of files, without control characters";
    const PLACEHOLDER: &'static str = "FILE";
    const SINGLE: bool = true;

    fn parse(text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.into())
    }

    fn print(value: &PathBuf) -> String {
        value.to_string_lossy().into_owned()
    }
}

/// The name of a directory.
pub struct FolderName;

impl Word for FolderName {
    type Value = PathBuf;
    const ALLOWED: &'static str = "the name of a directory";
    const PLACEHOLDER: &'static str = "DIR";

    fn parse(text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.into())
    }

    fn print(value: &PathBuf) -> String {
        value.to_string_lossy().into_owned()
    }
}

/// A word that must be there.
pub struct One<W>(pub W);

impl<W: Word> Describe for One<W> {
    fn allowed(&self) -> String {
        W::ALLOWED.into()
    }

    fn placeholder(&self) -> &'static str {
        W::PLACEHOLDER
    }
}

impl<W: Word> Kind<W::Value> for One<W> {
    fn read(&self, given: Given<'_>) -> Option<W::Value> {
        W::parse(given.text()?)
    }

    fn show(&self, value: &W::Value) -> String {
        quote(&W::print(value))
    }
}

/// A value that may be absent, written as the empty text.
pub struct Optional<W>(pub W);

impl<W: Word> Describe for Optional<W> {
    fn allowed(&self) -> String {
        format!("{}, or empty for none", W::ALLOWED)
    }

    fn placeholder(&self) -> &'static str {
        W::PLACEHOLDER
    }
}

impl<W: Word> Kind<Option<W::Value>> for Optional<W> {
    fn read(&self, given: Given<'_>) -> Option<Option<W::Value>> {
        match word(given)?.as_str() {
            "" => Some(None),
            text => W::parse(text).map(Some),
        }
    }

    fn show(&self, value: &Option<W::Value>) -> String {
        quote(&value.as_ref().map(W::print).unwrap_or_default())
    }
}

/// Several values: an array in TOML, separated by commas elsewhere.
pub struct List<W>(pub W);

impl<W: Word> Describe for List<W> {
    fn allowed(&self) -> String {
        format!("a list of {}", W::ALLOWED)
    }

    fn placeholder(&self) -> &'static str {
        W::PLACEHOLDER
    }
}

impl<W: Word> Kind<Vec<W::Value>> for List<W> {
    fn read(&self, given: Given<'_>) -> Option<Vec<W::Value>> {
        match given {
            Given::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Given::Text(text) => text.split(',').map(|item| W::parse(item.trim())).collect(),
            Given::Toml(value) if W::SINGLE && value.as_str().is_some() => {
                Some(vec![W::parse(value.as_str()?)?])
            }
            Given::Toml(value) => {
                value.as_array()?.iter().map(|item| W::parse(item.get_ref().as_str()?)).collect()
            }
        }
    }

    fn show(&self, value: &Vec<W::Value>) -> String {
        let items: Vec<String> = value.iter().map(|item| quote(&W::print(item))).collect();
        format!("[{}]", items.join(", "))
    }
}

/// What nobody may see. Empty is refused: an empty token is nearly always a variable that was not filled.
pub struct Secret;

impl Secret {
    /// The secret in `text`, unless no client could send it as a bearer token.
    pub fn parse(text: &str) -> Option<String> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.into())
    }
}

impl Describe for Secret {
    fn allowed(&self) -> String {
        "visible ASCII characters without spaces, and not empty (its value is not shown here)".into()
    }

    fn placeholder(&self) -> &'static str {
        "TOKEN"
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl Kind<Option<String>> for Secret {
    fn read(&self, given: Given<'_>) -> Option<Option<String>> {
        given.text().and_then(Self::parse).map(Some)
    }

    fn show(&self, value: &Option<String>) -> String {
        quote(if value.is_some() { "(redacted)" } else { "" })
    }
}

/// A key: a secret, or a public key as PEM.
pub struct KeyValue;

impl Describe for KeyValue {
    fn allowed(&self) -> String {
        "a secret, or a public key as PEM, without control characters but line ends (its value is not shown here)".into()
    }

    fn placeholder(&self) -> &'static str {
        "KEY"
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl Kind<Option<String>> for KeyValue {
    fn read(&self, given: Given<'_>) -> Option<Option<String>> {
        let is_sound = |text: &&str| {
            !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r'))
        };
        given.text().filter(is_sound).map(|text| Some(text.to_owned()))
    }

    fn show(&self, value: &Option<String>) -> String {
        quote(if value.is_some() { "(redacted)" } else { "" })
    }
}

/// Several secrets: text or an array of texts in TOML, separated by blanks elsewhere.
pub struct Secrets;

impl Describe for Secrets {
    fn allowed(&self) -> String {
        format!("one or several tokens of {}", Secret.allowed())
    }

    fn placeholder(&self) -> &'static str {
        "TOKEN…"
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl Kind<Vec<String>> for Secrets {
    fn read(&self, given: Given<'_>) -> Option<Vec<String>> {
        let secrets: Vec<String> = match given {
            Given::Text(text) => {
                let words = text.trim().split(' ').filter(|word| !word.is_empty());
                words.map(Secret::parse).collect::<Option<_>>()?
            }
            Given::Toml(DeValue::Array(items)) => {
                items.iter().map(|item| Secret::parse(item.get_ref().as_str()?)).collect::<Option<_>>()?
            }
            Given::Toml(value) => vec![Secret::parse(value.as_str()?)?],
        };
        (!secrets.is_empty()).then_some(secrets)
    }

    fn show(&self, value: &Vec<String>) -> String {
        quote(if value.is_empty() { "" } else { "(redacted)" })
    }
}

/// Text, or a number where text is due: `listen = 8080`.
fn word(given: Given<'_>) -> Option<String> {
    match given.text() {
        Some(text) => Some(text.into()),
        None => given.integer().map(|number| number.to_string()),
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
