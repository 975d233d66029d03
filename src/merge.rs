//! JSON merge patches (RFC 7396): applied, and made, on the text of JSON, so that what is not touched stays as it was
//! written, to the last digit of a number.
//!
//! Objects are taken apart one level at a time; everything else is compared and copied as text. Both texts must be valid
//! JSON. Names that stand twice in an object count as most parsers take them: the last one wins.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Values are not taken apart that are nested as deeply as this or deeper: where parsers stop.
pub const DEPTH_MAX: usize = 128;
/// Objects of fewer members are searched one member after the other.
const FEW: usize = 16;

/// The members of an object, in their order.
struct Members<'a> {
    all: Vec<(Cow<'a, str>, &'a str)>,
    /// Where names stand, if they are many.
    places: BTreeMap<Cow<'a, str>, usize>,
}

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.place(name).and_then(|place| self.all.get(place)).map(|&(_, value)| value)
    }

    fn place(&self, name: &str) -> Option<usize> {
        match self.places.is_empty() {
            true => self.all.iter().position(|(known, _)| known == name),
            false => self.places.get(name).copied(),
        }
    }

    fn insert(&mut self, name: Cow<'a, str>, value: &'a str) {
        if let Some(place) = self.place(&name) {
            self.all[place].1 = value;
            return;
        }
        if self.all.len() == FEW {
            self.places = (0..).zip(&self.all).map(|(place, (name, _))| (name.clone(), place)).collect();
        }
        if self.all.len() >= FEW {
            self.places.insert(name.clone(), self.all.len());
        }
        self.all.push((name, value));
    }

    /// Those of `object`, which is valid JSON; `None` if it is no object.
    fn of(object: &'a str) -> Option<Self> {
        if !is_object(object) {
            return None;
        }
        serde_json::from_str(object).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members { all: Vec::new(), places: BTreeMap::new() };
                while let Some(Name(name)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    members.insert(name, value.get());
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether JSON text is an object.
pub fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

fn is_null(json: &str) -> bool {
    json.trim_ascii() == "null"
}

/// Whether JSON text is nested less than [`DEPTH_MAX`] deep.
fn is_shallow(json: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth >= DEPTH_MAX {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// `target` with `patch` applied. `None` if one of them is no object, or nested too deeply.
pub fn apply(target: &str, patch: &str) -> Option<String> {
    let is_fit = is_object(target) && is_object(patch) && is_shallow(target) && is_shallow(patch);
    if !is_fit {
        return None;
    }
    let mut out = String::with_capacity(target.len() + patch.len());
    write_merged(&mut out, target, patch)?;
    Some(out)
}

/// Appends `target` merged with `patch`, both of them objects.
fn write_merged(out: &mut String, target: &str, patch: &str) -> Option<()> {
    let (target, patch) = (Members::of(target)?, Members::of(patch)?);
    let mut object = Object::begin(out);
    for (name, value) in &target.all {
        match patch.get(name) {
            None => object.member(name).push_str(value),
            Some(change) if is_null(change) => {}
            Some(change) => write_changed(object.member(name), value, change)?,
        }
    }
    for (name, change) in &patch.all {
        if target.place(name).is_none() && !is_null(change) {
            write_changed(object.member(name), "", change)?;
        }
    }
    object.end();
    Some(())
}

/// Appends what a member `value` becomes by `change`, which is not null.
fn write_changed(out: &mut String, value: &str, change: &str) -> Option<()> {
    match is_object(change) {
        false => out.push_str(change),
        true => write_merged(out, if is_object(value) { value } else { "{}" }, change)?,
    }
    Some(())
}

/// The merge patch that makes `new` of `old`, both of them JSON objects. `None` where there is none: RFC 7396 cannot make
/// a member `null`, which neither may have at any depth of objects; or if they are nested too deeply.
pub fn diff(old: &str, new: &str) -> Option<String> {
    let is_fit = is_object(old) && is_object(new) && is_shallow(old) && is_shallow(new);
    if !is_fit {
        return None;
    }
    let mut out = String::with_capacity(new.len() / 2);
    write_diff(&mut out, &Members::of(old)?, &Members::of(new)?)?;
    Some(out)
}

fn write_diff(out: &mut String, old: &Members, new: &Members) -> Option<()> {
    let mut object = Object::begin(out);
    for (name, value) in &new.all {
        let before = old.get(name);
        if is_null(value) || before.is_some_and(is_null) {
            return None;
        }
        match (before, Members::of(value)) {
            (Some(before), Some(value)) if is_object(before) => {
                let begin = object.out.len();
                let had_members = object.has_members;
                write_diff(object.member(name), &Members::of(before)?, &value)?;
                if object.out.ends_with(":{}") {
                    // Nothing is different in there.
                    object.out.truncate(begin);
                    object.has_members = had_members;
                }
            }
            (_, Some(inner)) => {
                has_no_null(&inner)?;
                // A member that was none, or no object, becomes one without what a patch would not leave out.
                object.member(name).push_str(value);
            }
            (Some(before), None) if before == *value => {}
            (before, None) => {
                if let Some(before) = before.and_then(Members::of) {
                    has_no_null(&before)?;
                }
                object.member(name).push_str(value);
            }
        }
    }
    for (name, before) in &old.all {
        if is_null(before) {
            return None;
        }
        if new.place(name).is_none() {
            if let Some(before) = Members::of(before) {
                has_no_null(&before)?;
            }
            object.member(name).push_str("null");
        }
    }
    object.end();
    Some(())
}

/// `Some` if no member is null, at any depth of objects.
fn has_no_null(members: &Members) -> Option<()> {
    for (_, value) in &members.all {
        if is_null(value) {
            return None;
        }
        if let Some(inner) = Members::of(value) {
            has_no_null(&inner)?;
        }
    }
    Some(())
}

/// An object that is being written.
struct Object<'a> {
    out: &'a mut String,
    has_members: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, has_members: false }
    }

    /// Appends a name; its value has to follow.
    fn member(&mut self, name: &str) -> &mut String {
        if std::mem::replace(&mut self.has_members, true) {
            self.out.push(',');
        }
        // A string is always JSON.
        self.out.push_str(&serde_json::to_string(name).unwrap_or_default());
        self.out.push(':');
        self.out
    }

    fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// RFC 7396, appendix A, of targets and patches that are objects.
    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(apply(target, patch).as_deref(), Some(result));
        }
        for (target, patch) in [("[1]", "{}"), ("{}", "[1]"), ("1", "{}"), ("{}", "null")] {
            assert_eq!(apply(target, patch), None);
        }
    }

    #[test]
    fn digits_stay() {
        let target = r#"{ "id" : 9007199254740993, "p":1.10, "e":1e400, "x":{"y":0.1000} }"#;
        let new = apply(target, r#"{"p":1.20,"x":{"z":3}}"#).unwrap();
        assert_eq!(new, r#"{"id":9007199254740993,"p":1.20,"e":1e400,"x":{"y":0.1000,"z":3}}"#);
        assert_eq!(diff(target, &new).as_deref(), Some(r#"{"p":1.20,"x":{"z":3}}"#));
        assert_eq!(
            diff(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#).as_deref(),
            Some(r#"{"a":9007199254740992}"#)
        );
        assert_eq!(diff(r#"{"a":true}"#, r#"{"a":1}"#).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(diff(target, target).as_deref(), Some("{}"));
    }

    #[test]
    fn what_a_patch_cannot_say() {
        for (old, new) in [
            (r#"{"a":null}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":null}"#),
            (r#"{"a":1,"b":null}"#, r#"{"a":2}"#),
            (r#"{"a":{"b":null}}"#, r#"{"c":1}"#),
            (r#"{"a":1}"#, r#"{"a":{"b":{"c":null}}}"#),
            (r#"{"a":{"b":null}}"#, r#"{"a":1}"#),
            (r#"{"a":{"b":{"c":null}}}"#, r#"{"a":{"b":{"c":null}},"d":1}"#),
            ("[1]", "{}"),
        ] {
            assert_eq!(diff(old, new), None, "{old} {new}");
        }
        assert_eq!(diff(r#"{"a":[null]}"#, r#"{"a":[null,1]}"#).as_deref(), Some(r#"{"a":[null,1]}"#));
        assert_eq!(
            diff(r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":1}}"#).as_deref(),
            Some(r#"{"a":{"c":null}}"#)
        );
        assert_eq!(diff(r#"{"a":{}}"#, r#"{"a":{}}"#).as_deref(), Some("{}"));
    }

    #[test]
    fn depth_is_no_danger() {
        for (open, close) in [("{\"a\":", "}"), ("[", "]")] {
            for depth in [100, 126, 127, 200, 100_000] {
                let deep = format!("{{\"d\":{}1{}}}", open.repeat(depth), close.repeat(depth));
                assert_eq!(apply(&deep, "{\"x\":1}").is_some(), depth < 127, "{depth}");
                assert_eq!(diff(&deep, "{\"x\":1}").is_some(), depth < 127);
                assert_eq!(serde_json::from_str::<Value>(&deep).is_ok(), depth < 127);
            }
        }
    }

    #[test]
    fn names_that_stand_twice_and_many_names() {
        assert_eq!(
            apply(r#"{"a":1,"b":2,"a":3}"#, r#"{"c":1,"c":null}"#).as_deref(),
            Some(r#"{"a":3,"b":2}"#)
        );
        let many: String = (0..50).map(|number| format!("\"n{number}\":{number},")).collect();
        let patch = apply(&format!("{{{many}\"n7\":\"seven\"}}"), r#"{"n49":null,"n\u0037":8}"#).unwrap();
        let value: Value = serde_json::from_str(&patch).unwrap();
        assert_eq!(
            (value["n7"].as_u64(), value["n49"].is_null(), value.as_object().unwrap().len()),
            (Some(8), true, 49)
        );
    }

    /// RFC 7396, section 2, as it stands there.
    fn naive(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = target.as_object().cloned().unwrap_or_default();
        for (name, value) in patch {
            match value {
                Value::Null => _ = target.remove(name),
                value => {
                    let old = target.get(name).cloned().unwrap_or(Value::Null);
                    target.insert(name.clone(), naive(&old, value));
                }
            }
        }
        Value::Object(target)
    }

    fn has_null(value: &Value) -> bool {
        let members = value.as_object();
        members.is_some_and(|members| members.values().any(|value| value.is_null() || has_null(value)))
    }

    /// A random value; an object at the `top`.
    fn value(random: &mut crate::id::Random, depth: u64, top: bool) -> Value {
        match random.below(if depth == 0 { 5 } else { 8 }) {
            0 if !top => Value::Null,
            1 if !top => Value::from(random.below(3)),
            2 if !top => Value::from(["", "a\"b", "\u{e9}\n"][random.below(3) as usize]),
            3 if !top => Value::from(random.one_in(2)),
            4 if !top => Value::from(vec![value(random, 0, false), Value::Null]),
            _ => {
                let count = random.below(5);
                let names = ["a", "b", "c\"", "\u{e9}", "e"];
                let members = (0..count).map(|_| {
                    let name = names[random.below(5) as usize].to_owned();
                    (name, value(random, depth.saturating_sub(1), false))
                });
                Value::Object(members.collect())
            }
        }
    }

    #[test]
    fn agrees_with_a_naive_twin() {
        let mut random = crate::id::Random::new(7);
        let mut patches = 0;
        for _ in 0..30_000 {
            let (old, new) = (value(&mut random, 3, true), value(&mut random, 3, true));
            let applied: Value =
                serde_json::from_str(&apply(&old.to_string(), &new.to_string()).unwrap()).unwrap();
            assert_eq!(applied, naive(&old, &new), "{old} {new}");
            let patch = diff(&old.to_string(), &new.to_string());
            assert_eq!(patch.is_none(), has_null(&old) || has_null(&new), "{old} {new}");
            if let Some(patch) = patch {
                patches += 1;
                assert_eq!(naive(&old, &serde_json::from_str(&patch).unwrap()), new, "{old} {new} {patch}");
            }
        }
        assert!(patches > 1000, "{patches}");
    }
}
