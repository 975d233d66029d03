//! Who asks, as the judge must know it: what a request shows of tokens, and how somebody is refused.
//!
//! A token comes as `Authorization: Bearer`, as `access_token=` in the query, or, where neither is there, in a cookie.
//! A cookie is sent by browsers for whatever page asks, so it counts only if the page is one of ours. Identity belongs
//! to the request: a proxy sends those of many people by one connection.

use super::access::may_publish;
use super::denial::{Denial, Heard};
use super::hook::Hook;
use super::token::{bearer, bearer_bytes, has_token, is_one_of, query_tokens};
use super::{Unheard, cors, upgrade};
use crate::broker::access::{
    Action, Bad, Bearer, Draft, Grant, MercureGrant, MercureTokens, Question, Role, Rules, Tokens, Verdict,
    Word,
};
use crate::broker::{Client, Rate};
use crate::carry::{carry, resume};
use crate::config::{Config, Who};
use crate::conn::ConnId;
use crate::id::Seed;
use crate::stats::Stats;
use crate::time::Now;
use crate::wire::head::{Head, Method};
use std::borrow::Cow;
use std::hash::Hash;
use std::net::IpAddr;
use std::rc::Rc;

/// Never.
pub const NEVER: u64 = u64::MAX;

/// What is judged by, and what was found out lately.
#[derive(Debug)]
pub struct Access {
    /// The rules of channels.
    pub rules: Rules,
    /// The keys of tokens.
    pub tokens: Tokens,
    /// The keys of Mercure.
    pub mercure: MercureTokens,
    /// What the application is asked, and has said.
    pub hook: Hook,
    /// There is a rule or a key: what a request shows matters.
    is_on: bool,
    /// Bad tokens of each address.
    refused: Rate,
    /// The second in which the first grant ends of those by which somebody listens; an earlier one at worst.
    next_end: u64,
}

resume! {
    Access {
        carried: next_end;
        resumed: tokens, mercure, refused, hook;
        given: rules, is_on
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Whoever shows a publish token.
    pub publisher: bool,
    /// A loopback peer, while there is no publish token.
    pub local: bool,
    /// What was granted to them.
    pub grant: Option<Rc<Grant>>,
    /// What the application has said about what they ask for.
    pub said: Vec<Rc<Word>>,
    /// A token is in the query, which is not to be taken for a part of what is asked for.
    pub in_query: bool,
}

carry! {
    struct Identity { publisher, local, grant, said, in_query }
}

impl Identity {
    /// Who it is, if a token or the application says so.
    pub fn subject(&self) -> Option<&str> {
        let said = || self.said.first().map(|word| &*word.grant);
        self.grant.as_deref().or_else(said)?.subject.as_deref()
    }

    /// As the judge takes it.
    pub fn bearer(&self) -> Bearer<'_> {
        let Self { publisher, local, .. } = *self;
        Bearer { publisher, local, grant: self.grant.as_deref(), held: None, said: &self.said }
    }
}

impl Access {
    /// All that it judges by, as values that are the same if that is.
    pub fn judges_by(&self) -> impl Hash {
        (format!("{:?}", self.rules), self.tokens.judges_by(), self.mercure.judges_by())
    }

    /// That of the settings, which were checked before: keys that cannot be read verify nothing.
    pub fn new(config: &Config, seed: Seed) -> Self {
        Self {
            rules: Rules::new(config),
            tokens: tokens_of(config, seed),
            mercure: MercureTokens::new(config).unwrap_or_default(),
            hook: Hook::new(config, seed),
            is_on: is_on(config),
            refused: Rate::new(seed.key("bad tokens by address")),
            next_end: NEVER,
        }
    }

    /// Takes other settings, which were checked before.
    pub fn reconfigure(&mut self, config: &Config) {
        self.rules = Rules::new(config);
        self.tokens.reconfigure(config);
        self.hook.reconfigure(config);
        self.is_on = is_on(config);
    }

    /// Whether a grant still counts: its key is there, it has not ended.
    pub fn stands(&self, grant: &Grant, unix: u64) -> bool {
        grant.is_valid(unix) && self.tokens.has_key(grant.key)
    }

    /// Whether what a request shows matters.
    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    /// The second in which a grant may end by which somebody listens; who looks for them begins anew.
    pub const fn next_end(&self) -> u64 {
        self.next_end
    }

    /// Begins to look for grants that have ended.
    pub fn begin_sweep(&mut self) {
        self.next_end = NEVER;
    }

    /// Notes that somebody listens by `grant`.
    pub fn note(&mut self, grant: &Grant) {
        self.next_end = self.next_end.min(grant.ends);
    }

    /// Who sent `head`. Where neither rules nor tokens are used, nobody in particular.
    pub fn identify(
        &mut self,
        head: &Head,
        peer: IpAddr,
        config: &Config,
        now: Now,
        stats: &mut Stats,
    ) -> Result<Identity, Denial> {
        let local = self.is_local(head, peer, config);
        if !self.is_on || head.method == Method::Options {
            return Ok(Identity { local, ..Identity::default() });
        }
        let local = local && config.publish.token.is_empty();
        if let Some(grant) = self.remembered(head, now) {
            return Ok(Identity { local, grant: Some(grant), ..Identity::default() });
        }
        let Some((token, is_cookie)) = shown(head, config)? else {
            return Ok(Identity { local, ..Identity::default() });
        };
        let in_query = has_token(head.query);
        if !is_cookie && is_one_of(&token, &config.publish.token) {
            return Ok(Identity { publisher: true, in_query, ..Identity::default() });
        }
        // Where we have no keys, it is for the application; to the demo alone it means nothing, but for those of guests.
        let is_of_guest = self.tokens.is_of_guest(&token);
        if is_of_guest && is_cookie {
            return Err(Denial::BadToken(Bad("the token of a guest is in a cookie")));
        }
        let is_for_application = self.rules.asks() && config.token_keys.is_empty() && !in_query;
        let is_for_nobody = config.channels.is_empty() && config.token_keys.is_empty();
        if !is_of_guest && (is_for_application || is_for_nobody) {
            return Ok(Identity { local, in_query, ..Identity::default() });
        }
        let grant = self.check(&token, Client::of(head, peer, config), config, now, stats)?;
        Ok(Identity { local, grant: Some(grant), in_query, ..Identity::default() })
    }

    /// Whether being on the same machine is a right of who sent `head`. For listening, it counts for FDAjax's own channels
    /// alone, so it is not found out for others.
    fn is_local(&self, head: &Head, peer: IpAddr, config: &Config) -> bool {
        let is_looked_at = config.fdajax.enabled || !matches!(head.method, Method::Get | Method::Head);
        is_looked_at && !self.rules.is_open() && may_publish(head, peer, config).is_ok()
    }

    /// What was granted by a token that `head` shows as most do, and that was good before: no key of ours is a publish token,
    /// and what is remembered is forgotten with the keys. Whoever polls every second comes by here.
    fn remembered(&mut self, head: &Head, now: Now) -> Option<Rc<Grant>> {
        let mut fields = head.fields("authorization");
        let token = fields.next().and_then(bearer_bytes)?;
        if fields.next().is_some() || has_token(head.query) {
            return None;
        }
        self.tokens.remembered(token, now.unix)
    }

    /// What `token` grants, which `client` shows. Forgeries cost a verification each, so an address may
    /// show only so many.
    pub fn check(
        &mut self,
        token: &str,
        client: Client,
        config: &Config,
        now: Now,
        stats: &mut Stats,
    ) -> Result<Rc<Grant>, Denial> {
        let is_known = self.tokens.knows(token);
        self.check_counted(is_known, client, config, now, stats, |access| {
            access.tokens.check(token, now.unix)
        })
    }

    /// What `token` grants to who speaks Mercure in that role, by that draft.
    pub fn check_mercure(
        &mut self,
        (role, draft): (Role, Draft),
        token: &str,
        client: Client,
        config: &Config,
        now: Now,
        stats: &mut Stats,
    ) -> Result<Rc<MercureGrant>, Denial> {
        let is_known = self.mercure.knows(role, draft, token);
        let unix_ms = now.unix * 1000 + u64::from(now.unix_ms);
        let check = |access: &mut Self| access.mercure.check(role, draft, token, unix_ms);
        self.check_counted(is_known, client, config, now, stats, check)
    }

    /// Has a token checked, unless too many that were bad have come from that client.
    fn check_counted<G>(
        &mut self,
        is_known: bool,
        client: Client,
        config: &Config,
        now: Now,
        stats: &mut Stats,
        check: impl FnOnce(&mut Self) -> Result<Rc<G>, Bad>,
    ) -> Result<Rc<G>, Denial> {
        let counts = !is_known && client.counted;
        if counts && self.refused.so_far(now.at, client.address) >= config.limits.tokens_refused_per_second {
            stats.tokens_refused += 1;
            return Err(Denial::TooManyBad);
        }
        match check(self) {
            Ok(grant) => {
                stats.tokens_verified += u64::from(!is_known);
                Ok(grant)
            }
            Err(bad) => {
                stats.tokens_refused += 1;
                if counts {
                    self.refused.count(now.at, client.address);
                }
                Err(Denial::BadToken(bad))
            }
        }
    }

    /// What the application says to `question`, which whoever is on the connection `from` has. If it has to be asked,
    /// `bytes` bytes wait.
    pub fn hear(
        &mut self,
        now: Now,
        from: (ConnId, Client),
        question: Question,
        bytes: usize,
        stats: &mut Stats,
    ) -> Heard {
        match self.hook.known(now.at, from.0, &question, stats) {
            Some(Some(word)) => Heard::Word(word),
            Some(None) => Heard::Denied(Denial::Unanswered),
            None => match self.hook.ask(now, from, question, bytes) {
                Ok(()) => Heard::Waits,
                Err(denial) => {
                    stats.questions_refused += 1;
                    Heard::Denied(denial)
                }
            },
        }
    }

    /// Whether `who` may subscribe to all of `items`, names and patterns; else the first that is refused.
    pub fn judge_subscribe<'i>(
        &self,
        who: Bearer<'_>,
        items: impl Iterator<Item = &'i str>,
    ) -> Result<(), Denial> {
        if self.rules.is_open() {
            return Ok(());
        }
        let mut unheard = Vec::new();
        for item in items {
            let what = || format!("listening to {item:?}");
            match self.rules.subscribe(who, item) {
                Verdict::Allowed | Verdict::Unsaid => {}
                Verdict::Unidentified => return Err(Denial::NoToken(what())),
                Verdict::Forbidden => return Err(Denial::Forbidden(what())),
                Verdict::Refused => {
                    let about = self.rules.told_of(item).unwrap_or(item);
                    return Err(refused(who, Action::Subscribe, about, what()));
                }
                // Who may listen to a channel may know who is there.
                Verdict::Unheard => unheard.push(self.rules.told_of(item).unwrap_or(item).into()),
            }
        }
        match unheard.is_empty() {
            true => Ok(()),
            false => Err(unheard_of(Action::Subscribe, unheard)),
        }
    }

    /// Whether `who` may publish to the channel `name` by a rule; `None` if no rule says so.
    pub fn judge_publish(&self, who: Bearer<'_>, name: &str) -> Option<Result<(), Denial>> {
        let what = || format!("publishing to {name:?}");
        match self.rules.publish(who, name) {
            Verdict::Allowed => Some(Ok(())),
            Verdict::Unsaid => None,
            Verdict::Unidentified => Some(Err(Denial::NoToken(what()))),
            Verdict::Forbidden => Some(Err(Denial::Forbidden(what()))),
            Verdict::Refused => Some(Err(refused(who, Action::Publish, name, what()))),
            Verdict::Unheard => Some(Err(unheard_of(Action::Publish, vec![name.into()]))),
        }
    }

    /// Whether a rule lets others publish to that channel than who may without rules.
    pub fn is_public(&self, name: &str) -> bool {
        self.rules.publishers(name).is_some_and(|who| who != Who::Publishers)
    }
}

/// The keys of the settings, and the guests of a demo.
fn tokens_of(config: &Config, seed: Seed) -> Tokens {
    let mut tokens = Tokens::new(config).unwrap_or_default();
    if config.demo {
        tokens.admit_guests(seed);
    }
    tokens
}

/// Whether what a request shows matters.
const fn is_on(config: &Config) -> bool {
    config.demo || !config.channels.is_empty() || !config.token_keys.is_empty()
}

/// That the application has to be asked.
fn unheard_of(action: Action, channels: Vec<Box<str>>) -> Denial {
    Denial::Unheard(Box::new(Unheard { action, channels }))
}

/// That the application says no to `item`.
#[cold]
fn refused(who: Bearer<'_>, action: Action, item: &str, what: String) -> Denial {
    let word = who.said.iter().find(|word| word.allows(action, item).is_some());
    let (status, reason) = word.map_or((403, None), |word| (word.status, word.reason.clone()));
    Denial::Refused { status, what, reason }
}

/// Whether the application may be asked for who sent `head`. Browsers send cookies, and passwords of `Basic`, for
/// whatever page asks, so with such, or where a browser says that another page asks, it must be one of ours.
pub fn may_ask(head: &Head, config: &Config) -> bool {
    let is_token = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|value| bearer(value).is_some());
    let has_given = head.fields("cookie").next().is_some()
        || head.fields("authorization").any(|value| !is_token(value))
        || ["origin", "sec-fetch-site", "referer"].iter().any(|name| head.fields(name).next().is_some());
    !has_given || is_of_our_page(head, config)
}

/// The token that a request shows, and whether a cookie does.
fn shown<'b>(head: &Head<'b>, config: &Config) -> Result<Option<(Cow<'b, str>, bool)>, Denial> {
    const TWICE: Denial = Denial::Contradiction("the request shows more than one token");
    let mut fields = head.fields("authorization");
    let field = fields.next().map(|value| std::str::from_utf8(value).unwrap_or_default());
    if fields.next().is_some() {
        return Err(TWICE);
    }
    let header = field.and_then(|value| match value.trim().eq_ignore_ascii_case("bearer") {
        true => Some(""),
        false => bearer(value),
    });
    let mut parameters = query_tokens(head.query);
    let parameter = parameters.next();
    if parameters.next().is_some() {
        return Err(TWICE);
    }
    match (header, parameter) {
        (Some(header), Some(parameter)) if header != parameter => Err(TWICE),
        (Some(header), _) => Ok(Some((Cow::Borrowed(header), false))),
        (None, Some(parameter)) => Ok(Some((parameter, false))),
        (None, None) => Ok(cookie(head, config)?.map(|token| (Cow::Borrowed(token), true))),
    }
}

/// The token in the cookie, if it counts.
fn cookie<'b>(head: &Head<'b>, config: &Config) -> Result<Option<&'b str>, Denial> {
    let Some(name) = config.tokens.cookie.as_deref() else { return Ok(None) };
    let fields = head.fields("cookie").filter_map(|field| std::str::from_utf8(field).ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'));
    let Some(first) = values.next().filter(|_| is_of_our_page(head, config)) else { return Ok(None) };
    match values.all(|other| other == first) {
        true => Ok(Some(first)),
        false => Err(Denial::BadToken(Bad("two cookies carry different tokens"))),
    }
}

/// Whether a browser says that a page of ours sends this, or one of an origin that is listed by its name: for others, a
/// cookie is as if it were not there. Who publishes, or opens a WebSocket, must say so by `Origin`.
fn is_of_our_page(head: &Head, config: &Config) -> bool {
    let acts = matches!(head.method, Method::Post | Method::Put | Method::Patch | Method::Delete)
        || upgrade::is_asked(head);
    let host = head.authority();
    let is_ours = |origin: &str| {
        let is_own = origin.split_once("://").is_some_and(|(_, own)| own.eq_ignore_ascii_case(host));
        is_own || config.cors.origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    };
    let mut origins = head.fields("origin");
    if origins.next().is_some() {
        return origins.next().is_none() && head.field("origin").is_some_and(is_ours);
    }
    match head.field("sec-fetch-site") {
        _ if acts => false,
        Some(site) => matches!(site, "same-origin" | "none"),
        None => head.field("referer").is_some_and(|referer| is_ours(cors::origin_of(referer))),
    }
}
