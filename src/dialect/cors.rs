//! Cross-origin rules (WHATWG Fetch, section 3.3): which pages of other origins may read our answers.

use super::token::has_token;
use crate::carry::{Carry, Damaged, Parcel, Resume, Shape, Unpack};
use crate::config::Cors;
use crate::conn::OriginIndex;
use crate::wire::head::Head;
use crate::wire::response;
use std::num::NonZeroU16;

/// Fields that scripts of another origin may read.
const EXPOSED: &str = "Access-Control-Expose-Headers: ETag, Encke-Next, Encke-Gap, Encke-Heartbeat, Encke-Event, Encke-Key, Encke-Removed, Last-Event-ID, Link, Mercure-Last-Event-ID, Retry-After, WWW-Authenticate\r\n";

/// The header fields that answers carry, made once from the settings.
#[derive(Debug)]
pub struct Rules {
    /// For everybody if all origins are allowed; else for those who are not listed, whose answer is another one.
    default: String,
    /// The same where the answer names whatever origin asks, and so is another one for each.
    varied: String,
    /// All origins are allowed.
    all: bool,
    /// Origins listed by name and what answers to them carry.
    listed: Vec<(String, String)>,
    /// What answers to requests carry that have a token in their query: the same in the same order, and fields that
    /// keep the token from caches and from pages that are linked to. Empty where tokens are not used.
    hiding: Vec<String>,
}

/// Marks the index of an origin whose request has a token in its query.
const HIDES: u16 = 1 << 15;
/// What answers to such requests carry; that no cache may store them is seen to where they are written.
const HIDING: &str = response::HIDING;

impl Rules {
    /// The rules of the settings. `tokens` tells whether tokens are used.
    pub fn new(cors: &Cors, tokens: bool) -> Self {
        let all = cors.origins.iter().any(|origin| origin == "*");
        let some = cors.origins.iter().any(|origin| origin != "*");
        let vary = if some || !all { "Vary: Origin\r\n" } else { "" };
        let default = match all {
            true => format!("Access-Control-Allow-Origin: *\r\n{vary}{EXPOSED}"),
            false => vary.into(),
        };
        let names =
            cors.origins.iter().filter(|origin| *origin != "*").map(|origin| origin.to_ascii_lowercase());
        let listed: Vec<_> = names.map(|origin| (origin.clone(), listed_fields(&origin))).collect();
        let varied = if vary.is_empty() { format!("{default}Vary: Origin\r\n") } else { default.clone() };
        let mut rules = Self { default, varied, all, listed, hiding: Vec::new() };
        if tokens {
            rules.hide();
        }
        rules
    }

    /// Makes the fields of answers to requests with a token in their query.
    fn hide(&mut self) {
        let listed =
            self.listed.iter().map(|(_, fields)| if fields.is_empty() { &self.default } else { fields });
        self.hiding =
            std::iter::once(&self.default).chain(listed).map(|fields| format!("{fields}{HIDING}")).collect();
    }

    /// What answers to the request must carry: which listed origin it comes from, and whether it has a token in its
    /// query.
    pub fn find(&self, head: &Head) -> OriginIndex {
        let origin = self.place(head);
        match !self.hiding.is_empty() && has_token(head.query) {
            true => NonZeroU16::new(origin.map_or(0, NonZeroU16::get) | HIDES),
            false => origin,
        }
    }

    /// Takes other rules. Those who wait for an answer keep the place of their origin, so an origin that is not listed
    /// any more stays where it is and is told nothing.
    pub fn renew(&mut self, cors: &Cors, tokens: bool) {
        let Self { default, varied, listed, all, .. } = Self::new(cors, tokens);
        (self.default, self.varied) = (default, varied);
        self.all = all;
        for (_, fields) in &mut self.listed {
            fields.clear();
        }
        for (origin, fields) in listed {
            match self.listed.iter_mut().find(|(known, _)| *known == origin) {
                Some((_, place)) => *place = fields,
                None => self.listed.push((origin, fields)),
            }
        }
        if tokens {
            self.hide();
        }
    }

    /// Which listed origin the request comes from.
    fn place(&self, head: &Head) -> OriginIndex {
        if self.listed.is_empty() {
            return None;
        }
        let origin = head.field("origin")?;
        let is_it =
            |(listed, fields): &(String, String)| !fields.is_empty() && listed.eq_ignore_ascii_case(origin);
        let place = self.listed.iter().position(is_it)?;
        NonZeroU16::new(u16::try_from(place + 1).ok().filter(|index| *index < HIDES)?)
    }

    /// The origin the request comes from, if it is allowed only because all are.
    pub fn unlisted<'b>(&self, head: &Head<'b>) -> Option<&'b str> {
        head.field("origin").filter(|_| self.all && self.place(head).is_none())
    }

    /// The fields of answers to that origin where they name whatever origin asks, if this one is not to be named.
    pub fn varied_fields(&self, origin: OriginIndex) -> &str {
        match origin {
            None => &self.varied,
            Some(_) => self.fields(origin),
        }
    }

    /// The fields of answers to that origin, complete lines.
    pub fn fields(&self, origin: OriginIndex) -> &str {
        let index = origin.map_or(0, NonZeroU16::get);
        if index & HIDES != 0 {
            return self.hiding.get(usize::from(index & !HIDES)).unwrap_or(&self.default);
        }
        let listed = usize::from(index).checked_sub(1).and_then(|place| self.listed.get(place));
        let listed = listed.filter(|(_, fields)| !fields.is_empty());
        listed.map_or(&self.default, |(_, fields)| fields)
    }
}

/// Those who wait for an answer know their origin by its place, so the places go over. What each is told comes with the
/// settings: [`Rules::renew`] has to follow.
impl Resume for Rules {
    fn shape(shape: &mut Shape) {
        shape.add("origins");
        Vec::<String>::shape(shape);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { default: _, varied: _, all: _, listed, hiding: _ } = self;
        let names: Vec<String> = listed.iter().map(|(origin, _)| origin.clone()).collect();
        names.pack(parcel);
    }

    fn resume(&mut self, from: &mut Unpack) -> Result<(), Damaged> {
        let names = Vec::<String>::unpack(from)?;
        self.listed = names.into_iter().map(|origin| (origin, String::new())).collect();
        Ok(())
    }
}

/// Whether the page that sends this may connect by a technique where no browser keeps it from reading: pages of
/// this host and of allowed origins may, and what is no page.
pub fn admits(head: &Head, cors: &Cors) -> bool {
    let Some(origin) = head.field("origin") else { return head.bytes("origin").is_none() };
    let is_own = origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(head.authority()));
    is_own || cors.origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin))
}

/// The same for a script that is asked for by a page. Such requests carry no `Origin`: a browser tells by
/// `Sec-Fetch-Site` that the page is ours, or by `Referer` which page it is.
pub fn admits_script(head: &Head, cors: &Cors) -> bool {
    let is_ours = head.field("sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "none"));
    let all = cors.origins.iter().any(|listed| listed == "*");
    all || is_ours
        || head.field("referer").is_some_and(|referer| {
            let origin = origin_of(referer);
            let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
            let listed = cors.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin));
            listed || authority.eq_ignore_ascii_case(head.authority())
        })
}

/// The origin at the beginning of a URL.
pub fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '?', '#']).map_or(url.len(), |at| authority + at);
    &url[..end]
}

/// The origins of the pages that a request comes from, as it says: one, or whatever several fields say. Older browsers tell
/// only by `Referer`. What cannot be read is nobody's.
pub fn pages<'b>(head: &Head<'b>) -> impl Iterator<Item = &'b str> {
    let name = if head.fields("origin").next().is_some() { "origin" } else { "referer" };
    head.fields(name).map(|value| origin_of(std::str::from_utf8(value).unwrap_or_default()))
}

/// The fields of answers that name an origin. A listed origin gets credentials; `*` never does.
pub fn listed_fields(origin: &str) -> String {
    format!(
        "Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n{EXPOSED}"
    )
}

/// Fields that scripts may send in any case.
const ALLOWED: &str = "Accept, Authorization, Cache-Control, Content-Type, Encke-Event, Encke-Key, Encke-TTL, \
    Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Pragma, X-Requested-With";

/// The fields that answer a preflight request for one of `methods`, complete lines. Whatever fields it asks for are
/// allowed, as pages whose requests are measured or traced send some: what they may do is decided when they come.
pub fn preflight(head: &Head, methods: &str) -> String {
    let asked =
        head.fields("access-control-request-headers").filter_map(|asked| std::str::from_utf8(asked).ok());
    let names = asked.flat_map(|asked| asked.split(',')).map(str::trim).filter(|name| is_field_name(name));
    let is_new = |name: &&str| !ALLOWED.split(", ").any(|allowed| allowed.eq_ignore_ascii_case(name));
    let further: String = names.filter(is_new).map(|name| format!(", {name}")).collect();
    format!(
        "Access-Control-Allow-Methods: {methods}\r\nAccess-Control-Allow-Headers: {ALLOWED}{further}\r\n\
         Access-Control-Max-Age: 86400\r\n"
    )
}

/// Whether it is a token (RFC 9110, section 5.6.2).
fn is_field_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}
