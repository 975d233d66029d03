//! Guests of the demo, and what somebody may try with their tokens.

use super::super::guests::{GUEST_SECONDS, Guest, Guests};
use super::super::{Bad, Tokens};
use super::{NOW, claims, config, keys, secret};
use crate::broker::access::{Grant, Revocation, Whose};
use crate::cli::token::sign::Signer;
use crate::config::Algorithm;
use crate::id::Seed;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

const OURS: &str = "a secret of a page of ours";
const BAD: Bad = Bad("the token is not of a guest of this server");

fn seed() -> Seed {
    Seed::of_number(7)
}

/// A server with keys of an application, and a demo.
fn tokens() -> Tokens {
    let mut tokens = Tokens::new(&config(keys())).unwrap();
    tokens.admit_guests(seed());
    tokens
}

fn guest(secret: &str, name: &str) -> Guest {
    Guest::new(secret, name).unwrap()
}

fn token() -> String {
    tokens().welcome(&guest(OURS, "Johann"), NOW).unwrap().token
}

/// The token with other claims, under the signature of the good one.
fn with(change: impl FnOnce(&mut Value)) -> String {
    let good = token();
    let parts: Vec<&str> = good.split('.').collect();
    let mut claims = serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
    change(&mut claims);
    format!("{}.{}.{}", parts[0], BASE64URL_NOPAD.encode(claims.to_string().as_bytes()), parts[2])
}

#[test]
fn a_guest_is_who_keeps_the_secret_and_goes_by_the_name() {
    let mut tokens = tokens();
    let welcome = tokens.welcome(&guest(OURS, " Johann \"Franz\" "), NOW).unwrap();
    let grant = tokens.check(&welcome.token, NOW).unwrap();
    let expected = Grant {
        subject: Some(welcome.id.as_str().into()),
        id: grant.id.clone(),
        issued: Some(NOW),
        ends: NOW + GUEST_SECONDS + 30,
        key: grant.key,
        info: Some(r#"{"name":"Johann \"Franz\""}"#.into()),
        is_guest: true,
        ..Grant::default()
    };
    assert_eq!(*grant, expected, "and it grants nothing");
    assert!(tokens.has_key(grant.key) && grant.id.is_some());
    // Another name is the same guest, another secret is not.
    assert_eq!(tokens.welcome(&guest(OURS, "Caroline"), NOW + 9).unwrap().id, welcome.id);
    assert_ne!(tokens.welcome(&guest("the secret of another page", "Johann"), NOW).unwrap().id, welcome.id);
    // The same server in another process, another server with the same history, and one that is neither.
    let again = Guests::new(seed()).read(&welcome.token, 30);
    assert_eq!(again, Ok(expected));
    assert_eq!(Guests::new(Seed::of_number(8)).read(&welcome.token, 30), Err(BAD));
    // What a reload leaves.
    tokens.reconfigure(&config(Vec::new()));
    assert!(tokens.check(&welcome.token, NOW).is_ok());
    tokens.know_guests_by(Seed::of_number(8));
    assert_eq!(tokens.check(&welcome.token, NOW), Err(BAD));
}

#[test]
fn it_ends_and_nothing_of_it_is_remembered() {
    let (mut tokens, token) = (tokens(), token());
    for _ in 0..2 {
        assert!(tokens.check(&token, NOW + GUEST_SECONDS + 29).is_ok());
        assert_eq!(tokens.check(&token, NOW + GUEST_SECONDS + 30), Err(Bad::EXPIRED));
    }
    assert!(!tokens.knows(&token));
}

#[test]
fn it_can_be_taken_back() {
    let (mut tokens, token) = (tokens(), token());
    let number = tokens.number_of(&token).unwrap();
    let revocation = |whose| Revocation { whose, before: NOW, channels: Vec::new(), lapses: NOW + 10_000 };
    tokens.revoke(revocation(Whose::Token(number)), NOW);
    assert_eq!(tokens.check(&token, NOW), Err(Bad::REVOKED));
    let other = tokens.welcome(&guest("the secret of another page", "Johann"), NOW).unwrap();
    tokens.revoke(revocation(Whose::Subject(other.id.into())), NOW);
    assert_eq!(tokens.check(&other.token, NOW), Err(Bad::REVOKED));
    // What looks like one and is none would do nothing.
    assert_eq!(tokens.number_of(&with(|claims| claims["sub"] = "alice".into())), None);
}

#[test]
fn without_a_demo_nobody_is_a_guest() {
    let mut tokens = Tokens::new(&config(keys())).unwrap();
    assert!(tokens.welcome(&guest(OURS, "Johann"), NOW).is_none());
    assert!(tokens.check(&token(), NOW).is_err());
    tokens.know_guests_by(seed());
    assert!(tokens.check(&token(), NOW).is_err());
}

#[test]
fn who_guests_may_be() {
    for (secret, name) in [
        (OURS, ""),
        (OURS, " \u{a0} "),
        (OURS, "a\nb"),
        (OURS, "a\u{0}"),
        (OURS, "a\u{9b}"),
        (OURS, &"x".repeat(41)),
        ("fifteen letters", "Johann"),
        ("", "Johann"),
        (&"x".repeat(256), "Johann"),
    ] {
        assert!(Guest::new(secret, name).is_err(), "{secret:?} {name:?}");
    }
    for name in ["x", &"é".repeat(40), "</script><b>\"'\\"] {
        let mut tokens = tokens();
        let token = tokens.welcome(&guest(&"x".repeat(255), name), NOW).unwrap().token;
        let info = tokens.check(&token, NOW).unwrap().info.clone().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&info).unwrap(), json!({ "name": name }));
    }
}

/// A test for each attack: its name, and the token.
macro_rules! attacks {
    ($($name:ident: $token:expr;)*) => { $(
        #[test]
        fn $name() {
            let (mut tokens, token): (Tokens, String) = (tokens(), $token);
            for _ in 0..2 {
                assert!(tokens.check(&token, NOW).is_err(), "{token}");
            }
        }
    )* };
}

fn signed(header: &str, payload: &Value) -> String {
    secret().signed(Algorithm::HS256, header, &payload.to_string()).unwrap()
}

fn parts() -> [String; 3] {
    let all: Vec<String> = token().split('.').map(str::to_owned).collect();
    all.try_into().unwrap()
}

/// Claims as guests have them, with what an application grants.
fn greedy() -> Value {
    let mut all = claims();
    all["name"] = "Johann".into();
    all["encke"] = json!({"subscribe": ["**"], "publish": ["**"]});
    all
}

attacks! {
    another_id: with(|claims| claims["sub"] = "alice".into());
    a_later_end: with(|claims| claims["exp"] = (NOW + 86_400).into());
    another_name: with(|claims| claims["name"] = "Caroline".into());
    grants_of_its_own: with(|claims| claims["encke"] = json!({"subscribe": ["**"]}));
    no_signature: format!("{}.{}.", parts()[0], parts()[1]);
    no_third_part: format!("{}.{}", parts()[0], parts()[1]);
    no_claims: format!("encke-guest..{}", parts()[2]);
    nothing_at_all: "encke-guest.".into();
    a_fourth_part: format!("{}.x", token());
    a_signature_that_is_cut: token()[..token().len() - 2].to_owned();
    a_signature_in_other_words: format!("{}=", token());
    another_beginning: token().replacen("encke", "Encke", 1);
    // The application's keys sign no guest, whatever stands before.
    an_applications_key: {
        let jwt = signed(r#"{"alg":"HS256","kid":"h"}"#, &greedy());
        format!("encke-guest.{}", jwt.split_once('.').unwrap().1)
    };
    an_applications_key_over_our_form: {
        let payload = BASE64URL_NOPAD.encode(greedy().to_string().as_bytes());
        let form = format!("encke-guest.{payload}");
        let Signer::Secret(key) = secret() else { unreachable!() };
        let signature = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key), form.as_bytes());
        format!("{form}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    };
    // What a guest was given is no JWT, under whatever header.
    a_guests_claims_under_a_header: {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","kid":"h"}"#);
        format!("{header}.{}.{}", parts()[1], parts()[2])
    };
    a_guests_claims_under_none: {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
        format!("{header}.{}.", parts()[1])
    };
    the_kid_of_guests: signed(r#"{"alg":"HS256","kid":"encke-guest"}"#, &greedy());
    a_long_one: format!("encke-guest.{}.{}", "A".repeat(4096), parts()[2]);
}

#[test]
fn a_secret_makes_no_signature() {
    // A guest may choose what is hashed, so the hash must be no signature of it.
    let mut tokens = tokens();
    let form = parts()[..2].join(".");
    let id = tokens.welcome(&guest(&form[..255.min(form.len())], "Johann"), NOW).unwrap().id;
    assert!(tokens.check(&format!("{form}.{id}"), NOW).is_err());
}

#[test]
fn an_application_may_name_its_key_as_it_likes() {
    let mut rows = keys();
    rows[0].id = Some("encke-guest".into());
    let mut tokens = Tokens::new(&config(rows)).unwrap();
    tokens.admit_guests(seed());
    let jwt = secret().token(Algorithm::HS256, Some("encke-guest"), &claims()).unwrap();
    let grant = tokens.check(&jwt, NOW).unwrap();
    assert!(!grant.is_guest && grant.subject.as_deref() == Some("alice"));
    assert!(tokens.check(&token(), NOW).unwrap().is_guest);
}
