//! Values that are one piece of text: addresses, origins, names. One, none or a list of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::{Describe, Given, Kind, quote};

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
/// Text, or a number where text is due: `listen = 8080`.
fn word(given: Given<'_>) -> Option<String> {
    match given.text() {
        Some(text) => Some(text.into()),
        None => given.integer().map(|number| number.to_string()),
    }
}
