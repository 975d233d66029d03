//! Guests of the demo's chat: whoever keeps a secret is the same guest for as long as the server's own secret stays, and
//! nothing of it is remembered here.
//!
//! A guest's id is a hash of the secret, so nobody can take that of another; a token says which id it is, what name goes with
//! it, and until when. It is no JWT: its first part is no base64url of a JSON object, so no key of an application verifies
//! it, and what verifies it verifies no JWT. There is no header to choose anything by.

use super::json::Json;
use super::{Bad, TOKEN_BYTES_MAX, fingerprint};
use crate::broker::access::Grant;
use crate::id::Seed;
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

/// What tokens of guests begin with, and of nobody else.
const PREFIX: &str = "encke-guest.";
/// Seconds that such a token lasts: pages ask for another in time.
pub const GUEST_SECONDS: u64 = 15 * 60;
/// Bytes of a guest's secret.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=255;
/// Characters of the name that a guest goes by.
pub const GUEST_NAME_MAX: usize = 40;
/// Bytes of the hash that is a guest's id.
const ID_BYTES: usize = 16;

/// Who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// What nobody else knows.
    secret: Box<str>,
    /// The name to go by.
    name: Box<str>,
}

impl Guest {
    /// That one; or what is wrong.
    pub fn new(secret: &str, name: &str) -> Result<Self, &'static str> {
        let name = name.trim();
        if !SECRET_BYTES.contains(&secret.len()) {
            return Err("a guest's secret is text of 16 to 255 bytes, drawn by chance");
        }
        if name.is_empty() || name.chars().count() > GUEST_NAME_MAX || name.chars().any(char::is_control) {
            return Err("a guest's name has 1 to 40 characters, and no control characters");
        }
        Ok(Self { secret: secret.into(), name: name.into() })
    }
}

/// What makes their ids and their tokens.
#[derive(Debug)]
pub struct Guests {
    ids: hmac::Key,
    tokens: hmac::Key,
    mark: u64,
}

/// A token and whose it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The token.
    pub token: String,
    /// Who that is to others.
    pub id: String,
}

/// Whether that can be a guest's token and nothing else.
pub fn is_of_guest(token: &str) -> bool {
    token.starts_with(PREFIX)
}

impl Guests {
    /// Those of a server, or of all with the same seed. Ids and tokens have keys of their own, so that no secret makes an
    /// id that is a signature.
    pub fn new(seed: Seed) -> Self {
        let key = |purpose: &str| {
            let key = seed.key(purpose);
            let bytes: Vec<u8> = (0..2_u8).flat_map(|half| key.digest(half).to_be_bytes()).collect();
            hmac::Key::new(hmac::HMAC_SHA256, &bytes)
        };
        Self {
            ids: key("ids of the demo's guests"),
            tokens: key("tokens of the demo's guests"),
            mark: seed.key("mark of the demo's guests").hash(()),
        }
    }

    /// What stands in grants for these keys.
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// A token for `guest`, made in the second `unix`.
    pub fn welcome(&self, guest: &Guest, unix: u64) -> Welcome {
        let id = hmac::sign(&self.ids, guest.secret.as_bytes());
        let id = BASE64URL_NOPAD.encode(&id.as_ref()[..ID_BYTES]);
        let expires = unix + GUEST_SECONDS;
        let claims = serde_json::json!({ "sub": id, "iat": unix, "exp": expires, "name": guest.name });
        let mut token = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
        let signature = BASE64URL_NOPAD.encode(hmac::sign(&self.tokens, token.as_bytes()).as_ref());
        token.push('.');
        token.push_str(&signature);
        Welcome { token, id }
    }

    /// What a guest's token is: to be one, in the demo's chat. Servers that share a history may differ by `leeway` seconds.
    pub fn read(&self, token: &str, leeway: u64) -> Result<Grant, Bad> {
        const BAD: Bad = Bad("the token is not of a guest of this server");
        let signed = self.verify(token).ok_or(BAD)?;
        let claims = BASE64URL_NOPAD.decode(&signed[PREFIX.len()..]).map_err(|_| BAD)?;
        let claims = Json::object(&claims).ok_or(BAD)?;
        let text = |name: &str| claims.get(name).and_then(Json::as_text).ok_or(BAD);
        let second = |name: &str| match claims.get(name) {
            Some(Json::Number(number)) => Ok(*number as u64),
            _ => Err(BAD),
        };
        let info = serde_json::json!({ "name": text("name")? });
        Ok(Grant {
            subject: Some(text("sub")?.into()),
            id: Some(fingerprint(signed)),
            issued: Some(second("iat")?),
            ends: second("exp")?.saturating_add(leeway),
            key: self.mark,
            info: Some(info.to_string().into()),
            is_guest: true,
            ..Grant::default()
        })
    }

    /// What goes by the token's number, if it is one of ours, expired or not.
    pub fn number(&self, token: &str) -> Option<Box<str>> {
        self.verify(token).map(fingerprint)
    }

    /// What is signed, if the signature is ours.
    fn verify<'t>(&self, token: &'t str) -> Option<&'t [u8]> {
        let (signed, signature) = token.rsplit_once('.').filter(|_| token.len() <= TOKEN_BYTES_MAX)?;
        let is_whole = signed.len() > PREFIX.len() && is_of_guest(signed);
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok().filter(|_| is_whole)?;
        hmac::verify(&self.tokens, signed.as_bytes(), &signature).ok().map(|()| signed.as_bytes())
    }
}
