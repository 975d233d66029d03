//! Who asks: the token of a request. The first place that has one decides, and a bad token is never nobody's.

use super::{Judge, Refused};
use crate::broker::access::{Bad, Draft, MercureGrant, Role, claims_to_be_access_token};
use crate::config::{Config, Protocol};
use crate::dialect::token::bearer;
use crate::dialect::{Denial, cors};
use crate::wire::head::{Head, Method};
use crate::wire::query;
use std::borrow::Cow;
use std::rc::Rc;

/// The parameter of a query that carries a token.
const PARAMETER: &str = "authorization";
/// The cookie that does, if the settings name no other.
const COOKIE: &str = "mercureAuthorization";
/// The same of draft 08.
const COOKIE_V1: &str = "__Secure-mercure_access_token";

/// The name of the cookie that carries a token.
pub fn cookie_name(draft: Draft, config: &Config) -> &str {
    let usual = match draft {
        Draft::Classic => COOKIE,
        Draft::V1 => COOKIE_V1,
    };
    config.mercure.cookie_name.as_deref().unwrap_or(usual)
}

/// By which draft a request is meant whose token says it.
pub fn draft(head: &Head, config: &Config) -> Draft {
    match config.mercure.protocol {
        Protocol::Classic => Draft::Classic,
        Protocol::V1 => Draft::V1,
        Protocol::Both => {
            let field = head.field("authorization").and_then(|field| bearer(field.trim()));
            let cookie =
                || [Draft::V1, Draft::Classic].into_iter().find_map(|draft| cookie(head, draft, config));
            match field.or_else(cookie).is_some_and(claims_to_be_access_token) {
                true => Draft::V1,
                false => Draft::Classic,
            }
        }
    }
}

/// What a publisher may do.
pub fn publisher(head: &Head, draft: Draft, judge: &mut Judge<'_>) -> Result<Rc<MercureGrant>, Refused> {
    let token = shown(head, draft, judge)?;
    let token = token.ok_or_else(|| Denial::NoToken("publishing".into()))?;
    Ok(check(judge, (Role::Publisher, draft), &token)?)
}

/// What a subscriber may see; none without a token.
pub fn subscriber(
    head: &Head,
    draft: Draft,
    judge: &mut Judge<'_>,
) -> Result<Option<Rc<MercureGrant>>, Refused> {
    match shown(head, draft, judge)? {
        Some(token) => Ok(Some(check(judge, (Role::Subscriber, draft), &token)?)),
        None => Ok(None),
    }
}

fn check(judge: &mut Judge<'_>, role: (Role, Draft), token: &str) -> Result<Rc<MercureGrant>, Denial> {
    let Judge { config, access, stats, client, now } = judge;
    access.check_mercure(role, token, *client, config, *now, stats)
}

/// The token that a request shows.
fn shown<'b>(head: &Head<'b>, draft: Draft, judge: &Judge<'_>) -> Result<Option<Cow<'b, str>>, Refused> {
    let mut fields = head.fields("authorization");
    if let Some(field) = fields.next() {
        const MALFORMED: &str = "Authorization is not one bearer token";
        let malformed = || match draft {
            Draft::Classic => Denial::BadToken(Bad(MALFORMED)),
            Draft::V1 => Denial::Contradiction(MALFORMED),
        };
        let field = std::str::from_utf8(field).unwrap_or_default();
        let token = bearer(field.trim()).filter(|token| !token.is_empty() && fields.next().is_none());
        return token.map(|token| Some(token.into())).ok_or_else(|| malformed().into());
    }
    if draft == Draft::Classic
        && let Some(parameter) = query::pairs(head.query).flatten().find(|(name, _)| *name == *PARAMETER)
    {
        return Ok(Some(parameter.1));
    }
    let Some(token) = cookie(head, draft, judge.config) else { return Ok(None) };
    match head.method == Method::Post && !is_of_our_page(head, judge) {
        true if draft == Draft::V1 => Err(Denial::Contradiction(
            "a cookie counts for pages of this server and of mercure.publish_origins only",
        )
        .into()),
        true => Err(Denial::NoToken(
            "a cookie counts for pages of this server and of mercure.publish_origins only: publishing".into(),
        )
        .into()),
        false => Ok(Some(token.into())),
    }
}

fn cookie<'b>(head: &Head<'b>, draft: Draft, config: &Config) -> Option<&'b str> {
    let name = cookie_name(draft, config);
    let fields = head.fields("cookie").filter_map(|field| std::str::from_utf8(field).ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'))
}

/// Whether a browser says that a page sends this which may publish by the cookie.
fn is_of_our_page(head: &Head, judge: &Judge<'_>) -> bool {
    let mut origins = head.fields("origin");
    let origin = match (origins.next(), origins.next()) {
        (Some(origin), None) => std::str::from_utf8(origin).ok(),
        (None, _) => head.field("referer").map(cors::origin_of),
        (Some(_), Some(_)) => None,
    };
    origin.is_some_and(|origin| {
        let own = origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(head.authority()));
        let listed = &judge.config.mercure.publish_origins;
        own || listed.iter().any(|listed| *listed != "*" && listed.eq_ignore_ascii_case(origin))
    })
}
