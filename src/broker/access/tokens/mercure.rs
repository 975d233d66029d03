//! Tokens of Mercure: keys for each role, and grants that are selectors of topics.
//!
//! The claims differ from ours, and so do the rules: no leeway, as a stream has to end when its token does, and `exp`
//! need not be there. A token of one role is nothing in the other. Those of draft 08 are access tokens (RFC 9068): they
//! name who issued them and whom they are for, and they end.

use super::claims::CLOCK_SECONDS;
use super::details::{self, Detail};
use super::json::Json;
use super::jws::Parts;
use super::keys::{self, Key};
use super::{Bad, Left, Revocation, Revocations, fingerprint};
use crate::broker::access::Grant;
use crate::carry::{Carry, Damaged, Parcel, Shape, Unpack, carry, resume};
use crate::config::{Config, KeyText, TokenKey};
use crate::hub::Selector;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Selectors in the claim of a token, in both lists together.
pub const SELECTORS_MAX: usize = 1000;
/// Bytes of one of them.
const SELECTOR_BYTES_MAX: usize = 4096;
/// The claim, and the one that replaces it when it is there.
const CLAIMS: [&str; 2] = ["https://mercure.rocks/", "mercure"];
/// What never ends.
const NEVER: u64 = u64::MAX;

/// What somebody shows a token for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// To publish.
    Publisher,
    /// To subscribe, and to look at subscriptions.
    Subscriber,
}

/// By which draft a request is understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Draft {
    /// Draft 07: topics and templates.
    #[default]
    Classic,
    /// Draft 08: what matches, and URL patterns.
    V1,
}

carry! {
    enum Draft { 0 => Classic, 1 => V1 }
}

/// What a token grants.
#[derive(Debug, Default)]
pub struct MercureGrant {
    /// What may be published on.
    pub publish: Vec<Selector>,
    /// Of which topics private updates may be seen.
    pub subscribe: Rc<[Selector]>,
    /// What is told of the subscriber, as JSON.
    payload: Option<Box<str>>,
    /// The same of draft 08, for some selectors each.
    details: Vec<Detail>,
    /// Milliseconds since 1970 from which it counts.
    begins_ms: u64,
    /// And from which it does not any more; [`u64::MAX`] = it always does.
    pub ends_ms: u64,
    /// What a revocation goes by.
    who: Grant,
}

impl Carry for MercureGrant {
    fn shape(shape: &mut Shape) {
        shape.add("MercureGrant");
        <(Vec<Selector>, Vec<Selector>, Option<Box<str>>)>::shape(shape);
        shape.field("details", |it: &Self| &it.details);
        shape.field("begins_ms", |it: &Self| &it.begins_ms);
        shape.field("ends_ms", |it: &Self| &it.ends_ms);
        shape.field("who", |it: &Self| &it.who);
    }

    fn pack(&self, parcel: &mut Parcel) {
        let Self { publish, subscribe, payload, details, begins_ms, ends_ms, who } = self;
        publish.pack(parcel);
        subscribe.to_vec().pack(parcel);
        payload.pack(parcel);
        details.pack(parcel);
        begins_ms.pack(parcel);
        ends_ms.pack(parcel);
        who.pack(parcel);
    }

    fn unpack(from: &mut Unpack) -> Result<Self, Damaged> {
        let publish = Carry::unpack(from)?;
        let subscribe: Vec<Selector> = Carry::unpack(from)?;
        let (payload, details) = Carry::unpack(from)?;
        let (begins_ms, ends_ms) = Carry::unpack(from)?;
        Ok(Self {
            publish,
            subscribe: subscribe.into(),
            payload,
            details,
            begins_ms,
            ends_ms,
            who: Carry::unpack(from)?,
        })
    }
}

impl MercureGrant {
    /// Whether publishing on that topic is granted.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish.iter().any(|selector| selector.matches(topic))
    }

    /// Whether listening to that topic is granted.
    pub fn may_subscribe(&self, topic: &str) -> bool {
        self.subscribe.iter().any(|selector| selector.matches(topic))
    }

    /// What is told of who subscribes to that, as JSON.
    pub fn payload(&self, selector: &str) -> Option<&str> {
        let detail = self.details.iter().find(|detail| detail.matches(selector));
        detail.map_or(self.payload.as_deref(), |detail| detail.payload.as_deref())
    }

    /// Whether a revocation concerns it. Those for some channels only do not.
    pub fn is_concerned(&self, revocation: &Revocation) -> bool {
        revocation.channels.is_empty() && revocation.concerns(&self.who)
    }

    fn in_time(&self, now_ms: u64) -> Result<(), Bad> {
        match () {
            () if now_ms < self.begins_ms => Err(Bad("the token is not valid yet")),
            () if now_ms >= self.ends_ms => Err(Bad::EXPIRED),
            () => Ok(()),
        }
    }
}

/// Tokens that were verified, by role, draft and whole token.
type Verified = BTreeMap<(Role, Draft, Box<str>), Rc<MercureGrant>>;

/// The keys of both roles, and the tokens that were verified by them lately.
#[derive(Debug, Default)]
pub struct MercureTokens {
    keys: BTreeMap<Role, Vec<Key>>,
    younger: Verified,
    older: Verified,
    max: usize,
    /// Of draft 08: who must have issued a token, and the URL of the hub, which it must be for.
    issuer: String,
    audience: Rc<str>,
    revoked: Revocations,
}

resume! {
    MercureTokens {
        carried: ;
        resumed: revoked;
        // Whoever comes with a token has it verified anew.
        given: keys, younger, older, max, issuer, audience
    }
}

impl MercureTokens {
    /// What tells whether the keys are the same, and what else tokens are judged by.
    pub fn judges_by(&self) -> (Vec<(Role, u64)>, &str, &str) {
        let keys = self.keys.iter().flat_map(|(role, keys)| keys.iter().map(|key| (*role, key.mark)));
        (keys.collect(), &self.issuer, &self.audience)
    }

    /// The URL of the hub, which what is relative is below; empty if draft 08 is not spoken.
    pub const fn base(&self) -> &Rc<str> {
        &self.audience
    }

    /// The keys of the settings; or what is wrong with them, and in which setting.
    pub fn new(config: &Config) -> Result<Self, (&'static str, String)> {
        let mercure = &config.mercure;
        let roles = [
            (Role::Publisher, "mercure.publisher_key", &mercure.publisher_key, mercure.publisher_alg),
            (Role::Subscriber, "mercure.subscriber_key", &mercure.subscriber_key, mercure.subscriber_alg),
        ];
        let mut keys = BTreeMap::new();
        for (role, name, text, algorithm) in roles {
            let Some(text) = text else { continue };
            let text = KeyText(text.clone().into_bytes());
            let row = TokenKey { algorithm: Some(algorithm), text, ..TokenKey::default() };
            let read = keys::read(&row).map_err(|wrong| (name, wrong))?;
            keys.insert(role, read);
        }
        let speaks_v1 = mercure.protocol.speaks_v1();
        let needed = |name, value: &Option<String>| match value {
            None if speaks_v1 && !keys.is_empty() => {
                Err((name, "mercure.protocol = \"v1\" and \"both\" need it".to_owned()))
            }
            _ => Ok(value.clone().unwrap_or_default()),
        };
        let issuer = needed("mercure.issuer", &mercure.issuer)?;
        let audience: Rc<str> = needed("mercure.audience", &mercure.audience)?.into();
        if !audience.is_empty() && Selector::url_pattern("/:x", &audience).is_none() {
            return Err(("mercure.audience", "it is no URL that anything can be relative to".into()));
        }
        let max = config.limits.tokens_remembered.div_ceil(2);
        let revoked = Revocations::new(config.limits.revocations);
        Ok(Self { keys, max, issuer, audience, revoked, ..Self::default() })
    }

    /// Whether there is a key: then there is a hub.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether `token` was verified and is remembered.
    pub fn knows(&self, role: Role, draft: Draft, token: &str) -> bool {
        let key = (role, draft, Box::from(token));
        self.younger.contains_key(&key) || self.older.contains_key(&key)
    }

    /// What `token` grants in that role at `now_ms`, in milliseconds since 1970.
    pub fn check(
        &mut self,
        role: Role,
        draft: Draft,
        token: &str,
        now_ms: u64,
    ) -> Result<Rc<MercureGrant>, Bad> {
        let key = (role, draft, Box::from(token));
        if let Some(grant) = self.younger.get(&key) {
            return grant.in_time(now_ms).map(|()| Rc::clone(grant));
        }
        let grant = match self.older.remove(&key) {
            Some(grant) => grant,
            None => Rc::new(self.verify(role, draft, token)?),
        };
        grant.in_time(now_ms)?;
        if self.younger.len() >= self.max {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, Rc::clone(&grant));
        Ok(grant)
    }

    /// Takes a right back.
    pub fn revoke(&mut self, revocation: Revocation, unix: u64) {
        (self.younger, self.older) = Default::default();
        self.revoked.add(revocation, unix);
    }

    fn verify(&self, role: Role, draft: Draft, token: &str) -> Result<MercureGrant, Bad> {
        let parts = Parts::read(token)?;
        let keys = self.keys.get(&role).map(Vec::as_slice).unwrap_or_default();
        let verifies =
            |key: &&Key| key.algorithm == parts.algorithm && key.verifies(parts.signed, &parts.signature);
        keys.iter().find(verifies).ok_or(Bad("the token's signature is not good"))?;
        let claims = Json::object(&parts.payload).ok_or(Bad("the token's claims are not a JSON object"))?;
        let mut grant = match draft {
            Draft::Classic => rights(&claims, &parts.payload)?,
            Draft::V1 => {
                self.check_access_token(&parts, &claims)?;
                let (publish, subscribe, details) = details::read(&claims, &parts.payload, &self.audience)?;
                MercureGrant { publish, subscribe: subscribe.into(), details, ..MercureGrant::default() }
            }
        };
        let text = |name: &str| claims.get(name).and_then(Json::as_text).map(Box::from);
        grant.who.subject = text("sub");
        grant.who.id = text("jti").or_else(|| Some(fingerprint(parts.signed)));
        grant.who.issued = match claims.get("iat") {
            Some(Json::Number(number)) => Some(number.max(0.0) as u64),
            _ => None,
        };
        let moment = |name: &str, wrong: Bad| match claims.get(name) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(Some((number.max(0.0) * 1000.0) as u64)),
            Some(_) => Err(wrong),
        };
        let begins_ms = moment("nbf", Bad("the token's nbf is not a number"))?.unwrap_or(0);
        grant.begins_ms = begins_ms.saturating_sub(CLOCK_SECONDS * 1000);
        grant.ends_ms = moment("exp", Bad("the token's exp is not a number"))?.unwrap_or(NEVER);
        match self.revoked.left(&grant.who) {
            Left::Nothing => Err(Bad::REVOKED),
            // Channels are no topics that could be told apart: whoever lost some, keeps the rest.
            Left::All | Left::Except(_) => Ok(grant),
        }
    }
}

impl MercureTokens {
    /// Whether an access token is one of ours, and for us.
    fn check_access_token(&self, parts: &Parts, claims: &BTreeMap<String, Json>) -> Result<(), Bad> {
        let is_ours = |text: Option<&str>| text == Some(&self.audience);
        let is_for_us = match claims.get("aud") {
            Some(Json::Array(all)) => all.iter().any(|one| is_ours(one.as_text())),
            one => is_ours(one.and_then(Json::as_text)),
        };
        match () {
            () if !parts.is_access_token => Err(Bad("the token's type is not at+jwt")),
            () if claims.get("iss").and_then(Json::as_text) != Some(&self.issuer) => {
                Err(Bad("the token is of another issuer"))
            }
            () if !is_for_us => Err(Bad("the token is for another audience")),
            () if !claims.contains_key("exp") => Err(Bad("the token has no exp")),
            () => Ok(()),
        }
    }
}

/// What the claim grants.
fn rights(claims: &BTreeMap<String, Json>, payload: &[u8]) -> Result<MercureGrant, Bad> {
    const NO_OBJECT: Bad = Bad("the token's claim mercure is not an object");
    let Some(name) = CLAIMS.into_iter().find(|name| claims.contains_key(*name)) else {
        return Ok(MercureGrant::default());
    };
    let Some(Json::Object(members)) = claims.get(name) else { return Err(NO_OBJECT) };
    // Read anew, as text that is passed on as it came.
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(payload).map_err(|_| NO_OBJECT)?;
    let raw: BTreeMap<String, &RawValue> =
        raw.get(name).and_then(|value| serde_json::from_str(value.get()).ok()).ok_or(NO_OBJECT)?;
    let is_null = |name: &str| raw.get(name).is_none_or(|value| value.get() == "null");
    let list = |name: &str| if is_null(name) { Ok(Vec::new()) } else { selectors(members.get(name)) };
    let (publish, subscribe) = (list("publish")?, list("subscribe")?);
    if publish.len() + subscribe.len() > SELECTORS_MAX {
        return Err(Bad("the token grants more than 1000 selectors"));
    }
    let payload = raw.get("payload").filter(|_| !is_null("payload")).map(|value| value.get().into());
    Ok(MercureGrant { publish, subscribe: subscribe.into(), payload, ..MercureGrant::default() })
}

fn selectors(list: Option<&Json>) -> Result<Vec<Selector>, Bad> {
    const BAD: Bad = Bad("the token's grants are not lists of selectors");
    let Some(Json::Array(items)) = list else { return Err(BAD) };
    let read = |item: &Json| {
        let text = item.as_text().filter(|text| text.len() <= SELECTOR_BYTES_MAX).ok_or(BAD)?;
        Ok(Selector::templated(text))
    };
    items.iter().map(read).collect()
}
