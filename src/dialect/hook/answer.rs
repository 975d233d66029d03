//! What the application answers, read strictly: whatever is not understood is no answer, and nobody is let in.

use crate::broker::access::{Action, Grant, Question, Word};
use crate::time::Instant;
use crate::wire::json;
use serde::Deserialize;
use std::rc::Rc;

/// Most bytes of an answer's body.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a subject.
const SUBJECT_BYTES_MAX: usize = 255;
/// Most bytes of what the application says to who is refused, and of `info`.
const TEXT_BYTES_MAX: usize = 1024;
/// Most seconds that an answer may count.
const SECONDS_MAX: u64 = 86_400;
/// Seconds that a refusal is remembered at most.
const REFUSED_SECONDS: u64 = 1;

/// What came back when the application was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// An answer: its status, and at most [`BODY_BYTES_MAX`] of its body.
    Answer {
        /// Its status.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// There was none in time.
    Late,
    /// There was none, and why not.
    Failed(String),
}

/// An answer that was understood.
#[derive(Debug)]
pub struct Answer {
    /// What it says. It ends when the application said, counted from now on.
    pub word: Word,
    /// Seconds for which it may be remembered.
    pub cache_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    allow: Allow,
    subject: Option<String>,
    info: Option<serde_json::Value>,
    expires_in: Option<u64>,
    cache_seconds: Option<u64>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Allow {
    Everything(bool),
    These(Vec<String>),
}

/// Reads an answer to `question`, which was asked in the second `unix` and is remembered for `cache_seconds` at most.
/// The error is a sentence for the log, in which nothing of the answer stands.
pub fn read(
    reply: &Reply,
    question: &Rc<Question>,
    (now, unix): (Instant, u64),
    cache_seconds: u64,
) -> Result<Answer, String> {
    let (status, body) = match reply {
        Reply::Answer { status, body } => (*status, body),
        Reply::Late => return Err("it has not answered in time (hook.timeout_ms)".into()),
        Reply::Failed(why) => return Err(why.clone()),
    };
    match status {
        200 => allowed(body, question, (now, unix), cache_seconds),
        401 | 403 => {
            let reason = std::str::from_utf8(body).ok().and_then(text);
            let grant = Rc::new(Grant { ends: u64::MAX, issued: Some(unix), ..Grant::default() });
            let word = Word { question: Rc::clone(question), grant, status, reason, ends: Instant::NEVER };
            Ok(Answer { word, cache_seconds: cache_seconds.min(REFUSED_SECONDS) })
        }
        other => Err(format!("it answered {other}, which is none of 200, 401 and 403")),
    }
}

fn allowed(
    body: &[u8],
    question: &Rc<Question>,
    (now, unix): (Instant, u64),
    cache_seconds: u64,
) -> Result<Answer, String> {
    if !json::begins_object(body) {
        return Err("its answer is no JSON object".into());
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        format!(
            "its answer is not understood at line {}, column {}: JSON with \"allow\" (true, false or a list of \
             names), and perhaps \"subject\", \"info\", \"expires_in\", \"cache_seconds\", \"reason\"",
            error.line(),
            error.column()
        )
    })?;
    if body.expires_in.is_some_and(|seconds| !(1..=SECONDS_MAX).contains(&seconds)) {
        return Err("\"expires_in\" of its answer is none of 1 to 86400 seconds".into());
    }
    let subject = body.subject.map(|subject| sound(&subject, SUBJECT_BYTES_MAX).ok_or(())).transpose();
    let subject = subject.map_err(|()| "\"subject\" of its answer is not text of 1 to 255 bytes")?;
    let info = body.info.map(|info| info.to_string().into_boxed_str());
    if info.as_ref().is_some_and(|info| info.len() > TEXT_BYTES_MAX) {
        return Err("\"info\" of its answer is longer than 1 KiB".into());
    }
    let is_allowed = |name: &str| match &body.allow {
        Allow::Everything(all) => *all,
        Allow::These(names) => names.iter().any(|allowed| allowed == name),
    };
    let names: Vec<Box<str>> = question.channels.iter().filter(|name| is_allowed(name)).cloned().collect();
    let (subscribe, publish) = match question.action {
        Action::Subscribe => (names, Vec::new()),
        Action::Publish => (Vec::new(), names),
    };
    let grant = Rc::new(Grant {
        subject,
        info,
        issued: Some(unix),
        ends: u64::MAX,
        subscribe,
        publish,
        ..Grant::default()
    });
    let ends = body.expires_in.map_or(Instant::NEVER, |seconds| now.plus_seconds(seconds));
    let reason = body.reason.as_deref().and_then(text);
    let word = Word { question: Rc::clone(question), grant, status: 403, reason, ends };
    let most = if word.allows_all() { body.expires_in.unwrap_or(u64::MAX) } else { REFUSED_SECONDS };
    let cache_seconds = body.cache_seconds.unwrap_or(cache_seconds).min(cache_seconds).min(most);
    Ok(Answer { word, cache_seconds })
}

/// What the application says to who is refused, if that may be shown.
fn text(text: &str) -> Option<Box<str>> {
    sound(text.trim(), TEXT_BYTES_MAX)
}

fn sound(text: &str, max: usize) -> Option<Box<str>> {
    let is_sound = (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    is_sound.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Client;
    use crate::broker::access::Asker;
    use crate::config::Config;
    use crate::wire::head;

    fn question() -> Rc<Question> {
        let bytes = b"GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut slots = head::slots();
        let head = head::parse(bytes, &mut slots).unwrap();
        let asker = Asker::of(&head, Client::OWN, "sse", &Config::default());
        Rc::new(Question::new(Action::Subscribe, vec!["a".into(), "b".into()], Rc::new(asker)))
    }

    fn read_as(status: u16, body: &str) -> Result<Answer, String> {
        let reply = Reply::Answer { status, body: body.into() };
        read(&reply, &question(), (Instant::from_millis(1000), 50), 30)
    }

    #[test]
    fn answers_that_are_understood() {
        type Row = (u16, &'static str, &'static [&'static str], u16, Option<&'static str>, u64);
        let rows: [Row; 10] = [
            (200, r#"{"allow":true}"#, &["a", "b"], 403, None, 30),
            (200, r#"{"allow":true,"cache_seconds":7}"#, &["a", "b"], 403, None, 7),
            (200, r#"{"allow":true,"cache_seconds":70}"#, &["a", "b"], 403, None, 30),
            (200, r#"{"allow":true,"expires_in":5}"#, &["a", "b"], 403, None, 5),
            (200, r#"{"allow":false,"reason":"no"}"#, &[], 403, Some("no"), 1),
            (200, r#"{"allow":["b","c","*"]}"#, &["b"], 403, None, 1),
            (200, r#"{"allow":[]}"#, &[], 403, None, 1),
            (401, "log in\n", &[], 401, Some("log in"), 1),
            (403, "<html>\n<body>", &[], 403, None, 1),
            (403, "", &[], 403, None, 1),
        ];
        for (status, body, granted, refused, reason, cached) in rows {
            let Answer { word, cache_seconds } = read_as(status, body).unwrap();
            let names: Vec<&str> = word.grant.subscribe.iter().map(|name| &**name).collect();
            assert_eq!((names.as_slice(), word.status, cache_seconds), (granted, refused, cached), "{body}");
            assert_eq!(word.reason.as_deref(), reason, "{body}");
        }
        let word = read_as(200, r#"{"allow":true,"subject":"alice","info":{"name": "A"},"expires_in":600}"#)
            .unwrap()
            .word;
        assert_eq!((word.grant.subject.as_deref(), word.grant.issued), (Some("alice"), Some(50)));
        assert_eq!(word.grant.info.as_deref(), Some(r#"{"name":"A"}"#));
        assert_eq!(word.ends, Instant::from_millis(601_000));
    }

    #[test]
    fn whatever_else_comes_is_no_answer() {
        let long = "x".repeat(1025);
        for (status, body) in [
            (200, String::new()),
            (200, "true".into()),
            (200, "{}".into()),
            (200, "[true,null,null,null,null,null]".into()),
            (200, r#"{"allow":"true"}"#.into()),
            (200, r#"{"allow":1}"#.into()),
            (200, r#"{"allow":true,"allow":false}"#.into()),
            (200, r#"{"allow":true,"expire_in":5}"#.into()),
            (200, r#"{"allow":true,"expires_in":0}"#.into()),
            (200, r#"{"allow":true,"expires_in":86401}"#.into()),
            (200, r#"{"allow":true,"expires_in":1.5}"#.into()),
            (200, r#"{"allow":true,"expires_in":-1}"#.into()),
            (200, r#"{"allow":true,"subject":""}"#.into()),
            (200, r#"{"allow":true,"subject":7}"#.into()),
            (200, format!(r#"{{"allow":true,"info":"{long}"}}"#)),
            (200, r#"{"allow":true} {}"#.into()),
            (201, r#"{"allow":true}"#.into()),
            (204, String::new()),
            (302, String::new()),
            (404, String::new()),
            (500, String::new()),
        ] {
            let why = read_as(status, &body).unwrap_err();
            assert!(!why.contains(&long), "nothing of the answer is logged");
        }
        let question = question();
        for reply in [Reply::Late, Reply::Failed("refused".into())] {
            assert!(read(&reply, &question, (Instant::default(), 0), 30).is_err());
        }
    }
}
