//! Request heads (RFC 9112), read with `httparse` and stricter than it: what two parsers could read
//! differently is refused, so that nobody smuggles a request past a proxy.

use super::host::{is_host, is_plain_host};
use super::target::{Target, split_target};
use super::words::is_named;
use memchr::memchr;
use std::mem::MaybeUninit;

/// Most header fields in a request.
pub const HEADERS_MAX: usize = 64;

/// Room for the fields of one head.
pub type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; HEADERS_MAX];

/// Empty [`Slots`].
pub const fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// The methods we know; any other is a 501.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Query,
}

/// How the body of a request is delimited (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`, or none, which is 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request that is refused before anybody looks at its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// A sentence for the client's author.
    pub detail: &'static str,
}

const fn bad(detail: &'static str) -> Refusal {
    Refusal { status: 400, detail }
}

const LENGTHS_DIFFER: Refusal = bad("differing Content-Length fields");
const NO_LENGTH: Refusal =
    Refusal { status: 411, detail: "in HTTP/1.0, a request with a body must have Content-Length" };

/// A request's head.
#[derive(Debug)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// The request target as it came.
    pub target: &'b str,
    /// Its path, still percent-encoded.
    pub path: &'b str,
    /// Its query, without the question mark.
    pub query: &'b str,
    /// A `#` stands in the target, which is not for the wire: path and query end before it. FDAjax has always taken it
    /// for a part of the message; everybody else refuses it, as it may belong to a name.
    pub has_fragment: bool,
    /// [`Head::authority`], as bytes: few requests have it read.
    host: &'b [u8],
    /// HTTP/1.1; else HTTP/1.0.
    pub http11: bool,
    /// Whether the connection may serve another request after this one.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
    /// How the body is delimited.
    pub framing: Framing,
    fields: &'b [httparse::Header<'b>],
    /// A bit for each field name there is, by [`name_bit`]: most fields that are asked for are not there.
    names: u64,
}

/// A bit that depends on a field name's length and first letter, in any case.
const fn name_bit(name: &str) -> u64 {
    let first = if name.is_empty() { 0 } else { name.as_bytes()[0] | 0x20 };
    1 << ((name.len() * 11 + first as usize) % 64)
}

/// The end of the head in `bytes`, of which the first `scanned` are known not to contain it.
///
/// A line must end with CR LF: a bare LF is refused at once, as a head made of such lines might never end.
pub fn find_end(bytes: &[u8], scanned: usize) -> Result<Option<usize>, Refusal> {
    let mut from = scanned;
    while let Some(found) = memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        let line = &bytes[..at];
        if line.last() != Some(&b'\r') {
            return Err(bad("a line of the head ends with LF alone; it must end with CR LF"));
        }
        if line.ends_with(b"\r\n\r") {
            return Ok(Some(at + 1));
        }
        from = at + 1;
    }
    Ok(None)
}

/// Reads a complete head.
pub fn parse<'b>(bytes: &'b [u8], slots: &'b mut Slots<'b>) -> Result<Head<'b>, Refusal> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(_)) => understand(request),
        Ok(httparse::Status::Partial) => Err(bad("the head is not complete")),
        Err(httparse::Error::Version) => Err(bad_version(bytes)),
        Err(error) => Err(refusal(error)),
    }
}

/// Method and target in the first line of a head that cannot be read, if that line can: who is refused is to be known all
/// the same. Of a method that we do not know there is none.
pub fn glimpse(bytes: &[u8]) -> Option<(Option<Method>, &str)> {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    match words[..] {
        [name, target, version] if version.starts_with("HTTP/") => Some((method(name).ok(), target)),
        _ => None,
    }
}

/// Reads the head at the front of `bytes` and its length, in one go: `None` if it is not complete, or if there
/// is anything about it that [`find_end`] and [`parse`] have to refuse.
pub fn parse_front<'b>(bytes: &'b [u8], slots: &'b mut Slots<'b>) -> Option<(Head<'b>, usize)> {
    let mut request = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(end)) = request.parse_with_uninit_headers(bytes, slots) else {
        return None;
    };
    // A bare LF ends a line for httparse, and for us it does not.
    if has_bare_lf(&bytes[..end]) { None } else { understand(request).ok().map(|head| (head, end)) }
}

/// Bytes that are looked at together: as many as the processor compares in two instructions. Most heads are longer.
const LANES: usize = 32;

/// Whether an LF stands anywhere but behind a CR. Many bytes at a time and without a branch for what is found, as it is run
/// for every request; the last bytes may overlap those before.
fn has_bare_lf(bytes: &[u8]) -> bool {
    let Some(last) = bytes.len().checked_sub(1) else { return false };
    let (before, behind) = (&bytes[..last], &bytes[1..]);
    let is_bare = |before: u8, byte: u8| u8::from(byte == b'\n') & u8::from(before != b'\r');
    let found = match before.last_chunk::<LANES>().zip(behind.last_chunk::<LANES>()) {
        Some(ends) => {
            let mut found = [0; LANES];
            let mut look = |(before, behind): (&[u8; LANES], &[u8; LANES])| {
                for at in 0..LANES {
                    found[at] |= is_bare(before[at], behind[at]);
                }
            };
            look(ends);
            before.as_chunks().0.iter().zip(behind.as_chunks().0).for_each(look);
            found != [0; LANES]
        }
        None => before.iter().zip(behind).any(|(&before, &byte)| is_bare(before, byte) != 0),
    };
    found || bytes[0] == b'\n'
}

/// What a well-formed head means.
fn understand<'b>(request: httparse::Request<'b, 'b>) -> Result<Head<'b>, Refusal> {
    let target = request.path.unwrap_or_default();
    let http11 = request.version == Some(1);
    let fields: &'b [httparse::Header<'b>] = request.headers;
    let method = method(request.method.unwrap_or_default())?;
    if target == "*" && method != Method::Options {
        return Err(bad("the target * is the server as a whole, and for OPTIONS only"));
    }
    let Target { path, query, authority, has_fragment } = split_target(target).map_err(bad)?;
    let mut head = Head {
        method,
        target,
        path,
        query,
        host: authority.unwrap_or_default().as_bytes(),
        has_fragment,
        http11,
        keep_alive: http11,
        expects_continue: false,
        framing: Framing::Length(0),
        fields,
        names: fields.iter().fold(0, |names, field| names | name_bit(field.name)),
    };
    let host = head.read_host()?;
    if authority.is_none() {
        head.host = host;
    }
    head.framing = head.read_framing()?;
    head.keep_alive = http11 && !head.lists("connection", "close");
    head.expects_continue = http11 && head.read_expect()?;
    Ok(head)
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal { status: 431, detail: "more than 64 header fields" },
        httparse::Error::HeaderName => bad("a header field's name is malformed, or a field is folded"),
        httparse::Error::HeaderValue => bad("a header field's value has a control character"),
        httparse::Error::NewLine => bad("a CR stands alone in the head"),
        _ => bad("the request line is malformed"),
    }
}

/// A request line whose third word is no version we know: is it a version at all?
fn bad_version(bytes: &[u8]) -> Refusal {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match words[..] {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal { status: 505, detail: "this server speaks HTTP/1.1 and HTTP/1.0" }
        }
        _ => bad("the request line is malformed"),
    }
}

fn method(name: &str) -> Result<Method, Refusal> {
    Ok(match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "QUERY" => Method::Query,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => return Err(Refusal { status: 501, detail: "this method is not implemented here" }),
    })
}

impl<'b> Head<'b> {
    /// Host and port that the request is for: those of the target, if it names them (RFC 9112, section 3.2.2), else
    /// those of `Host`; empty if neither is there.
    pub fn authority(&self) -> &'b str {
        // It is ASCII, or the request would have been refused.
        std::str::from_utf8(self.host).unwrap_or_default()
    }

    /// The same as bytes, for what is asked of every request.
    pub const fn authority_bytes(&self) -> &'b [u8] {
        self.host
    }

    /// The last field of that name as text; `None` if there is none or it is not UTF-8. Names are given in
    /// lower case. Wherever one value is asked for and several are there, in fields as in queries, the last counts.
    #[inline]
    pub fn field(&self, name: &str) -> Option<&'b str> {
        self.bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The same as bytes.
    #[inline]
    pub fn bytes(&self, name: &str) -> Option<&'b [u8]> {
        if self.may_have(name) { self.last_of(name) } else { None }
    }

    #[inline(never)]
    fn last_of(&self, name: &str) -> Option<&'b [u8]> {
        self.fields(name).last()
    }

    /// Whether there may be a field of that name: no is certain, yes is not.
    pub const fn may_have(&self, name: &str) -> bool {
        self.names & name_bit(name) != 0
    }

    /// The values of all fields of that name.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let fields = if self.may_have(name) { self.fields } else { &[] };
        let found = fields.iter().filter(move |field| is_named(field.name.as_bytes(), name.as_bytes()));
        found.map(|field| field.value)
    }

    /// Whether a comma-separated field lists `token` (in any case), and not with a weight of 0.
    #[inline]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.may_have(name) && self.weight(name, token) > 0
    }

    /// The weight with which a comma-separated field lists `token` (in any case), in thousandths (RFC 9110,
    /// section 12.4.2): 1000 if it gives none, 0 if it does not list it.
    pub fn weight(&self, name: &str, token: &str) -> u16 {
        self.listed(name, token).map_or(0, |item| {
            let parameters = item.split(|&byte| byte == b';').skip(1);
            parameters.filter_map(weight).last().unwrap_or(1000)
        })
    }

    /// `token` as a comma-separated field spells it, with its parameters.
    pub fn listed(&self, name: &str, token: &str) -> Option<&'b [u8]> {
        // Most clients accept anything: `*/*` is too short to list what is asked for.
        let values = self.fields(name).filter(|value| value.len() >= token.len());
        let items = values.flat_map(|value| value.split(|&byte| byte == b','));
        items.map(<[u8]>::trim_ascii).find(|item| {
            let name = item.split(|&byte| byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(token.as_bytes())
        })
    }

    /// The value of `Host`.
    fn read_host(&self) -> Result<&'b [u8], Refusal> {
        let mut fields = self.fields("host");
        match (fields.next(), fields.next()) {
            (None, _) if !self.http11 => Ok(b""),
            (None, _) => Err(bad("an HTTP/1.1 request must have a Host field")),
            (Some(_), Some(_)) => Err(bad("more than one Host field")),
            (Some(host), None) if is_plain_host(host) || is_host(host) => Ok(host),
            (Some(_), None) => Err(bad("Host is no host with or without a port")),
        }
    }

    fn read_framing(&self) -> Result<Framing, Refusal> {
        let length = self.content_length()?;
        let mut codings = self.fields("transfer-encoding");
        let Some(coding) = codings.next() else {
            // To HTTP/1.0, a body without a length ends with the connection, which would be read as none.
            let has_body = matches!(self.method, Method::Post | Method::Put | Method::Patch | Method::Query);
            let is_lost = !self.http11 && length.is_none() && has_body;
            return if is_lost { Err(NO_LENGTH) } else { Ok(Framing::Length(length.unwrap_or(0))) };
        };
        if length.is_some() {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        if !self.http11 {
            return Err(bad("Transfer-Encoding in an HTTP/1.0 request"));
        }
        let all = std::iter::once(coding).chain(codings).flat_map(|value| value.split(|&byte| byte == b','));
        let known: Vec<bool> = all.map(|name| name.trim_ascii().eq_ignore_ascii_case(b"chunked")).collect();
        match known[..] {
            [true] => Ok(Framing::Chunked),
            // Chunked twice, or not last: the body's end cannot be known (RFC 9112, section 6.1).
            [.., true, _] => Err(bad("chunked must be the last transfer coding, and only once")),
            _ => Err(Refusal { status: 501, detail: "the only transfer coding understood is chunked" }),
        }
    }

    /// The one length that all of `Content-Length` names.
    fn content_length(&self) -> Result<Option<u64>, Refusal> {
        let mut length = None;
        for value in self.fields("content-length") {
            // Nearly always it is one number.
            let found = read_length(value).or_else(|_| read_lengths(value))?;
            if length.is_some_and(|length| length != found) {
                return Err(LENGTHS_DIFFER);
            }
            length = Some(found);
        }
        Ok(length)
    }

    fn read_expect(&self) -> Result<bool, Refusal> {
        match self.field("expect") {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("100-continue") => Ok(true),
            Some(_) => {
                Err(Refusal { status: 417, detail: "the only expectation understood is 100-continue" })
            }
        }
    }
}

/// The weight that a parameter gives, in thousandths; `None` if it is another one, or no weight.
fn weight(parameter: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter.trim_ascii() else { return None };
    let (whole, decimals) = match value {
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        [whole] => (whole, &[][..]),
        _ => return None,
    };
    let mut digits = std::iter::once(whole).chain(decimals).chain([b'0'; 3].iter()).take(4);
    let add = |number: u16, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0'));
    digits.try_fold(0, add).filter(|thousandths| *thousandths <= 1000)
}

/// The one length that all items of a list name.
#[cold]
fn read_lengths(value: &[u8]) -> Result<u64, Refusal> {
    let mut lengths = value.split(|&byte| byte == b',').map(read_length);
    let first = lengths.next().unwrap_or(Ok(0))?;
    lengths.try_fold(first, |first, length| if length? == first { Ok(first) } else { Err(LENGTHS_DIFFER) })
}

fn read_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = value.trim_ascii();
    let add = |length: u64, &byte: &u8| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    let length = if digits.is_empty() { None } else { digits.iter().try_fold(0, add) };
    length.ok_or(bad("Content-Length is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lf_without_a_cr_is_seen_wherever_it_stands() {
        for length in 0..80 {
            for at in 0..length {
                for before in [b'\r', b'\n', 0x0b, 0x8d, 0x8a, b'a', 0, 0xff] {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = b'\n';
                    if at > 0 {
                        bytes[at - 1] = before;
                    }
                    let naive =
                        (0..length).any(|at| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r'));
                    assert_eq!(has_bare_lf(&bytes), naive, "{bytes:?}");
                }
            }
        }
        assert!(!has_bare_lf(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") && !has_bare_lf(b""));
    }

    fn status(bytes: &str) -> u16 {
        let mut slots = slots();
        match find_end(bytes.as_bytes(), 0) {
            Err(refusal) => refusal.status,
            Ok(None) => 0,
            Ok(Some(end)) => match parse(&bytes.as_bytes()[..end], &mut slots) {
                Ok(_) => 200,
                Err(refusal) => refusal.status,
            },
        }
    }

    #[test]
    fn heads_and_their_verdicts() {
        for (head, verdict) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 200),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
        ] {
            assert_eq!(status(head), verdict, "{head:?}");
        }
        let many = "X: y\r\n".repeat(HEADERS_MAX);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), 431);
    }

    #[test]
    fn targets_and_their_parts() {
        for (target, path, query, has_fragment) in [
            ("/", "/", "", false),
            ("/a?", "/a", "", false),
            ("/a?b=?c", "/a", "b=?c", false),
            ("/a%20b?c=%", "/a%20b", "c=%", false),
            ("/a#b", "/a", "", true),
            ("/a#", "/a", "", true),
            ("/a#b?c", "/a", "", true),
            ("/a?b#c", "/a", "b", true),
            ("/a?#c#d", "/a", "", true),
            ("*", "*", "", false),
        ] {
            let method = if target == "*" { "OPTIONS" } else { "GET" };
            let head = format!("{method} {target} HTTP/1.0\r\n\r\n");
            let mut slots = slots();
            let head = parse(head.as_bytes(), &mut slots).unwrap();
            let parts = (head.path, head.query, head.has_fragment);
            assert_eq!(parts, (path, query, has_fragment), "{target}");
        }
        for target in
            ["*", "/%", "/%2", "/%2g", "/a%%20", "/a%?b", "http://:80/", "http:///", "http://[abc]/"]
        {
            assert_eq!(status(&format!("GET {target} HTTP/1.0\r\n\r\n")), 400, "{target}");
        }
    }

    #[test]
    fn who_is_refused_is_known_by_the_first_line() {
        assert_eq!(glimpse(b"PUT /a HTTP/3.0\r\nHo st: x\r\n\r\n"), Some((Some(Method::Put), "/a")));
        assert_eq!(glimpse(b"BREW /a HTTP/1.1\nX"), Some((None, "/a")));
        for unknown in [
            &b""[..],
            b"GET",
            b"GET /a",
            b"GET /a b HTTP/1.1\r\n",
            b"GET /\xff HTTP/1.1\r\n",
            b"\x16\x03\x01",
        ] {
            assert_eq!(glimpse(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn the_end_is_found_however_the_head_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 0..head.len() {
            match find_end(&head[..cut], 0).unwrap() {
                Some(end) => assert!(end == 27 && cut >= 27),
                None => assert_eq!(find_end(head, cut).unwrap(), Some(27), "cut at {cut}"),
            }
        }
    }
}
