//! The body of a publication: a form (`application/x-www-form-urlencoded`), as browsers and PHP write it.

use super::{Refused, TOPICS_MAX, bad, check_unknown};
use crate::wire::head::Head;
use crate::wire::media;
use crate::wire::query;
use std::borrow::Cow;

/// What a form says, not judged yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form<'b> {
    /// In their order.
    pub topics: Vec<Cow<'b, str>>,
    /// Missing is empty.
    pub data: Cow<'b, str>,
    /// The field is there, whatever it says.
    pub private: bool,
    /// Empty is none.
    pub id: Option<Cow<'b, str>>,
    /// Empty is none.
    pub event: Option<Cow<'b, str>>,
    /// Milliseconds; 0 is none.
    pub retry_ms: Option<u64>,
}

/// What it may say.
const FIELDS: [&str; 6] = ["topic", "data", "private", "id", "type", "retry"];
const FORM: &str = "application/x-www-form-urlencoded";

/// Reads a form.
pub fn read<'b>(head: &Head, body: &'b [u8]) -> Result<Form<'b>, Refused> {
    check_type(head)?;
    parse(body)
}

/// The pairs of a form.
pub fn pairs<'b>(head: &Head, body: &'b [u8]) -> Result<Vec<query::Pair<'b>>, Refused> {
    check_type(head)?;
    let text = std::str::from_utf8(body).map_err(|_| bad("the form is not UTF-8"))?;
    let pairs: Option<Vec<query::Pair>> = query::pairs(text).collect();
    pairs.ok_or_else(|| bad("the form is not UTF-8 once it is decoded"))
}

fn check_type(head: &Head) -> Result<(), Refused> {
    let content_type = head.field("content-type").unwrap_or_default();
    if media::is_encoded(head) {
        return Err(Refused::Encoded);
    }
    if !media::essence(content_type).eq_ignore_ascii_case(FORM) {
        return Err(bad(format!("the body must be a form: Content-Type: {FORM}")));
    }
    Ok(())
}

fn parse(body: &[u8]) -> Result<Form<'_>, Refused> {
    let text = std::str::from_utf8(body).map_err(|_| bad("the form is not UTF-8"))?;
    let mut form = Form::default();
    let (mut data, mut id, mut event, mut retry) = (None, None, None, None);
    for pair in query::pairs(text) {
        let (name, value) = pair.ok_or_else(|| bad("the form is not UTF-8 once it is decoded"))?;
        match &*name {
            "topic" if form.topics.len() >= TOPICS_MAX => {
                return Err(bad(format!(
                    "Too many \"topic\" parameters: an update has at most {TOPICS_MAX}"
                )));
            }
            "topic" => form.topics.push(value),
            "data" => _ = data.get_or_insert(value),
            "private" => form.private = true,
            "id" => _ = id.get_or_insert(value),
            "type" => _ = event.get_or_insert(value),
            "retry" => _ = retry.get_or_insert(value),
            _ => check_unknown(&name, &FIELDS)?,
        }
    }
    if form.topics.is_empty() {
        return Err(bad("Missing \"topic\" parameter"));
    }
    form.data = data.unwrap_or_default();
    form.id = id.filter(|id| !id.is_empty());
    form.event = event.filter(|event| !event.is_empty());
    form.retry_ms = retry_of(retry.as_deref().unwrap_or_default())?;
    Ok(form)
}

/// Digits and nothing else, in 64 bits.
fn retry_of(text: &str) -> Result<Option<u64>, Refused> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        _ if text.is_empty() => Ok(None),
        Ok(number) if is_number => Ok(Some(number).filter(|number| *number > 0)),
        _ => Err(bad("Invalid \"retry\" parameter: milliseconds, digits only")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Form<'_> {
        parse(body.as_bytes()).unwrap_or_else(|refused| panic!("{body}: {refused:?}"))
    }

    #[test]
    fn what_forms_say() {
        let read = form("topic=a&%74opic=b+c&data=x%0Ay&private&id=1&id=2&type=t&retry=10&other=1&=&&");
        assert_eq!(read.topics, ["a", "b c"]);
        assert_eq!((&*read.data, read.private, read.id.as_deref()), ("x\ny", true, Some("1")));
        assert_eq!((read.event.as_deref(), read.retry_ms), (Some("t"), Some(10)));
        let empty = form("topic=a&id=&type=&retry=");
        assert_eq!(empty, Form { topics: vec!["a".into()], ..Form::default() });
        for private in ["private=", "private=0", "private=false", "private"] {
            assert!(form(&format!("topic=a&{private}")).private);
        }
        assert_eq!(form("topic=a&data=100%&retry=0").data, "100%");
        assert_eq!(form("topic=%zz").topics, ["%zz"]);
        assert_eq!(form("topic").topics, [""]);
        assert_eq!(form("topic=a&retry=18446744073709551615").retry_ms, Some(u64::MAX));
    }

    #[test]
    fn what_is_refused() {
        let many = "topic=a&".repeat(TOPICS_MAX + 1);
        for body in [
            "",
            "data=x",
            "topic=%ff",
            "topic=a&data=%c3%28",
            "topic=a&privat=on",
            "topic=a&Private=on",
            "topic=a&dta=x",
            "topic=a&retry=+5",
            "topic=a&retry=%205",
            "topic=a&retry=5s",
            "topic=a&retry=1.5",
            "topic=a&retry=-1",
            "topic=a&retry=18446744073709551616",
            &many,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:.40}");
        }
        assert!(parse(b"topic=\xff").is_err());
        assert!(parse("topic=a&".repeat(TOPICS_MAX).as_bytes()).is_ok());
    }
}
