//! Mercure: whatever forms, selectors, tokens and paths say, by either draft, what is published comes as it was
//! published, to whom it is for, and nothing stays.

use crate::script::{MARK, Stage, small};
use encke::config::{Config, Protocol};
use encke::wire::query;

/// A token for everything, by the key below, that never ends.
pub const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdLCJzdWJzY3JpYmUiOlsiKiJdfX0.h9rjEAc1hGMkA3Iblda9Hk1I-qGHCfWIX0hSLvFqkLk";
const KEY: &str = "a secret of thirty-two bytes at least";

/// A server that speaks Mercure, too, in both drafts.
pub fn hub() -> Config {
    let mut config = small();
    config.limits.channels = 64;
    config.limits.message_bytes = 4096;
    config.limits.target_bytes = 4096;
    config.limits.head_bytes = 8192;
    config.history.bytes = 20_000;
    config.history.total_bytes = 40_000;
    let mercure = &mut config.mercure;
    mercure.publisher_key = Some(KEY.into());
    mercure.subscriber_key = Some(KEY.into());
    (mercure.anonymous, mercure.subscriptions) = (true, true);
    mercure.protocol = Protocol::Both;
    mercure.issuer = Some("https://issuer.example".into());
    mercure.audience = Some("https://hub.example/.well-known/mercure".into());
    config
}

/// Checks lines: `+` and a form to publish, `?` and a query to listen, `=` and one in the body, `/` and a path below the
/// subscriptions, `!` and whatever the next line shows in place of the token.
pub fn check(data: &[u8]) {
    let mut stage = Stage::new(hub());
    let everything = format!(
        "GET /.well-known/mercure?topic=* HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stage.play_on(0, everything.as_bytes());
    let mut token = TOKEN.to_owned();
    for (at, line) in data.split(|&byte| byte == b'\n').enumerate().take(20) {
        let Some((&kind, rest)) = line.split_first() else { continue };
        let plain: Vec<u8> = rest.iter().copied().filter(|&byte| byte != MARK).collect();
        let target: String =
            plain.iter().filter(|byte| byte.is_ascii_graphic()).map(|&byte| char::from(byte)).collect();
        let fields = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
        let hub = "/.well-known/mercure";
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let length = plain.len();
        match kind {
            b'!' => {
                token = target;
                continue;
            }
            b'+' => {
                let head = format!("POST {hub} HTTP/1.1\r\n{fields}{form}Content-Length: {length}\r\n\r\n");
                let answer = stage.play_on(1, &[head.as_bytes(), &plain].concat());
                let heard = String::from_utf8_lossy(&stage.take(0)).into_owned();
                judge(&plain, &answer, &heard);
            }
            b'=' => {
                let head = format!("QUERY {hub} HTTP/1.1\r\n{fields}{form}Content-Length: {length}\r\n\r\n");
                stage.play_on(2 + at % 3, &[head.as_bytes(), &plain].concat());
            }
            b'/' => {
                _ = stage.play_on(
                    1,
                    format!("GET {hub}/subscriptions/{target} HTTP/1.1\r\n{fields}\r\n").as_bytes(),
                )
            }
            _ => {
                _ = stage
                    .play_on(2 + at % 3, format!("GET {hub}?{target} HTTP/1.1\r\n{fields}\r\n").as_bytes())
            }
        }
    }
    stage.end();
}

/// Whoever may see everything is sent what was published, as a client of Mercure reads it, and nothing that was not.
fn judge(form: &[u8], answer: &str, heard: &str) {
    let is_published = answer.starts_with("HTTP/1.1 200 ");
    let text = std::str::from_utf8(form).unwrap_or_default();
    let pairs: Vec<query::Pair<'_>> = query::pairs(text).flatten().collect();
    let first =
        |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.to_string());
    let updates: Vec<Event> = events(heard).into_iter().filter(|event| event.name != "encke.gap").collect();
    if !is_published {
        let told = updates
            .iter()
            .any(|event| !event.data.contains("Subscription") && !event.data.contains("subscription"));
        assert!(!told, "nothing was published: {heard:?}");
        return;
    }
    let data = first("data").unwrap_or_default().replace("\r\n", "\n").replace('\r', "\n");
    let found = updates.iter().find(|event| event.data == data);
    let event = found.unwrap_or_else(|| panic!("{data:?} is not among what came: {heard:?}"));
    assert_eq!(event.name, first("type").unwrap_or_default(), "{heard:?}");
    if let Some(id) = first("id").filter(|id| !id.is_empty()) {
        assert_eq!(event.id, id);
    }
}

#[derive(Default, Debug)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// Server-sent events out of a chunked answer, by the letter of the WHATWG.
fn events(heard: &str) -> Vec<Event> {
    let text = crate::unchunked(
        heard.split_once("\r\n\r\n").filter(|_| heard.starts_with("HTTP/")).map_or(heard, |(_, body)| body),
    );
    let (mut all, mut event, mut data): (Vec<Event>, Event, Vec<&str>) =
        (Vec::new(), Event::default(), Vec::new());
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            if !data.is_empty() {
                all.push(Event { data: std::mem::take(&mut data).join("\n"), ..std::mem::take(&mut event) });
            }
            event = Event::default();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => data.push(value),
            "id" => event.id = value.into(),
            "event" => event.name = value.into(),
            _ => {}
        }
    }
    all
}
