//! The keys that tokens are verified by, read from what their files hold.
//!
//! A key has one algorithm, and a token of another one is refused: the key decides, never the token. What must not be
//! taken for a key keeps the server from starting: a secret that can be guessed, a public key as a secret (with which
//! anybody could sign), a private key where a public one belongs.

use super::json::Json;
use crate::config::{Algorithm, TokenKey};
use data_encoding::BASE64URL_NOPAD;
use ring::{digest, hmac, signature};
use spki::der::asn1::{ObjectIdentifier, UintRef};
use spki::der::{Decode, Reader, SliceReader, pem};
use std::collections::BTreeMap;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// An RSA key of fewer bits is refused.
const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
const PRIVATE: &str = "holds a private key, which belongs to who makes tokens; the server verifies with the public one: \
                       openssl pkey -in FILE -pubout";

/// A key with its algorithm.
#[derive(Debug)]
pub struct Key {
    /// The `kid` of its tokens.
    pub id: Option<Box<str>>,
    /// How its tokens are signed.
    pub algorithm: Algorithm,
    /// Tells it from any other, also after the settings were read anew.
    pub mark: u64,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Secret(hmac::Key),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of the curve: uncompressed for the curves of NIST.
    Point(Vec<u8>),
}

impl Key {
    /// Whether `signature` is that of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(secret) => hmac::verify(secret, message, signature).is_ok(),
            Material::Rsa { n, e } => rsa(self.algorithm).is_some_and(|parameters| {
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Material::Point(point) => curve(self.algorithm).is_some_and(|algorithm| {
                signature::UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }),
        }
    }
}

/// The keys of a row of the settings: one, or those of a JWK set. Or what is wrong with it.
pub fn read(row: &TokenKey) -> Result<Vec<Key>, String> {
    let text = &row.text.0;
    let is_pem = text.windows(11).any(|part| part == b"-----BEGIN ");
    if let Some(members) = Json::object(text).filter(|object| object.contains_key("keys")) {
        return read_set(row, &members);
    }
    let algorithm = row.algorithm.ok_or("a key needs algorithm = \"…\"")?;
    let id = row.id.as_deref().map(Box::from);
    let material = match secret(algorithm) {
        Some(_) if is_pem => {
            return Err(format!(
                "holds a PEM, and {} takes a secret: whoever knows the public key could sign with it",
                algorithm.name()
            ));
        }
        Some((hash, bytes)) => read_secret(text, hash, bytes)?,
        None if is_pem => read_pem(text, algorithm)?,
        None => {
            return Err(format!(
                "holds neither a public key as PEM, which {} needs, nor a JWK set",
                algorithm.name()
            ));
        }
    };
    let mark = mark_of(id.as_deref(), algorithm, text);
    Ok(vec![Key { id, algorithm, mark, material }])
}

/// A hash of all that makes a key what it is.
fn mark_of(id: Option<&str>, algorithm: Algorithm, text: &[u8]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [algorithm.name().as_bytes(), id.unwrap_or_default().as_bytes(), text] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let hash = context.finish();
    hash.as_ref().iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

/// The hash of an algorithm that has a secret, and its length in bytes.
fn secret(algorithm: Algorithm) -> Option<(hmac::Algorithm, usize)> {
    match algorithm {
        Algorithm::HS256 => Some((hmac::HMAC_SHA256, 32)),
        Algorithm::HS384 => Some((hmac::HMAC_SHA384, 48)),
        Algorithm::HS512 => Some((hmac::HMAC_SHA512, 64)),
        _ => None,
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        _ => None,
    }
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn signature::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&signature::ED25519),
        _ => None,
    }
}

/// A secret: all of the file but one line end.
fn read_secret(text: &[u8], hash: hmac::Algorithm, bytes: usize) -> Result<Material, String> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let secret = line.strip_suffix(b"\r").unwrap_or(line);
    match secret.len() >= bytes {
        true => Ok(Material::Secret(hmac::Key::new(hash, secret))),
        false => Err(format!(
            "holds a secret of {} bytes, and needs at least {bytes}: openssl rand -hex {bytes} makes a good one",
            secret.len()
        )),
    }
}

fn read_pem(text: &[u8], algorithm: Algorithm) -> Result<Material, String> {
    if text.windows(16).any(|part| part == b"PRIVATE KEY-----") {
        return Err(PRIVATE.into());
    }
    let (label, der) = pem::decode_vec(text).map_err(|_| "is no PEM that can be read")?;
    match label {
        "PUBLIC KEY" => read_public(&der, algorithm),
        "RSA PUBLIC KEY" if rsa(algorithm).is_some() => read_rsa(&der),
        "CERTIFICATE" => {
            Err("holds a certificate; its key is needed: openssl x509 -in FILE -pubkey -noout".into())
        }
        _ => Err(unfit(algorithm)),
    }
}

fn unfit(algorithm: Algorithm) -> String {
    let needed = match algorithm {
        Algorithm::ES256 => "a key of the curve P-256",
        Algorithm::ES384 => "a key of the curve P-384",
        Algorithm::EdDSA => "an Ed25519 key",
        _ => "an RSA key",
    };
    format!("does not fit: {} needs {needed}", algorithm.name())
}

/// A `SubjectPublicKeyInfo` (RFC 5280).
fn read_public(der: &[u8], algorithm: Algorithm) -> Result<Material, String> {
    let broken = |_| "holds a public key that cannot be read";
    let info = spki::SubjectPublicKeyInfoRef::from_der(der).map_err(broken)?;
    let key = info.subject_public_key.as_bytes().ok_or("holds a public key that cannot be read")?;
    let curve = || info.algorithm.parameters_oid().ok();
    match algorithm {
        Algorithm::ES256 if info.algorithm.oid == EC && curve() == Some(P256) => point(key, 65, algorithm),
        Algorithm::ES384 if info.algorithm.oid == EC && curve() == Some(P384) => point(key, 97, algorithm),
        Algorithm::EdDSA if info.algorithm.oid == ED25519 => point(key, 32, algorithm),
        _ if rsa(algorithm).is_some() && info.algorithm.oid == RSA => read_rsa(key),
        _ => Err(unfit(algorithm)),
    }
}

fn point(bytes: &[u8], length: usize, algorithm: Algorithm) -> Result<Material, String> {
    let is_sound = bytes.len() == length && (length == 32 || bytes[0] == 4);
    is_sound.then(|| Material::Point(bytes.into())).ok_or_else(|| unfit(algorithm))
}

/// An `RSAPublicKey` (RFC 8017).
fn read_rsa(der: &[u8]) -> Result<Material, String> {
    let read = || -> spki::der::Result<_> {
        let mut reader = SliceReader::new(der)?;
        let numbers = reader.sequence(|inner| {
            Ok::<_, spki::der::Error>((UintRef::decode(inner)?, UintRef::decode(inner)?))
        })?;
        reader.finish()?;
        Ok(numbers)
    };
    let (n, e) = read().map_err(|_| "holds an RSA key that cannot be read")?;
    sound_rsa(n.as_bytes(), e.as_bytes())
}

fn sound_rsa(n: &[u8], e: &[u8]) -> Result<Material, String> {
    let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    match (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        true => Ok(Material::Rsa { n: n.into(), e: e.into() }),
        false => {
            Err(format!("holds an RSA key of {bits} bits; it must have {RSA_BITS_MIN} to {RSA_BITS_MAX}"))
        }
    }
}

/// A JWK set (RFC 7517): every member must be a public key that fits.
fn read_set(row: &TokenKey, set: &BTreeMap<String, Json>) -> Result<Vec<Key>, String> {
    if row.id.is_some() {
        return Err("holds a JWK set, whose members have ids of their own: leave id out".into());
    }
    let Some(Json::Array(members)) = set.get("keys") else {
        return Err("holds a JWK set whose member keys is no array".into());
    };
    if members.is_empty() {
        return Err("holds a JWK set without keys".into());
    }
    let read = |(place, member): (usize, &Json)| {
        match member {
            Json::Object(members) => read_member(row, members),
            _ => Err("is no object".into()),
        }
        .map_err(|text: String| format!("JWK {}: {text}", place + 1))
    };
    members.iter().enumerate().map(read).collect()
}

fn read_member(row: &TokenKey, member: &BTreeMap<String, Json>) -> Result<Key, String> {
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| member.contains_key(*name)) {
        return Err("is a private or symmetric key; a set of public keys is needed".into());
    }
    let text = |name: &str| member.get(name).map(|value| value.as_text().unwrap_or_default());
    let named = match text("alg") {
        Some(name) => Some(Algorithm::by_name(name).ok_or("has an alg that is not supported here")?),
        None => None,
    };
    let algorithm = match (row.algorithm, named) {
        (Some(wanted), Some(named)) if wanted != named => {
            return Err(format!("is for {}, and the row is for {}", named.name(), wanted.name()));
        }
        (wanted, named) => named.or(wanted).ok_or("has no alg, and its row has no algorithm")?,
    };
    let verifies =
        |value: &Json| matches!(value, Json::Array(all) if all.contains(&Json::Text("verify".into())));
    if text("use").is_some_and(|usage| usage != "sig")
        || member.get("key_ops").is_some_and(|ops| !verifies(ops))
    {
        return Err("is not for verifying signatures (use, key_ops)".into());
    }
    let bytes = |name| BASE64URL_NOPAD.decode(text(name).unwrap_or_default().as_bytes()).unwrap_or_default();
    let (kind, curve) = (text("kty").unwrap_or_default(), text("crv").unwrap_or_default());
    let ec = |length| point(&[&[4][..], &bytes("x"), &bytes("y")].concat(), length, algorithm);
    let material = match algorithm {
        Algorithm::ES256 if kind == "EC" && curve == "P-256" => ec(65)?,
        Algorithm::ES384 if kind == "EC" && curve == "P-384" => ec(97)?,
        Algorithm::EdDSA if kind == "OKP" && curve == "Ed25519" => point(&bytes("x"), 32, algorithm)?,
        _ if kind == "RSA" && rsa(algorithm).is_some() => sound_rsa(&bytes("n"), &bytes("e"))?,
        _ => return Err(unfit(algorithm)),
    };
    let id = match member.get("kid") {
        Some(kid) => {
            Some(kid.as_text().filter(|kid| !kid.is_empty()).ok_or("has a kid that is no text")?.into())
        }
        None => None,
    };
    let public = ["n", "e", "x", "y"].map(|name| text(name).unwrap_or_default()).join(".");
    let mark = mark_of(id.as_deref(), algorithm, public.as_bytes());
    Ok(Key { id, algorithm, mark, material })
}
