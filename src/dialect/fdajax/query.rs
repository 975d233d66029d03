//! The query of a request, which is all there is to it: read strictly, as the original read it.
//!
//! Nothing but `mes`, `sess_id` and the separators of `types` may be percent-encoded; an unknown name or an
//! empty part makes the whole request invalid.

use super::types::{ID_MAX, Types, number};
use percent_encoding::percent_decode_str;
use std::net::Ipv4Addr;

/// Longest session id, and as much of a password as counts.
pub const WORD_BYTES_MAX: usize = 127;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Wait,
    Stream,
    Cancel,
    ChatSig,
    Push,
    Alert,
    Check,
    Login,
    Logout,
    Info,
    AddChat,
    RmChat,
}

const VERBS: [(&str, Verb); 12] = [
    ("wait", Verb::Wait),
    ("stream", Verb::Stream),
    ("cancel", Verb::Cancel),
    ("chat_sig", Verb::ChatSig),
    ("push", Verb::Push),
    ("alert", Verb::Alert),
    ("check", Verb::Check),
    ("login", Verb::Login),
    ("logout", Verb::Logout),
    ("info", Verb::Info),
    ("add_chat", Verb::AddChat),
    ("rm_chat", Verb::RmChat),
];

impl Verb {
    /// Whether it is for the application behind the server only.
    pub const fn is_admin(self) -> bool {
        !matches!(self, Self::Wait | Self::Stream | Self::Cancel | Self::ChatSig)
    }
}

/// A request. Numbers that were not given are 0.
#[derive(Debug)]
pub struct Query<'a> {
    pub verb: Verb,
    pub user_id: u32,
    pub peer_id: u32,
    pub win_id: u32,
    pub win_st: u32,
    pub sec: u32,
    pub usec: u32,
    pub alert_id: u32,
    pub amode: u32,
    pub force: u32,
    pub types: Types,
    pub mes: Option<Vec<u8>>,
    pub sess_id: Option<String>,
    pub ip_addr: Option<Ipv4Addr>,
    pub admin_passwd: Option<&'a str>,
}

/// Reads a query; otherwise says what is wrong with it.
pub fn parse(text: &str) -> Result<Query<'_>, &'static str> {
    let mut query = Query {
        verb: Verb::Info,
        user_id: 0,
        peer_id: 0,
        win_id: 0,
        win_st: 0,
        sec: 0,
        usec: 0,
        alert_id: 0,
        amode: 0,
        force: 0,
        types: Types::default(),
        mes: None,
        sess_id: None,
        ip_addr: None,
        admin_passwd: None,
    };
    let mut verb = None;
    for part in text.split('&') {
        let (name, value) = part.split_once('=').ok_or("each part of the query is name=value")?;
        match name {
            "cmd" => verb = Some(read_verb(value)?),
            "types" if !query.types.add(value) => return Err("types is no list of event types"),
            "types" | "_" => {}
            "mes" if query.mes.is_some() => return Err("mes is given twice"),
            "mes" => query.mes = Some(read_message(value)?),
            "sess_id" => query.sess_id = Some(session(value).ok_or("sess_id is no session id")?),
            "ip_addr" => query.ip_addr = Some(read_address(value)?),
            "admin_passwd" => query.admin_passwd = Some(read_password(value)?),
            // Seconds since 1970 outgrow what is enough for ids in 2038.
            "sec" => query.sec = value.parse().ok().filter(|_| is_digits(value)).ok_or(NO_NUMBER)?,
            _ => *query.number(name)? = number(value).ok_or(NO_NUMBER)?,
        }
    }
    query.verb = verb.ok_or("cmd is missing")?;
    Ok(query)
}

const NO_NUMBER: &str = "a number has 1 to 10 digits and is at most 2147483647";
const _: () = assert!(ID_MAX == 2_147_483_647);

impl Query<'_> {
    /// The place of a number.
    fn number(&mut self, name: &str) -> Result<&mut u32, &'static str> {
        Ok(match name {
            "user_id" => &mut self.user_id,
            "peer_id" => &mut self.peer_id,
            "win_id" => &mut self.win_id,
            "win_st" => &mut self.win_st,
            "usec" => &mut self.usec,
            "alert_id" => &mut self.alert_id,
            "amode" => &mut self.amode,
            "force" => &mut self.force,
            _ => return Err("the query has an unknown name"),
        })
    }
}

fn is_digits(text: &str) -> bool {
    text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn read_verb(name: &str) -> Result<Verb, &'static str> {
    let found = VERBS.iter().find(|(known, _)| *known == name);
    found.map(|(_, verb)| *verb).ok_or("cmd is no command")
}

fn read_message(value: &str) -> Result<Vec<u8>, &'static str> {
    if !has_valid_escapes(value) {
        return Err("mes has a percent sign that is not followed by two hexadecimal digits");
    }
    let spaced = value.replace('+', " ");
    let message: Vec<u8> = percent_decode_str(&spaced).collect();
    match message.is_empty() || message.contains(&0) {
        true => Err("mes has at least one character and no NUL"),
        false => Ok(message),
    }
}

fn has_valid_escapes(value: &str) -> bool {
    let mut pieces = value.split('%');
    pieces.next();
    pieces.all(|piece| piece.len() >= 2 && piece.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// A session id as it stands in a query or a cookie: 1 to 127 visible ASCII characters once decoded, so that
/// the ids of today's frameworks fit. `None` if it is none.
pub fn session(value: &str) -> Option<String> {
    let decoded = percent_decode_str(value).decode_utf8().ok().filter(|_| has_valid_escapes(value))?;
    let is_id = (1..=WORD_BYTES_MAX).contains(&decoded.len())
        && decoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    is_id.then(|| decoded.into_owned())
}

fn read_address(value: &str) -> Result<Ipv4Addr, &'static str> {
    let address: Option<Ipv4Addr> = value.parse().ok();
    address.filter(|address| !address.is_broadcast()).ok_or("ip_addr is no IPv4 address")
}

fn read_password(value: &str) -> Result<&str, &'static str> {
    let is_word = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(value).ok_or("admin_passwd has letters and digits only; a header takes any password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let all = "cmd=chat_sig&user_id=7&peer_id=0000000008&win_id=2147483647&win_st=1&sec=4294967295&usec=5&\
                   alert_id=3&amode=1&force=2&types=chat&types=ord,4&mes=%22a+%2B%22&sess_id=Ab-,_%2B9&\
                   ip_addr=10.0.0.1&admin_passwd=x&_=&_=123";
        let query = parse(all).unwrap();
        assert_eq!((query.verb, query.user_id, query.peer_id), (Verb::ChatSig, 7, 8));
        assert_eq!((query.win_id, query.win_st, query.sec, query.usec), (ID_MAX, 1, u32::MAX, 5));
        assert_eq!((query.alert_id, query.amode, query.force), (3, 1, 2));
        assert_eq!(query.types.print(), "chat|ord,4");
        assert_eq!(query.mes.unwrap(), b"\"a +\"");
        assert_eq!(query.sess_id.unwrap(), "Ab-,_+9");
        assert_eq!(query.ip_addr, Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(parse("cmd=info&cmd=check&user_id=1&user_id=2").unwrap().user_id, 2);
        assert_eq!(parse("cmd=push&mes=<é'!~*()?=/>").unwrap().mes.unwrap(), "<é'!~*()?=/>".as_bytes());
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "cmd",
            "cmd=",
            "cmd=dance",
            "cmd=Wait",
            "user_id=1",
            "cmd=info&",
            "&cmd=info",
            "cmd=info&&user_id=1",
            "cmd=info&who=1",
            "cm%64=info",
            "cmd=inf%6f",
            "cmd=info&user_id=",
            "cmd=info&user_id=-1",
            "cmd=info&user_id=+1",
            "cmd=info&user_id=%31",
            "cmd=info&user_id=2147483648",
            "cmd=info&user_id=4294967297",
            "cmd=info&user_id=00000000001",
            "cmd=info&sec=4294967296",
            "cmd=info&sec=+1",
            "cmd=info&types=",
            "cmd=info&types=chat|",
            "cmd=info&mes=",
            "cmd=info&mes=a&mes=b",
            "cmd=info&mes=%",
            "cmd=info&mes=%4",
            "cmd=info&mes=%zz",
            "cmd=info&mes=a%00b",
            "cmd=info&sess_id=",
            "cmd=info&sess_id=a%20b",
            "cmd=info&sess_id=a%3Bb",
            "cmd=info&sess_id=a%ff",
            "cmd=info&ip_addr=1.2.3",
            "cmd=info&ip_addr=1.2.3.256",
            "cmd=info&ip_addr=255.255.255.255",
            "cmd=info&admin_passwd=",
            "cmd=info&admin_passwd=a-b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let sess = |length| format!("cmd=info&sess_id={}", "a".repeat(length));
        assert!(parse(&sess(127)).is_ok() && parse(&sess(128)).is_err());
    }
}
