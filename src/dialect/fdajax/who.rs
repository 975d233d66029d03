//! Who is asking, and whether they may.
//!
//! Pages are known by their session cookie alone, the application by its address and by a password, or by the publish
//! token where there is one.
//! The original asked no more than that. Since then, browsers tell which page a request comes from, and
//! proxies for whom they ask: what was sent on behalf of somebody else is not taken for the application.

use super::query::{self, Query, WORD_BYTES_MAX};
use super::slots::site;
use super::{Fdajax, answers};
use crate::broker::forwarded_for;
use crate::conn::{ConnId, Door};
use crate::dialect::Context;
use crate::dialect::access::{self, Denied};
use crate::dialect::cors;
use crate::dialect::holder::UserKey;
use crate::dialect::token;
use crate::wire::head::Head;
use crate::wire::response::Response;
use subtle::ConstantTimeEq;

impl Fdajax {
    /// The user or guest who asks; an unknown session becomes a guest. Otherwise what to tell the page.
    pub(super) fn identify(
        &mut self,
        context: &mut Context,
        head: &Head,
        query: &Query,
    ) -> Result<UserKey, Response> {
        let config = context.config;
        let fdajax = &config.fdajax;
        let tell = |code: &str| answers::to_page(code.as_bytes(), query.win_st);
        if is_foreign_page(head) && !is_listed(head, &context.config.cors.origins) {
            return Err(answers::refusal(403, "a page of another site asks"));
        }
        let address = context.client.address.to_canonical();
        let Some(session) = cookie(head, &fdajax.session_cookie) else {
            return Err(tell(&fdajax.js_nocookies));
        };
        let Some(key) = self.users.of_session(&session) else {
            if query.user_id != 0 {
                return Err(tell(&fdajax.js_notfound));
            }
            if !fdajax.allow_guests {
                return Err(tell(&fdajax.js_no_guests));
            }
            if !context.broker.admits_session(context.client) {
                context.broker.stats.sessions_refused += 1;
                let detail = "memory is short (limits.memory); try again later";
                return Err(answers::refusal(503, detail).with("Retry-After", 10));
            }
            let max = context.config.limits.fdajax_guests;
            return self.users.add_guest(&session, address, max).ok_or_else(|| {
                context.broker.stats.sessions_refused += 1;
                answers::refusal(503, "limits.fdajax_guests is reached").with("Retry-After", 10)
            });
        };
        let user = self.users.get(key);
        if user.id() != query.user_id {
            return Err(answers::refusal(403, "this session is not that user's"));
        }
        if fdajax.check_user_ip && user.address != address {
            return Err(tell(&format!("{}('ipaddr');", fdajax.js_relogin)));
        }
        Ok(key)
    }
}

/// Whether the application asks.
pub fn is_admin(context: &Context, from: ConnId, head: &Head, query: &Query) -> Result<(), Denied> {
    let config = context.config;
    let connection = context.connections.get(from.slot).ok_or(forbidden("nobody asks"))?;
    if config.admin_listen.is_some() && connection.door != Door::Admin {
        return Err(forbidden("admin commands are served on admin_listen"));
    }
    let client = forwarded_for(head, connection.peer, config)
        .ok_or(forbidden("a proxy asks that is not trusted"))?
        .to_canonical();
    if !config.fdajax.admin_ips.contains(&client) {
        return Err(forbidden("this address is not among fdajax.admin_ips"));
    }
    let bearer = head.field("authorization").and_then(token::bearer);
    match &config.fdajax.admin_password {
        Some(password) => {
            let shown = bearer.or(query.admin_passwd).unwrap_or_default();
            match bool::from(counts(shown).ct_eq(counts(password))) {
                true => Ok(()),
                false => Err(forbidden("the password is missing or wrong")),
            }
        }
        // Whoever asks for a token before anything is published does not mean that an address will do here.
        None if !config.publish.token.is_empty() => {
            match token::is_one_of(bearer.unwrap_or_default(), &config.publish.token) {
                true => Ok(()),
                false => Err(NO_TOKEN),
            }
        }
        // A browser on the machine of the application runs pages of anybody.
        None if is_of_page(head) => {
            Err(forbidden("a page asks, and there is no fdajax.admin_password it could know"))
        }
        // A page that had its own name point here does not say that it is one.
        None if client.is_loopback() && access::has_public_name(head) => {
            Err(forbidden("on the same machine, ask localhost or an address, or set fdajax.admin_password"))
        }
        None => Ok(()),
    }
}

const NO_TOKEN: Denied = Denied {
    status: 401,
    detail: "commands of the application need `Authorization: Bearer <token>` with a publish token of this server, \
             or set fdajax.admin_password",
};

const fn forbidden(detail: &'static str) -> Denied {
    Denied { status: 403, detail }
}

/// As much of a password as is compared.
fn counts(password: &str) -> &[u8] {
    &password.as_bytes()[..password.len().min(WORD_BYTES_MAX)]
}

/// Whether a page sends this, rather than a program or somebody who typed the address. Older browsers tell only
/// by `Referer`.
fn is_of_page(head: &Head) -> bool {
    ["origin", "referer"].iter().any(|name| head.fields(name).next().is_some())
        || head.field("sec-fetch-site").is_some_and(|site| site != "none")
}

/// Whether a browser says that a page of another site sends this. Hosts that differ in their slot are one
/// site.
fn is_foreign_page(head: &Head) -> bool {
    let host = head.authority().to_ascii_lowercase();
    let is_foreign = |origin: &str| {
        let origin = origin.to_ascii_lowercase();
        origin.split_once("://").is_none_or(|(_, from)| site(from) != site(&host))
    };
    let is_far = |site: &[u8]| site == b"cross-site";
    head.fields("sec-fetch-site").any(is_far) || cors::pages(head).any(is_foreign)
}

/// Whether the page is of an origin that is listed by name.
fn is_listed(head: &Head, origins: &[String]) -> bool {
    let is_it = |origin: &[u8]| {
        let mut listed = origins.iter().filter(|listed| *listed != "*");
        listed.any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin))
    };
    head.fields("origin").next().is_some() && head.fields("origin").all(is_it)
}

/// The session id in the cookie of that name (RFC 6265, section 4.2.1).
fn cookie(head: &Head, name: &str) -> Option<String> {
    let cookies = head.fields("cookie").filter_map(|value| std::str::from_utf8(value).ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    query::session(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head;

    fn with_head<R>(fields: &str, look: impl FnOnce(&Head) -> R) -> R {
        let bytes = format!("GET / HTTP/1.1\r\nHost: www1.example.com:80\r\n{fields}\r\n");
        let mut slots = head::slots();
        look(&head::parse(bytes.as_bytes(), &mut slots).unwrap())
    }

    #[test]
    fn cookies() {
        for (fields, session) in [
            ("Cookie: PHPSESSID=abc\r\n", Some("abc")),
            ("Cookie: a=b; PHPSESSID=abc; c=d\r\n", Some("abc")),
            ("Cookie: a=b\r\nCookie: PHPSESSID=abc\r\n", Some("abc")),
            ("Cookie: XPHPSESSID=no; PHPSESSID=abc\r\n", Some("abc")),
            ("Cookie: PHPSESSID=a-b%2Cc_d\r\n", Some("a-b,c_d")),
            ("Cookie: PHPSESSID=\"abc\"\r\n", Some("abc")),
            ("Cookie: PHPSESSID=abc.def==\r\n", Some("abc.def==")),
            ("Cookie: XPHPSESSID=abc\r\n", None),
            ("Cookie: PHPSESSID=\r\n", None),
            ("Cookie: PHPSESSID\r\n", None),
            ("Cookie: phpsessid=abc\r\n", None),
            ("Cookie: PHPSESSID=a b\r\n", None),
            ("", None),
        ] {
            assert_eq!(with_head(fields, |head| cookie(head, "PHPSESSID")).as_deref(), session, "{fields}");
        }
    }

    #[test]
    fn pages() {
        for (fields, of_page, foreign) in [
            ("", false, false),
            ("Sec-Fetch-Site: none\r\n", false, false),
            ("Sec-Fetch-Site: same-origin\r\n", true, false),
            ("Sec-Fetch-Site: same-site\r\n", true, false),
            ("Sec-Fetch-Site: cross-site\r\n", true, true),
            ("Origin: http://www.example.com:80\r\n", true, false),
            ("Origin: http://WWW1.Example.com:80\r\n", true, false),
            ("Origin: http://evil.example:80\r\n", true, true),
            ("Referer: http://www1.example.com:80/page\r\n", true, false),
            ("Referer: http://evil.example:80/www1.example.com:80/\r\n", true, true),
            ("Origin: http://www.example.com:80\r\nReferer: http://evil.example/\r\n", true, false),
            ("Origin: http://secure.evil.example:80\r\n", true, true),
            ("Origin: null\r\n", true, true),
            ("Origin:\r\n", true, true),
            ("Referer: http://www.example.com:80?/\r\n", true, false),
            ("Referer: http://www.example.com:80@evil.example/\r\n", true, true),
            ("Referer: http://evil.example@www1.example.com:80/\r\n", true, true),
            ("Referer: http://evil.example\\@www1.example.com:80/\r\n", true, true),
            ("Referer: //www1.example.com:80/\r\n", true, true),
            ("Referer: about:blank\r\n", true, true),
            ("Origin: http://www.example.com\r\n", true, true),
            ("Origin: http://www.example.com:8080\r\n", true, true),
            ("Origin: http://www.example.com.:80\r\n", true, true),
            ("Origin: http://notexample.com:80\r\n", true, true),
            ("Origin: http://www.notexample.com:80\r\n", true, true),
            ("Origin: http://www1.example.com.evil.example:80\r\n", true, true),
            ("Origin: http://evil.example:80\r\nOrigin: http://www.example.com:80\r\n", true, true),
            ("Origin: http://www.example.com:80\r\nOrigin: http://evil.example:80\r\n", true, true),
            ("Referer: http://evil.example/\r\nReferer: http://www.example.com:80/\r\n", true, true),
            ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Site: same-origin\r\n", true, true),
        ] {
            assert_eq!(with_head(fields, is_of_page), of_page, "{fields}");
            assert_eq!(with_head(fields, is_foreign_page), foreign, "{fields}");
        }
        let listed =
            |fields| with_head(fields, |head| is_listed(head, &["*".into(), "http://a.example".into()]));
        assert!(
            listed("Origin: http://a.example\r\n") && !listed("Origin: http://b.example\r\n") && !listed("")
        );
        assert!(!listed("Origin: http://b.example\r\nOrigin: http://a.example\r\n"));
        // Old browsers send bytes of a query as they are.
        let bytes = b"GET / HTTP/1.1\r\nHost: www.example.com\r\nReferer: http://evil.example/?\xe4\r\n\r\n";
        let mut slots = head::slots();
        assert!(is_foreign_page(&head::parse(bytes, &mut slots).unwrap()));
    }
}
