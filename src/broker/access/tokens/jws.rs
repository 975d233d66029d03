//! A signed token taken apart (RFC 7515, compact serialization).
//!
//! Nothing in a header is ever followed: `jwk`, `jku` and `x5…` would let a token bring its own key. What could change
//! what is signed, or what must be understood (`crit`, `b64`, `zip`, `cty`), is refused.

use super::json::Json;
use super::{Bad, TOKEN_BYTES_MAX};
use crate::config::Algorithm;
use data_encoding::BASE64URL_NOPAD;

/// A token, not verified yet.
pub struct Parts<'a> {
    /// What is signed.
    pub signed: &'a [u8],
    /// How, as the token says.
    pub algorithm: Algorithm,
    /// The id of the key.
    pub key: Option<String>,
    /// It says that it is an access token (RFC 9068).
    pub is_access_token: bool,
    /// The claims, as JSON.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    /// Takes a token apart, its size and its header first.
    pub fn read(token: &'a str) -> Result<Self, Bad> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Bad("the token is longer than 4 KiB"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(Bad("the token is not a signed JWT of three parts"));
        };
        let decode = |part: &str| {
            BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| Bad("a part of the token is not base64url"))
        };
        let Header { algorithm, key, is_access_token } = read_header(&decode(header)?)?;
        Ok(Self {
            signed: &token.as_bytes()[..header.len() + 1 + payload.len()],
            algorithm,
            key,
            is_access_token,
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

/// What is used of a header.
struct Header {
    algorithm: Algorithm,
    key: Option<String>,
    is_access_token: bool,
}

/// Whether a token says that it is an access token, not verified.
pub fn claims_to_be_access_token(token: &str) -> bool {
    let header = token.split('.').next().filter(|header| header.len() <= TOKEN_BYTES_MAX);
    let header = header.and_then(|header| BASE64URL_NOPAD.decode(header.as_bytes()).ok());
    header.and_then(|header| read_header(&header).ok()).is_some_and(|header| header.is_access_token)
}

fn is_access_token(kind: &str) -> bool {
    ["at+jwt", "application/at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

fn read_header(bytes: &[u8]) -> Result<Header, Bad> {
    let header = Json::object(bytes).ok_or(Bad("the token's header is not a JSON object"))?;
    if ["crit", "zip", "b64", "cty"].iter().any(|name| header.contains_key(*name)) {
        return Err(Bad("the token's header asks for what is not supported"));
    }
    let kind = header.get("typ").map(Json::as_text);
    let is_access_token = kind.flatten().is_some_and(is_access_token);
    match kind {
        None => {}
        Some(Some(kind)) if kind.eq_ignore_ascii_case("JWT") || is_access_token => {}
        Some(_) => return Err(Bad("the token's type is not JWT")),
    }
    let algorithm = header.get("alg").and_then(Json::as_text).and_then(Algorithm::by_name);
    let algorithm = algorithm.ok_or(Bad("the token's algorithm is not supported"))?;
    let key = match header.get("kid") {
        None => None,
        Some(Json::Text(key)) => Some(key.clone()),
        Some(_) => return Err(Bad("the token's kid is not text")),
    };
    Ok(Header { algorithm, key, is_access_token })
}
