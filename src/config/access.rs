//! Settings of who may do what: kinds of values for the rows of `[[channels]]` and `[[tokens.keys]]`, and what must
//! hold among them.
//!
//! A mistake here opens what was meant to be closed, so settings that cannot work keep the server from starting.

use std::fmt;

use super::kind::{Bytes, Describe, Given, Kind, Number, Time, Word, quote};
use super::{Loaded, Problem};

/// Who a rule lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    Anyone,
    /// Who shows a token that grants it.
    Token,
    /// Whom the application lets, when it is asked.
    Hook,
    /// Who may publish without any rule: who shows a publish token and, for publishing only, loopback peers while
    /// there is none.
    Publishers,
}

impl Who {
    /// How it is written.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("anyone", Self::Anyone),
        ("token", Self::Token),
        ("hook", Self::Hook),
        ("publishers", Self::Publishers),
    ];
}

/// How a token is signed (RFC 7518, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are the names of the RFC")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// How it is written.
    pub const NAMES: [(&'static str, Self); 10] = [
        ("HS256", Self::HS256),
        ("HS384", Self::HS384),
        ("HS512", Self::HS512),
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    /// The algorithm of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Whether one secret both signs and verifies.
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// What is spoken to clients of Mercure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Draft 07, which nearly all clients speak.
    Classic,
    /// Draft 08.
    V1,
    /// Each request as it comes, for a migration.
    Both,
}

impl Protocol {
    /// Their names.
    pub const NAMES: [(&'static str, Self); 3] =
        [("classic", Self::Classic), ("v1", Self::V1), ("both", Self::Both)];

    /// Whether draft 08 is spoken.
    pub const fn speaks_v1(self) -> bool {
        matches!(self, Self::V1 | Self::Both)
    }
}

/// One of a few words, or none.
pub struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T> Describe for Choice<T> {
    fn allowed(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn placeholder(&self) -> &'static str {
        "WORD"
    }
}

impl<T: Copy + PartialEq> Kind<T> for Choice<T> {
    fn read(&self, given: Given<'_>) -> Option<T> {
        let text = given.text()?;
        self.0.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }

    fn show(&self, value: &T) -> String {
        quote(self.0.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name))
    }
}

impl<T: Copy + PartialEq> Kind<Option<T>> for Choice<T> {
    fn read(&self, given: Given<'_>) -> Option<Option<T>> {
        Kind::<T>::read(self, given).map(Some)
    }

    fn show(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(String::new, |value| Kind::<T>::show(self, value))
    }
}

/// Text that stands in a claim or in a token's header: an issuer, an audience, the id of a key.
pub struct ClaimText;

impl Word for ClaimText {
    type Value = String;
    const ALLOWED: &'static str = "text of at most 255 bytes without control characters";
    const PLACEHOLDER: &'static str = "TEXT";

    fn parse(text: &str) -> Option<String> {
        let sound = !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control);
        sound.then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The name of a cookie (RFC 6265, a token).
pub struct CookieName;

impl Word for CookieName {
    type Value = String;
    const ALLOWED: &'static str = "the name of a cookie: letters, digits, - and _";
    const PLACEHOLDER: &'static str = "NAME";

    fn parse(text: &str) -> Option<String> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(sound)).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// Where the application is asked. TLS is not spoken there, and what stands before an `@` would be shown in logs.
pub struct HookUrl;

impl Word for HookUrl {
    type Value = String;
    const ALLOWED: &'static str = "a URL that begins with http://, without user and password, such as \
                                   \"http://127.0.0.1:3000/encke\" (https is not spoken; put a proxy between)";
    const PLACEHOLDER: &'static str = "URL";

    fn parse(text: &str) -> Option<String> {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_sound = scheme.eq_ignore_ascii_case("http") && is_visible && !rest.contains(['#', '@']);
        (is_sound && !authority.is_empty() && !authority.starts_with(':')).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The URL of a Mercure hub, as its clients know it.
pub struct HubUrl;

impl Word for HubUrl {
    type Value = String;
    const ALLOWED: &'static str = "a URL that begins with http:// or https://, without query and fragment, such as \
                                   \"https://example.com/.well-known/mercure\"";
    const PLACEHOLDER: &'static str = "URL";

    fn parse(text: &str) -> Option<String> {
        let (scheme, rest) = text.split_once("://")?;
        let is_web = matches!(scheme, "http" | "https");
        let authority = rest.split('/').next()?;
        let is_sound = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\"\\<>".contains(&byte));
        (is_web && is_sound && !authority.is_empty() && text.len() <= 1024).then(|| text.into())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The name of a header field, in small letters.
pub struct FieldName;

impl Word for FieldName {
    type Value = String;
    const ALLOWED: &'static str = "the name of a header field, such as cookie";
    const PLACEHOLDER: &'static str = "NAME";

    fn parse(text: &str) -> Option<String> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (!text.is_empty() && text.len() <= 64 && text.bytes().all(sound)).then(|| text.to_ascii_lowercase())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The chat of the demo, and its rooms.
pub const DEMO_CHAT: [&str; 2] = ["demo/chat", "demo/chat/**"];

/// Whether that is a channel of the demo's chat.
pub fn is_demo_chat(channel: &str) -> bool {
    channel.strip_prefix(DEMO_CHAT[0]).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a channel shows who is on it, and to whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shows {
    /// It does not.
    #[default]
    Nobody,
    /// To those who may subscribe, and have a subject.
    Subjects,
    /// To all who may subscribe.
    Everybody,
}

/// How that is written.
pub struct ShowsWord;

impl Describe for ShowsWord {
    fn allowed(&self) -> String {
        "true, false or \"public\"".into()
    }

    fn placeholder(&self) -> &'static str {
        "WORD"
    }
}

impl Kind<Shows> for ShowsWord {
    fn read(&self, given: Given<'_>) -> Option<Shows> {
        let flag = match given {
            Given::Toml(value) => value.as_bool(),
            Given::Text(text) => text.trim().parse().ok(),
        };
        match (flag, given.text()) {
            (Some(true), _) => Some(Shows::Subjects),
            (Some(false), _) => Some(Shows::Nobody),
            (None, Some("public")) => Some(Shows::Everybody),
            (None, _) => None,
        }
    }

    fn show(&self, value: &Shows) -> String {
        match value {
            Shows::Nobody => "false".into(),
            Shows::Subjects => "true".into(),
            Shows::Everybody => "\"public\"".into(),
        }
    }
}

/// What is kept of a channel, as far as it differs from `[history]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeps {
    /// Messages.
    pub messages: Option<usize>,
    /// Seconds.
    pub seconds: Option<u64>,
    /// Bytes.
    pub bytes: Option<usize>,
}

/// How that is written.
pub struct KeepsTable;

const MESSAGES: Number = Number(1..=1_000_000);
const SECONDS: Time = Time::Seconds(1..=super::YEAR);
const BYTES: Bytes = Bytes(1..=super::TIB);

impl Describe for KeepsTable {
    fn allowed(&self) -> String {
        let (messages, seconds, bytes) = (MESSAGES.allowed(), SECONDS.allowed(), BYTES.allowed());
        format!("{{ messages = …, seconds = …, bytes = … }} or some of these: {messages}; {seconds}; {bytes}")
    }

    fn placeholder(&self) -> &'static str {
        "TABLE"
    }
}

impl Kind<Keeps> for KeepsTable {
    fn read(&self, given: Given<'_>) -> Option<Keeps> {
        let Given::Toml(value) = given else { return None };
        let mut keeps = Keeps::default();
        for (key, value) in value.as_table()? {
            let given = Given::Toml(value.get_ref());
            match &**key.get_ref() {
                "messages" => keeps.messages = Some(Kind::<usize>::read(&MESSAGES, given)?),
                "seconds" => keeps.seconds = Some(SECONDS.read(given)?),
                "bytes" => keeps.bytes = Some(BYTES.read(given)?),
                _ => return None,
            }
        }
        Some(keeps)
    }

    fn show(&self, value: &Keeps) -> String {
        let messages = value.messages.map(|it| format!("messages = {}", Kind::<usize>::show(&MESSAGES, &it)));
        let seconds = value.seconds.map(|it| format!("seconds = {}", SECONDS.show(&it)));
        let bytes = value.bytes.map(|it| format!("bytes = {}", BYTES.show(&it)));
        let all: Vec<String> = [messages, seconds, bytes].into_iter().flatten().collect();
        format!("{{ {} }}", all.join(", "))
    }
}

/// What a key's file holds. It is read with the settings, and shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyText(pub Vec<u8>);

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// What is wrong among the rows: settings that cannot work, or that leave open what they seem to close.
pub fn problems(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let mut problems = Vec::new();
    let mut report = |table, row, text: String| problems.push(Problem::new(&loaded.row(table, row), text));
    for (row, rule) in config.channels.iter().enumerate() {
        if rule.pattern.is_empty() {
            let text = "channels: a rule needs match = \"…\", the channels it is for";
            report("channels", row, text.into());
        }
        let named = if rule.subscribe == Who::Token { "subscribe" } else { "publish" };
        if config.token_keys.is_empty() && (rule.subscribe == Who::Token || rule.publish == Some(Who::Token))
        {
            let text = format!(
                "channels.{named}: \"token\" needs a key that tokens are verified by: add [[tokens.keys]] with \
                 algorithm and file"
            );
            report("channels", row, text);
        }
        let named = if rule.subscribe == Who::Hook { "subscribe" } else { "publish" };
        if config.hook.url.is_none() && (rule.subscribe == Who::Hook || rule.publish == Some(Who::Hook)) {
            let text = format!("channels.{named}: \"hook\" needs an application to ask: add [hook] with url");
            report("channels", row, text);
        }
    }
    if let Some(last) = config.channels.last()
        && last.pattern != "**"
        && config.channels.iter().any(|rule| rule.subscribe != Who::Anyone)
    {
        let text = "channels: a rule restricts subscribing, so the last one must say what holds for all other \
                    channels: match = \"**\", and subscribe = \"anyone\" if they are to stay open";
        report("channels", config.channels.len() - 1, text.into());
    }
    for (row, key) in config.token_keys.iter().enumerate() {
        if key.file.is_none() {
            report("tokens.keys", row, "tokens.keys: a key needs file = \"…\"".into());
        }
        let earlier = &config.token_keys[..row];
        if let Some(id) = &key.id
            && earlier.iter().any(|other| other.id.as_ref() == Some(id))
        {
            report("tokens.keys", row, format!("tokens.keys: two keys have the id {id:?}; ids must differ"));
        }
    }
    problems
}

impl Loaded {
    /// What works, and is probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let config = &self.config;
        let mut warnings = Vec::new();
        if config.publish.token.iter().any(|token| token.len() < TOKEN_CHARS_MIN) {
            warnings.push(format!(
                "{}: publish.token: a token has fewer than {TOKEN_CHARS_MIN} characters and can be guessed; \
                 `openssl rand -base64 24` makes a good one",
                self.origin("publish.token")
            ));
        }
        warnings
    }
}

/// A publish token of fewer characters is warned of.
const TOKEN_CHARS_MIN: usize = 16;
