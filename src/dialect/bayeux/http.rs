//! Bayeux over HTTP: long polling, callback polling, and where eventsource begins.

use super::message::{self, Incoming, Unreadable};
use super::reply::Replies;
use super::{Bayeux, Exchange, Visitor};
use crate::config::is_misspelled;
use crate::conn::{ConnId, Request};
use crate::dialect::native::{HAS_FRAGMENT, encoded};
use crate::dialect::{Act, Context, cors, upgrade};
use crate::wire::head::{Head, Method};
use crate::wire::response::Response;
use crate::wire::{media, query};
use data_encoding::HEXLOWER;
use std::borrow::Cow;

const METHODS: &str = "GET, POST, OPTIONS";
const COOKIE: &str = "BAYEUX_BROWSER";
/// The function that is called if a callback-polling client names none.
const CALLBACK: &str = "jsonpcallback";
const CALLBACK_BYTES_MAX: usize = 64;

impl Bayeux {
    /// Takes a request. Unless it is a connect that has to wait, it is answered at once.
    pub fn request(&mut self, cx: &mut Context, from: ConnId, request: &Request) {
        if request.head.has_fragment {
            cx.act(from, Act::Answer(bad(HAS_FRAGMENT)));
        } else if upgrade::is_asked(&request.head) {
            self.open_socket(cx, from, request);
        } else if let Some(response) = self.serve(cx, from, request) {
            cx.act(from, Act::Answer(response));
        }
    }

    /// The answer, if there is one yet.
    fn serve(&mut self, cx: &mut Context, from: ConnId, request: &Request) -> Option<Response> {
        let head = &request.head;
        match head.method {
            Method::Post => self.serve_post(cx, from, request),
            Method::Get => self.serve_get(cx, from, head),
            Method::Options => {
                let mut response = Response::empty(204).with("Allow", METHODS);
                response.fields.to_mut().push_str(&cors::preflight(head, "POST, GET"));
                Some(response)
            }
            _ => {
                let detail = "Bayeux is spoken by POST, or by GET with `message=`";
                Some(Response::problem(405, detail, false).with("Allow", METHODS))
            }
        }
    }

    /// Long polling: messages as JSON, or as `message=` of a form, whatever the type says.
    fn serve_post(&mut self, cx: &mut Context, from: ConnId, request: &Request) -> Option<Response> {
        if media::is_encoded(&request.head) {
            return Some(encoded(&request.head));
        }
        let Ok(body) = std::str::from_utf8(request.body) else { return Some(bad("the body is not UTF-8")) };
        match body.trim_start().as_bytes().first() {
            Some(b'[' | b'{') => self.serve_messages(cx, from, &request.head, &[body.into()], None),
            _ => match read_form(body) {
                Ok(form) if form.messages.is_empty() => {
                    Some(bad("the body is neither JSON nor a form with `message=`"))
                }
                Ok(form) => self.serve_messages(cx, from, &request.head, &form.messages, None),
                Err(detail) => Some(bad(&detail)),
            },
        }
    }

    /// Callback polling, or the stream of a session.
    fn serve_get(&mut self, cx: &mut Context, from: ConnId, head: &Head) -> Option<Response> {
        if media::accepts(head, media::EVENT_STREAM) {
            let below = self.below_mount(head.path).unwrap_or_default();
            let client_id = below.trim_start_matches('/').to_owned();
            let visitor = self.visitor(cx, head);
            self.begin_stream(cx, from, &client_id, visitor);
            return None;
        }
        let form = match read_form(head.query) {
            Ok(form) if form.messages.is_empty() => {
                return Some(bad(
                    "this is for Bayeux clients: POST messages, or GET with `message=` and `jsonp=`",
                ));
            }
            Ok(form) => form,
            Err(detail) => return Some(bad(&detail)),
        };
        if cx.config.techniques_off.iter().any(|name| name == "jsonp") {
            let detail = "jsonp is switched off here (techniques_off), and callback polling with it";
            return Some(Response::problem(403, detail, false));
        }
        if !cors::admits_script(head, &cx.config.cors) {
            let detail = "pages of this origin may not ask for scripts; see --cors-origins";
            return Some(Response::problem(403, detail, false));
        }
        let callback = form.callback.unwrap_or(Cow::Borrowed(CALLBACK));
        if !is_callback(&callback) {
            return Some(bad("`jsonp` is not the name of a function"));
        }
        self.serve_messages(cx, from, head, &form.messages, Some(&callback))
    }

    /// Takes the messages in `texts`, each JSON.
    fn serve_messages(
        &mut self,
        cx: &mut Context,
        from: ConnId,
        head: &Head,
        texts: &[Cow<str>],
        callback: Option<&str>,
    ) -> Option<Response> {
        let max = cx.config.bayeux.request_messages;
        let mut messages = Vec::with_capacity(1);
        for text in texts {
            match message::read(text, max, &mut messages) {
                Ok(()) => {}
                Err(Unreadable::NotMessages) => {
                    return Some(bad("not a message or an array of messages in JSON"));
                }
                Err(Unreadable::TooMany) => {
                    let detail = format!("a request has at most {max} messages (bayeux.request_messages)");
                    return Some(Response::problem(413, &detail, false));
                }
            }
        }
        let handshake = messages.iter().position(Incoming::is_handshake);
        // Beside a handshake nothing else counts.
        let messages = handshake.map_or(&messages[..], |at| &messages[at..=at]);
        let mut set_cookie = None;
        let visitor = self.visitor(cx, head);
        if self.is_flood(cx, visitor, messages) {
            return Some(flooded());
        }
        let callback = callback.map(Into::into);
        let identity = cx.identify(from, head);
        let alone = messages.len() == 1;
        let mut exchange = Exchange {
            from,
            socket: false,
            callback,
            visitor,
            alone,
            identity,
            said: Vec::new(),
            denied: None,
        };
        let bytes = texts.iter().map(|text| text.len()).sum();
        if !self.hear(cx, &mut exchange, messages, |cx| cx.asker(head, "bayeux"), bytes) {
            return None;
        }
        if handshake.is_some() && visitor.cookie == 0 {
            let (hash, field) = self.new_cookie();
            (exchange.visitor.cookie, set_cookie) = (hash, Some(field));
        }
        let mut replies = Replies::new();
        for message in messages {
            self.take(cx, &exchange, message, &mut replies);
        }
        if replies.is_empty() && !messages.is_empty() {
            return None;
        }
        let response = answer(exchange.callback.as_deref(), replies.finish());
        Some(match set_cookie {
            Some(cookie) => response.with("Set-Cookie", cookie),
            None => response,
        })
    }

    /// Who sends a request.
    pub(super) fn visitor(&self, cx: &Context, head: &Head) -> Visitor {
        Visitor { address: cx.client.address, cookie: self.cookie(head) }
    }

    /// A hash of the browser's cookie; 0 = there is none.
    fn cookie(&self, head: &Head) -> u64 {
        let fields = head.fields("cookie").filter_map(|field| std::str::from_utf8(field).ok());
        let mut pairs =
            fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value);
        value.map_or(0, |value| self.cookies.hash(value).max(1))
    }

    /// A cookie for a browser that has none: its hash, and the field that sets it.
    fn new_cookie(&mut self) -> (u64, String) {
        let value = HEXLOWER.encode(&self.secrets.draw().to_be_bytes());
        let hash = self.cookies.hash(value.as_str()).max(1);
        (hash, format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax"))
    }
}

/// What a form or a query says.
#[derive(Debug, Default)]
struct Form<'b> {
    /// The values of `message`.
    messages: Vec<Cow<'b, str>>,
    /// The last value of `jsonp`.
    callback: Option<Cow<'b, str>>,
}

/// Reads a form or a query; or says what is wrong with it, as nothing of it may be overlooked.
fn read_form(text: &str) -> Result<Form<'_>, String> {
    let mut form = Form::default();
    for pair in query::pairs(text) {
        let (name, value) = pair.ok_or("it is not UTF-8 once it is decoded")?;
        match &*name {
            "message" => form.messages.push(value),
            "jsonp" => form.callback = Some(value),
            _ => {
                if let Some(meant) =
                    ["message", "jsonp"].into_iter().find(|known| is_misspelled(&name, known))
                {
                    return Err(format!("there is no parameter {name}=; {meant}= may be meant"));
                }
            }
        }
    }
    Ok(form)
}

/// The answer to a message too many of a session that does not exist.
pub fn flooded() -> Response {
    let detail = "too many messages of sessions that do not exist (bayeux.unknown_per_second)";
    Response::problem(429, detail, false).with("Retry-After", 1)
}

fn bad(detail: &str) -> Response {
    Response::problem(400, detail, false)
}

/// Whether `name` is a path of JavaScript identifiers.
fn is_callback(name: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_alphabetic() || b"_$".contains(byte);
    let rest = |byte: &u8| first(byte) || byte.is_ascii_digit();
    let identifier =
        |part: &str| part.as_bytes().first().is_some_and(first) && part.as_bytes().iter().all(rest);
    name.len() <= CALLBACK_BYTES_MAX && name.split('.').all(identifier)
}

/// An answer with these messages, as JSON or as a call of a function.
pub fn answer(callback: Option<&str>, messages: Vec<u8>) -> Response {
    let Some(callback) = callback else {
        // Put together as it is: this is the answer to every connect.
        let fields = "Content-Security-Policy: sandbox\r\n".into();
        return Response { fields, ..Response::new(200, "application/json;charset=UTF-8", messages) };
    };
    // Line ends to JavaScript of old, but not to JSON.
    let json =
        String::from_utf8_lossy(&messages).replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let script = format!("/**/{callback}({json});");
    Response::new(200, "text/javascript; charset=utf-8", script.into_bytes())
        .with("Cross-Origin-Resource-Policy", "cross-origin")
        .with("Cache-Control", "no-cache, no-store")
        .with("Content-Disposition", "attachment; filename=f.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks() {
        for good in ["jsonpcallback", "__jsonp1__", "_cometd_jsonp_2", "a.b.$c"] {
            assert!(is_callback(good), "{good}");
        }
        for bad in ["", "alert(1)", "a..b", "1a", "a-b", "é", &"x".repeat(65)] {
            assert!(!is_callback(bad), "{bad}");
        }
    }

    #[test]
    fn forms() {
        let form = read_form("a=b&message=%5B%5D&jsonp=f&message=+x&jsonp=g").unwrap();
        assert_eq!((form.messages, form.callback.as_deref()), (vec!["[]".into(), " x".into()], Some("g")));
        assert!(read_form("hello").is_ok_and(|form| form.messages.is_empty()));
        for bad in ["message=%ff", "message=%5B%5D&message=%ff", "mesage=%5B%5D", "message=%5B%5D&jsnop=f"] {
            assert!(read_form(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scripts_survive_line_separators() {
        let response = answer(Some("cb"), "[\"\u{2028}\u{2029}\"]".into());
        assert_eq!(response.body, &b"/**/cb([\"\\u2028\\u2029\"]);"[..]);
    }
}
