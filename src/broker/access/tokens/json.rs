//! JSON as tokens have it, read strictly: no member twice, finite numbers, no deeper than needed.
//!
//! Two members of one name are two meanings of one token: what a parser at the issuer took for its value may be the
//! other one than ours. So they are refused wherever they stand (RFC 8725, section 2.4).

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`, or a truth value.
    Other,
    /// A number, and finite.
    Number(f64),
    /// Text.
    Text(String),
    /// An array.
    Array(Vec<Self>),
    /// An object; no name stands twice.
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// The object that `bytes` are, if they are one. Nesting is bounded by serde_json (128).
    pub fn object(bytes: &[u8]) -> Option<BTreeMap<String, Self>> {
        match serde_json::from_slice(bytes).ok()? {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        match number.is_finite() {
            true => Ok(Json::Number(number)),
            false => Err(E::custom("a number is not finite")),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some((name, value)) = members.next_entry()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strictly() {
        let read = |text: &str| Json::object(text.as_bytes());
        assert_eq!(read("{\"a\":1,\"b\":\"x\"}").unwrap().len(), 2);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        for bad in [
            "",
            "[]",
            "1",
            "{\"a\":1",
            "{\"a\":1}x",
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"a\":1e999}",
            "{\"a\":NaN}",
            "{\"x\":{\"a\":1,\"a\":2}}",
            "{\"x\":[{\"a\":1,\"a\":2}]}",
            "{'a':1}",
            "\u{feff}{}",
            &deep,
        ] {
            assert!(read(bad).is_none(), "{bad:.60}");
        }
    }
}
