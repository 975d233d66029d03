//! Merge patches on text, against RFC 7396 as it stands there on values.

use encke::merge;
use serde_json::Value;

/// Checks two texts, the first up to a line end: the second as a patch for the first, and what makes it of the first.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((old, new)) = text.split_once('\n') else { return };
    let (Ok(before), Ok(after)) = (serde_json::from_str::<Value>(old), serde_json::from_str::<Value>(new))
    else {
        return;
    };
    assert_eq!(merge::is_object(old), before.is_object());
    let are_objects = before.is_object() && after.is_object();
    let applied = merge::apply(old, new);
    assert!(applied.is_none() || are_objects, "{old} {new}");
    if let Some(applied) = &applied {
        let value: Value = serde_json::from_str(applied).expect("JSON");
        assert_eq!(value, patched(&before, &after), "{old} {new}");
    }
    // What both parsers take is not too deep.
    assert_eq!(applied.is_some(), are_objects, "{old} {new}");
    let Some(patch) = merge::diff(old, new) else {
        return assert!(!are_objects || has_null(&before) || has_null(&after), "{old} {new}");
    };
    assert!(are_objects && !has_null(&before) && !has_null(&after), "{old} {new} {patch}");
    let value: Value = serde_json::from_str(&patch).expect("JSON");
    assert_eq!(patched(&before, &value), after, "{old} {new} {patch}");
    // To the last digit: what is made of it is the same as what is made of it again.
    let made = merge::apply(old, &patch).expect("a patch");
    assert_eq!(merge::diff(&made, new).as_deref(), Some("{}"), "{old} {new} {patch}");
}

/// RFC 7396, section 2. No deeper than the parser goes.
fn patched(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut made = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => _ = made.remove(name),
            value => _ = made.insert(name.clone(), patched(made.get(name).unwrap_or(&Value::Null), value)),
        }
    }
    Value::Object(made)
}

fn has_null(value: &Value) -> bool {
    value.as_object().is_some_and(|members| members.values().any(|value| value.is_null() || has_null(value)))
}
