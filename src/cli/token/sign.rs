//! Signing: the other side of what `broker::access::tokens` verifies, for `encke token` and for tests.

use crate::config::Algorithm;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::{hmac, signature};
use serde_json::Value;
use spki::der::pem;

/// A private key, or a secret.
pub enum Signer {
    /// A secret.
    Secret(Vec<u8>),
    /// An RSA key.
    Rsa(signature::RsaKeyPair),
    /// A key of the curve P-256 or P-384, which is what the algorithm says.
    Ec(Vec<u8>, Algorithm),
    /// An Ed25519 key.
    Ed(signature::Ed25519KeyPair),
}

impl Signer {
    /// The key that a file holds: a private key as PEM, else a secret but for one line end.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        if !text.windows(11).any(|part| part == b"-----BEGIN ") {
            let line = text.strip_suffix(b"\n").unwrap_or(text);
            return Ok(Self::Secret(line.strip_suffix(b"\r").unwrap_or(line).into()));
        }
        let (label, der) = pem::decode_vec(text).map_err(|_| "is no PEM that can be read")?;
        match label {
            "PRIVATE KEY" => Self::from_pkcs8(der),
            "RSA PRIVATE KEY" => {
                signature::RsaKeyPair::from_der(&der).map(Self::Rsa).map_err(|error| error.to_string())
            }
            "PUBLIC KEY" => Err("holds a public key; tokens are signed with the private one".into()),
            _ => {
                Err("is no private key in PKCS #8: openssl pkcs8 -topk8 -nocrypt -in FILE makes one of it"
                    .into())
            }
        }
    }

    fn from_pkcs8(der: Vec<u8>) -> Result<Self, String> {
        if let Ok(pair) = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            return Ok(Self::Ed(pair));
        }
        if let Ok(pair) = signature::RsaKeyPair::from_pkcs8(&der) {
            return Ok(Self::Rsa(pair));
        }
        let curve =
            [Algorithm::ES256, Algorithm::ES384].into_iter().find(|curve| ec_pair(&der, *curve).is_some());
        let curve = curve.ok_or(
            "is a key of a kind that is not supported: RSA of 2048 bits and more, P-256, P-384, Ed25519",
        )?;
        Ok(Self::Ec(der, curve))
    }

    /// The algorithms it can sign with, the most usual first.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        use Algorithm::{EdDSA, HS256, HS384, HS512, PS256, RS256, RS384, RS512};
        match self {
            Self::Secret(_) => vec![HS256, HS384, HS512],
            Self::Rsa(_) => vec![RS256, RS384, RS512, PS256],
            Self::Ec(_, curve) => vec![*curve],
            Self::Ed(_) => vec![EdDSA],
        }
    }

    /// The signature of `message`; an error if the key is not one for `algorithm`.
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, String> {
        let unfit = || format!("the key is not one for {}", algorithm.name());
        let random = SystemRandom::new();
        if !self.algorithms().contains(&algorithm) {
            return Err(unfit());
        }
        match self {
            Self::Secret(secret) => {
                let hash = match algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                Ok(hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().into())
            }
            Self::Rsa(pair) => {
                let encoding: &dyn signature::RsaEncoding = match algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &random, message, &mut signed).map_err(|_| unfit())?;
                Ok(signed)
            }
            Self::Ec(der, curve) => {
                let pair = ec_pair(der, *curve).ok_or_else(unfit)?;
                Ok(pair.sign(&random, message).map_err(|_| unfit())?.as_ref().into())
            }
            Self::Ed(pair) => Ok(pair.sign(message).as_ref().into()),
        }
    }

    /// A token of these claims.
    pub fn token(&self, algorithm: Algorithm, key: Option<&str>, claims: &Value) -> Result<String, String> {
        let mut header = serde_json::json!({"alg": algorithm.name(), "typ": "JWT"});
        if let Some(key) = key {
            header["kid"] = key.into();
        }
        self.signed(algorithm, &header.to_string(), &claims.to_string())
    }

    /// Header and payload, whatever they are, signed.
    pub fn signed(&self, algorithm: Algorithm, header: &str, payload: &str) -> Result<String, String> {
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let message = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let signature = self.sign(algorithm, message.as_bytes())?;
        Ok(format!("{message}.{}", encode(&signature)))
    }
}

fn ec_pair(der: &[u8], curve: Algorithm) -> Option<signature::EcdsaKeyPair> {
    let algorithm = match curve {
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    signature::EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new()).ok()
}
