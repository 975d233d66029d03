//! The attacks of the literature on tokens, each a test by its name: what must be refused, whatever else is right about it.

use super::super::Tokens;
use super::{NOW, claims, config, keys, secret, tokens, with};
use crate::cli::token::sign::Signer;
use crate::config::Algorithm;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// Refused, and not for being remembered as good.
fn refuse(token: &str, at: u64) {
    let mut tokens = tokens();
    for _ in 0..2 {
        assert!(tokens.check(token, at).is_err(), "{token}");
    }
}

/// A test for each row: its name, the token, and when it is shown.
macro_rules! attacks {
    ($($name:ident: $token:expr $(, at $at:expr)?;)*) => { $(
        #[test]
        fn $name() {
            #[allow(unused_mut, unused_assignments, reason = "few rows have a time of their own")]
            let mut at = NOW;
            $(at = $at;)?
            refuse(&$token, at);
        }
    )* };
}

fn good() -> String {
    secret().token(Algorithm::HS256, Some("h"), &claims()).unwrap()
}

/// Header, payload and signature of the good one.
fn parts() -> [String; 3] {
    let all: Vec<String> = good().split('.').map(str::to_owned).collect();
    all.try_into().unwrap()
}

/// A good payload, signed by our secret under another header.
fn header(header: &str) -> String {
    secret().signed(Algorithm::HS256, header, &claims().to_string()).unwrap()
}

/// A good header, and any payload.
fn payload(payload: &str) -> String {
    secret().signed(Algorithm::HS256, r#"{"alg":"HS256","kid":"h"}"#, payload).unwrap()
}

fn claim(name: &str, value: Value) -> String {
    secret().token(Algorithm::HS256, Some("h"), &with(name, value)).unwrap()
}

/// The public key as a secret: what a verifier takes that lets the token choose the algorithm.
fn confused(kid: &str) -> String {
    let public = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pub.pem"));
    let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
    Signer::Secret(public.to_vec()).signed(Algorithm::HS256, &header, &claims().to_string()).unwrap()
}

/// Signed by a key of the attacker's own.
fn forged(header: &str) -> String {
    let stranger = Signer::Secret(b"a secret that the server has never seen".to_vec());
    stranger.signed(Algorithm::HS256, header, &claims().to_string()).unwrap()
}

fn unsigned(header: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", BASE64URL_NOPAD.encode(header.as_bytes()), parts()[1])
}

/// The good one with another signature.
fn signature(change: impl Fn(&str) -> String) -> String {
    let [header, payload, signature] = parts();
    format!("{header}.{payload}.{}", change(&signature))
}

/// Good claims and this member before them.
fn member(text: &str) -> String {
    payload(&claims().to_string().replacen('{', &format!("{{{text},"), 1))
}

/// A member with so many lists in each other.
fn deep(levels: usize) -> String {
    format!(r#""a":{}{}"#, "[".repeat(levels), "]".repeat(levels))
}

/// The header and signature of a good token, and the payload of another.
fn exchanged() -> String {
    let [header, _, signature] = parts();
    let other = claim("sub", json!("bob"));
    format!("{header}.{}.{signature}", other.split('.').nth(1).unwrap())
}

attacks! {
    alg_none: unsigned(r#"{"alg":"none"}"#, "");
    alg_none_with_a_signature: unsigned(r#"{"alg":"none","kid":"h"}"#, &parts()[2]);
    alg_none_in_other_letters: unsigned(r#"{"alg":"nOnE"}"#, "");
    alg_none_that_is_signed: header(r#"{"alg":"None","kid":"h"}"#);
    no_alg: header(r#"{"kid":"h"}"#);
    alg_in_small_letters: header(r#"{"alg":"hs256","kid":"h"}"#);
    another_hash_of_the_same_secret: secret().signed(Algorithm::HS512, r#"{"alg":"HS512","kid":"h"}"#, &claims().to_string()).unwrap();
    public_key_as_secret: confused("r");
    public_key_as_secret_under_the_kid_of_a_secret: confused("h");
    public_key_as_secret_without_kid: forged(r#"{"alg":"HS256"}"#);
    kid_of_another_key: header(r#"{"alg":"HS256","kid":"e"}"#);
    kid_that_is_unknown: header(r#"{"alg":"HS256","kid":"x"}"#);
    kid_that_is_a_path: header(r#"{"alg":"HS256","kid":"../../dev/null"}"#);
    kid_that_is_a_number: header(r#"{"alg":"HS256","kid":1}"#);
    crit: header(r#"{"alg":"HS256","kid":"h","crit":["exp"]}"#);
    crit_that_is_empty: header(r#"{"alg":"HS256","kid":"h","crit":[]}"#);
    payload_that_is_not_encoded: header(r#"{"alg":"HS256","kid":"h","b64":false}"#);
    payload_that_is_compressed: header(r#"{"alg":"HS256","kid":"h","zip":"DEF"}"#);
    token_within_a_token: header(r#"{"alg":"HS256","kid":"h","cty":"JWT"}"#);
    token_of_another_type: header(r#"{"alg":"HS256","kid":"h","typ":"secevent+jwt"}"#);
    type_that_is_no_text: header(r#"{"alg":"HS256","kid":"h","typ":1}"#);
    embedded_jwk: forged(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YSBzZWNyZXQgdGhhdCB0aGUgc2VydmVyIGhhcyBuZXZlciBzZWVu"}}"#);
    embedded_jwk_under_our_kid: forged(r#"{"alg":"HS256","kid":"h","jwk":{"kty":"oct","k":"YSBzZWNyZXQgdGhhdCB0aGUgc2VydmVyIGhhcyBuZXZlciBzZWVu"}}"#);
    jku: forged(r#"{"alg":"HS256","kid":"h","jku":"http://127.0.0.1:1/keys"}"#);
    x5u: forged(r#"{"alg":"HS256","kid":"h","x5u":"http://127.0.0.1:1/cert"}"#);
    x5c: forged(r#"{"alg":"HS256","kid":"h","x5c":["MIIB"]}"#);
    doubled_alg: header(r#"{"alg":"HS256","alg":"HS256","kid":"h"}"#);
    doubled_kid: header(r#"{"alg":"HS256","kid":"x","kid":"h"}"#);
    doubled_exp: member(r#""exp":9999999999"#);
    doubled_grants: member(r#""encke":{"subscribe":["**"]}"#);
    doubled_member_within: payload(&claims().to_string().replacen(r#""subscribe":["#, r#""subscribe":["**"],"subscribe":["#, 1));
    header_that_is_deep: header(&format!(r#"{{"alg":"HS256","kid":"h",{}}}"#, deep(1000)));
    payload_that_is_deep: member(&deep(900));
    header_that_is_no_object: header("[]");
    payload_that_is_no_object: payload("[1]");
    token_that_is_too_long: claim("x", json!("x".repeat(4096)));
    no_signature: signature(|_| String::new());
    signature_that_is_cut: signature(|it| it[..it.len() - 4].into());
    signature_that_is_doubled: signature(|it| format!("{it}{it}"));
    signature_with_padding: signature(|it| format!("{it}="));
    signature_that_is_not_canonical: signature(|it| format!("{}9", &it[..it.len() - 1]));
    signature_in_the_other_alphabet: signature(|_| "+/+/".into());
    signature_of_another_token: exchanged();
    two_parts: parts()[..2].join(".");
    four_parts: format!("{}.{}", good(), parts()[2]);
    five_parts_of_what_is_encrypted: format!("{}.a.b", good());
    a_blank_behind_it: format!("{} ", good());
    nbf_in_the_future: claim("nbf", json!(NOW + 31));
    expired_by_a_second_beyond_the_leeway: good(), at NOW + 60 + 30 + 1;
    expired_to_the_second: good(), at NOW + 60 + 30;
    exp_that_is_text: claim("exp", json!("9999999999"));
    exp_that_is_infinite: payload(&claims().to_string().replacen("1800000060", "1e999", 1));
    iat_in_the_future: claim("iat", json!(NOW + 31));
    another_audience: claim("aud", json!("other"));
    another_audience_among_some: claim("aud", json!(["other", "encke2"]));
    another_issuer: claim("iss", json!("https://evil.example"));
    issuers_in_a_list: claim("iss", json!(["https://app.example"]));
}

#[test]
fn what_is_none_of_these_is_taken() {
    let mut tokens = tokens();
    assert!(tokens.check(&good(), NOW).is_ok());
    assert!(tokens.check(&good(), NOW + 60 + 29).is_ok());
    assert!(tokens.check(&header(r#"{"alg":"HS256","kid":"h","typ":"at+jwt"}"#), NOW).is_ok());
    // What a token brings of keys is not looked at, nor fetched: one that is ours stays good.
    for brought in [
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""jku":"http://127.0.0.1:1/""#,
        r#""x5u":"http://127.0.0.1:1/""#,
    ] {
        let token = header(&format!(r#"{{"alg":"HS256","kid":"h",{brought}}}"#));
        assert!(tokens.check(&token, NOW).is_ok(), "{brought}");
    }
}

/// As a cache does that joins what it remembers by.
#[test]
fn what_is_remembered_is_never_another_token() {
    let mut tokens = Tokens::new(&config(keys())).unwrap();
    let known = good();
    assert!(tokens.check(&known, NOW).is_ok());
    for end in 1..known.len() {
        assert!(tokens.check(&known[..end], NOW).is_err());
    }
    for other in [format!("{known}A"), format!("A{known}"), known.to_uppercase(), known.replace('.', "..")] {
        assert!(tokens.check(&other, NOW).is_err(), "{other}");
    }
}
