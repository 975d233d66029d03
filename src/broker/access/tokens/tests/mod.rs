//! Good tokens, and what is merely wrong with others.

mod attacks;
mod guests;

use super::*;
use crate::cli::token::sign::Signer;
use crate::config::{Algorithm, KeyText, TokenKey};
use serde_json::{Value, json};

pub const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

macro_rules! key_file {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
    };
}

fn row(id: Option<&str>, algorithm: Option<Algorithm>, text: &[u8]) -> TokenKey {
    TokenKey { id: id.map(Into::into), algorithm, file: Some("key".into()), text: KeyText(text.into()) }
}

pub fn config(rows: Vec<TokenKey>) -> Config {
    let mut config = Config { token_keys: rows, ..Config::default() };
    config.tokens.issuer = Some("https://app.example".into());
    config.tokens.audience = Some("encke".into());
    config
}

/// An HMAC key, a P-256 key and an RSA key, as an application has that changes its keys.
pub fn keys() -> Vec<TokenKey> {
    vec![
        row(Some("h"), Some(Algorithm::HS256), SECRET),
        row(Some("e"), Some(Algorithm::ES256), key_file!("p256.pub.pem")),
        row(Some("r"), Some(Algorithm::RS256), key_file!("rsa.pub.pem")),
    ]
}

pub fn tokens() -> Tokens {
    Tokens::new(&config(keys())).unwrap()
}

pub fn secret() -> Signer {
    Signer::Secret(SECRET.into())
}

pub fn claims() -> Value {
    json!({
        "iss": "https://app.example", "aud": "encke", "sub": "alice", "iat": NOW, "exp": NOW + 60, "jti": "1",
        "encke": {"subscribe": ["chat/*", "users/alice"], "publish": ["chat/lobby"], "info": {"name": "Alice", "n": 1}},
    })
}

/// Good claims, but for one.
pub fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

pub fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn verdict(claims: &Value) -> Result<Grant, Bad> {
    tokens().verify(&secret().token(Algorithm::HS256, Some("h"), claims).unwrap(), NOW)
}

#[test]
fn a_good_token_grants_what_it_says() {
    let grant = verdict(&claims()).unwrap();
    assert_eq!(grant.subject.as_deref(), Some("alice"));
    assert_eq!(grant.id.as_deref(), Some("1"));
    assert_eq!(grant.info.as_deref(), Some("{\"n\":1,\"name\":\"Alice\"}"));
    assert_eq!((grant.issued, grant.ends), (Some(NOW), NOW + 60 + 30));
    assert!(
        grant.may_subscribe("chat/a") && grant.may_subscribe("chat/*") && grant.may_publish("chat/lobby")
    );
    assert!(!grant.may_subscribe("chat/**") && !grant.may_publish("chat/a"));
    let none = verdict(&without("encke")).unwrap();
    assert!(none.subscribe.is_empty() && none.publish.is_empty() && none.info.is_none());
}

#[test]
fn every_algorithm_verifies_what_is_signed_by_it() {
    let all: [(Algorithm, &[u8], &[u8]); 10] = [
        (Algorithm::HS256, &[b'k'; 32], &[b'k'; 32]),
        (Algorithm::HS384, &[b'k'; 48], &[b'k'; 48]),
        (Algorithm::HS512, &[b'k'; 64], &[b'k'; 64]),
        (Algorithm::RS256, key_file!("rsa.pem"), key_file!("rsa.pub.pem")),
        (Algorithm::RS384, key_file!("rsa.pem"), key_file!("rsa.pub.pem")),
        (Algorithm::RS512, key_file!("rsa.pem"), key_file!("rsa.pub.pem")),
        (Algorithm::PS256, key_file!("rsa.pem"), key_file!("rsa.pub.pem")),
        (Algorithm::ES256, key_file!("p256.pem"), key_file!("p256.pub.pem")),
        (Algorithm::ES384, key_file!("p384.pem"), key_file!("p384.pub.pem")),
        (Algorithm::EdDSA, key_file!("ed25519.pem"), key_file!("ed25519.pub.pem")),
    ];
    for (algorithm, private, public) in all {
        let tokens = Tokens::new(&config(vec![row(Some("k"), Some(algorithm), public)])).unwrap();
        let token = Signer::read(private).unwrap().token(algorithm, Some("k"), &claims()).unwrap();
        assert!(tokens.verify(&token, NOW).is_ok(), "{algorithm:?}");
        // Every bit of the signature counts.
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            let forged = format!("{signed}.{}", BASE64URL_NOPAD.encode(&bytes));
            assert_eq!(tokens.verify(&forged, NOW).unwrap_err().0, "the token's signature is not good");
        }
    }
}

use data_encoding::BASE64URL_NOPAD;

#[test]
fn keys_without_a_kid_are_tried_a_few() {
    let rows = |count: usize| -> Vec<TokenKey> {
        let secret =
            |place: usize| if place + 1 == count { SECRET.to_vec() } else { vec![b'a' + place as u8; 32] };
        (0..count).map(|place| row(None, Some(Algorithm::HS256), &secret(place))).collect()
    };
    let token = secret().token(Algorithm::HS256, None, &claims()).unwrap();
    assert!(Tokens::new(&config(rows(4))).unwrap().verify(&token, NOW).is_ok());
    assert!(Tokens::new(&config(rows(5))).unwrap().verify(&token, NOW).is_err());
}

#[test]
fn claims_that_make_a_token_bad() {
    let long = "x".repeat(256);
    let patterns =
        |count: usize| json!({"subscribe": vec!["a"; count / 2], "publish": vec!["a"; count - count / 2]});
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(["https://app.example"])),
        ("aud", json!("other")),
        ("aud", json!(["other", "encke2"])),
        ("aud", json!(["encke", 1])),
        ("aud", json!({"encke": 1})),
        ("exp", json!(NOW - 30)),
        ("exp", json!("1800000060")),
        ("exp", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(NOW + 31 * 86_400)),
        ("nbf", json!(NOW + 31)),
        ("nbf", json!("0")),
        ("iat", json!(NOW + 31)),
        ("iat", json!(true)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!(long)),
        ("sub", json!("a\nb")),
        ("jti", json!(7)),
        ("encke", json!("chat/*")),
        ("encke", json!([])),
        ("encke", json!({"subscribe": "chat/*"})),
        ("encke", json!({"subscribe": [1]})),
        ("encke", json!({"subscribe": ["a/**/b"]})),
        ("encke", json!({"publish": ["a//b"]})),
        ("encke", json!({"publish": [""]})),
        ("encke", json!({"publish": [long]})),
        ("encke", json!({"info": "x".repeat(1023)})),
        ("encke", patterns(65)),
    ] {
        let shown = value.to_string();
        assert!(verdict(&with(name, value)).is_err(), "{name}: {shown:.60}");
    }
    for (name, value) in [
        ("aud", json!(["other", "encke"])),
        ("exp", json!(NOW - 29)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("exp", json!(NOW + 30 * 86_400)),
        ("nbf", json!(NOW + 30)),
        ("iat", json!(NOW + 30)),
        ("encke", json!({"info": "x".repeat(1022)})),
        ("encke", patterns(64)),
        ("encke", json!({"subscribe": ["**"], "else": 1})),
    ] {
        let shown = value.to_string();
        assert!(verdict(&with(name, value)).is_ok(), "{name}: {shown:.60}");
    }
    for missing in ["iss", "aud", "exp"] {
        assert!(verdict(&without(missing)).is_err(), "without {missing}");
    }
    for missing in ["sub", "jti", "iat"] {
        assert!(verdict(&without(missing)).is_ok(), "without {missing}");
    }
}

#[test]
fn payloads_that_no_parser_of_ours_takes() {
    let mut texts = [
        r#"{"exp":1800000060,"exp":9999999999}"#,
        r#"{"exp":1e999}"#,
        r#"{"encke":{"subscribe":["a"],"subscribe":["**"]},"exp":1800000060}"#,
        "[1]",
        "null",
        "",
        "\u{0}",
    ]
    .map(String::from)
    .to_vec();
    texts.push(format!("{{\"exp\":1800000060,\"x\":{}{}}}", "[".repeat(900), "]".repeat(900)));
    let mut config = config(keys());
    (config.tokens.issuer, config.tokens.audience) = (None, None);
    let tokens = Tokens::new(&config).unwrap();
    for text in &texts {
        let token = secret().signed(Algorithm::HS256, r#"{"alg":"HS256","kid":"h"}"#, text).unwrap();
        assert!(tokens.verify(&token, NOW).is_err(), "{text:.60}");
    }
    let long = json!({"exp": NOW + 60, "x": "x".repeat(4096)});
    let long = secret().token(Algorithm::HS256, Some("h"), &long).unwrap();
    assert_eq!(tokens.verify(&long, NOW).unwrap_err().0, "the token is longer than 4 KiB");
}

#[test]
fn one_moment_ends_a_token() {
    let mut tokens = tokens();
    let token = secret().token(Algorithm::HS256, Some("h"), &claims()).unwrap();
    let end = NOW + 60 + 30;
    for remembered in [false, true] {
        assert!(tokens.check(&token, end - 1).is_ok(), "remembered: {remembered}");
        assert_eq!(tokens.check(&token, end), Err(Bad::EXPIRED));
        // The clock is set back.
        assert!(tokens.check(&token, NOW).is_ok());
    }
    let later = secret().token(Algorithm::HS256, Some("h"), &with("nbf", json!(NOW + 20))).unwrap();
    assert!(tokens.check(&later, NOW).is_ok());
    assert!(tokens.check(&later, NOW - 11).is_err());
}

#[test]
fn a_token_that_was_made_a_moment_ago_is_not_of_the_future() {
    let mut config = config(keys());
    config.tokens.leeway_seconds = 0;
    let tokens = Tokens::new(&config).unwrap();
    for name in ["iat", "nbf"] {
        let verify = |moment: u64| {
            let claims = with(name, json!(moment));
            tokens.verify(&secret().token(Algorithm::HS256, Some("h"), &claims).unwrap(), NOW)
        };
        assert!(verify(NOW + 1).is_ok(), "{name}");
        assert!(verify(NOW + 2).is_err(), "{name}");
    }
    let ends =
        tokens.verify(&secret().token(Algorithm::HS256, Some("h"), &claims()).unwrap(), NOW).unwrap().ends;
    assert_eq!(ends, NOW + 60, "its end is when it says");
}

#[test]
fn without_an_expiry() {
    let mut config = config(keys());
    config.tokens.require_expiry = false;
    let tokens = Tokens::new(&config).unwrap();
    let verify =
        |claims: &Value| tokens.verify(&secret().token(Algorithm::HS256, Some("h"), claims).unwrap(), NOW);
    assert_eq!(verify(&without("exp")).unwrap().ends, NOW + 30 * 86_400 + 30);
    let mut neither = without("exp");
    neither.as_object_mut().unwrap().remove("iat");
    assert!(verify(&neither).is_err());
}

#[test]
fn what_is_remembered_is_bounded_and_never_another_token() {
    let mut config = config(keys());
    config.limits.tokens_remembered = 10;
    let mut tokens = Tokens::new(&config).unwrap();
    let token = |number: u64| {
        let claims = with("sub", json!(format!("user{number}")));
        secret().token(Algorithm::HS256, Some("h"), &claims).unwrap()
    };
    for number in 0..100 {
        for _ in 0..2 {
            let grant = tokens.check(&token(number), NOW).unwrap();
            assert_eq!(grant.subject.as_deref(), Some(&*format!("user{number}")));
        }
        assert!(tokens.verified.younger.len() + tokens.verified.older.len() <= 10);
        assert!(tokens.verified.find(token(number).as_bytes()).is_some());
    }
    // A token is not taken for the one whose text it begins or ends with, and what is bad is not remembered.
    let known = token(99);
    assert!(tokens.check(&known[..known.len() - 1], NOW).is_err());
    assert!(tokens.check(&format!("{known}A"), NOW).is_err());
    assert!(tokens.verified.find(format!("{known}A").as_bytes()).is_none());
}

#[test]
fn keys_that_keep_the_server_from_starting() {
    let set = |members: &str| format!("{{\"keys\":[{members}]}}").into_bytes();
    let ed = r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let private = ed.replace("\"x\"", "\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\",\"x\"");
    type Case<'a> = (&'a str, Option<Algorithm>, Option<&'a str>, Vec<u8>);
    let cases: Vec<Case<'_>> = vec![
        ("empty", Some(Algorithm::HS256), None, Vec::new()),
        ("short", Some(Algorithm::HS256), None, vec![b'k'; 31]),
        (
            "a line end is no secret",
            Some(Algorithm::HS256),
            None,
            b"0123456789abcdef0123456789abcde\n".to_vec(),
        ),
        ("short for its hash", Some(Algorithm::HS512), None, vec![b'k'; 63]),
        ("a PEM as secret", Some(Algorithm::HS256), None, key_file!("rsa.pub.pem").to_vec()),
        ("a private key", Some(Algorithm::RS256), None, key_file!("rsa.pem").to_vec()),
        ("RSA of 1024 bits", Some(Algorithm::RS256), None, key_file!("rsa1024.pub.pem").to_vec()),
        ("another curve", Some(Algorithm::ES256), None, key_file!("p384.pub.pem").to_vec()),
        ("another curve", Some(Algorithm::ES384), None, key_file!("p521.pub.pem").to_vec()),
        ("RSA for EC", Some(Algorithm::ES256), None, key_file!("rsa.pub.pem").to_vec()),
        ("EC for RSA", Some(Algorithm::PS256), None, key_file!("p256.pub.pem").to_vec()),
        ("no PEM", Some(Algorithm::EdDSA), None, b"secret secret secret secret secret".to_vec()),
        ("a PEM cut off", Some(Algorithm::RS256), None, key_file!("rsa.pub.pem")[..200].to_vec()),
        ("no algorithm", None, None, key_file!("rsa.pub.pem").to_vec()),
        ("a set with an id", Some(Algorithm::EdDSA), Some("x"), set(ed)),
        ("an empty set", Some(Algorithm::EdDSA), None, set("")),
        ("a private member", Some(Algorithm::EdDSA), None, set(&private)),
        ("a symmetric member", Some(Algorithm::HS256), None, set(r#"{"kty":"oct","k":"AAAA"}"#)),
        ("a member for another", Some(Algorithm::ES256), None, set(ed)),
        (
            "a member that says another",
            Some(Algorithm::EdDSA),
            None,
            set(&ed.replace("\"kid\"", "\"alg\":\"ES256\",\"kid\"")),
        ),
        (
            "a member to encrypt with",
            Some(Algorithm::EdDSA),
            None,
            set(&ed.replace("\"kid\"", "\"use\":\"enc\",\"kid\"")),
        ),
        ("a member without algorithm", None, None, set(ed)),
        ("two of one id", Some(Algorithm::EdDSA), None, set(&format!("{ed},{ed}"))),
    ];
    for (what, algorithm, id, text) in cases {
        let problems = Tokens::new(&config(vec![row(id, algorithm, &text)])).unwrap_err();
        assert!(!problems[0].1.contains("nWGxne"), "{what}");
    }
    for (algorithm, text) in [
        (Some(Algorithm::EdDSA), set(ed)),
        (None, set(&ed.replace("\"kid\"", "\"alg\":\"EdDSA\",\"use\":\"sig\",\"kid\""))),
        (Some(Algorithm::HS256), [SECRET, b"\r\n"].concat()),
    ] {
        assert!(Tokens::new(&config(vec![row(None, algorithm, &text)])).is_ok());
    }
    // Ids are unique over entries and sets.
    let rows =
        vec![row(Some("a"), Some(Algorithm::HS256), SECRET), row(None, Some(Algorithm::EdDSA), &set(ed))];
    assert_eq!(
        Tokens::new(&config(rows)).unwrap_err(),
        [(1, "two keys have the id \"a\"; ids must differ".into())]
    );
}
