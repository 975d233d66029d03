//! Values that are never shown.

use toml::de::DeValue;

use super::{Describe, Given, Kind, quote};

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
