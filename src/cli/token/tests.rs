//! Tests of `encke token`.

use super::*;
use crate::config::{KeyText, TokenKey};

const NOW: u64 = 1_800_000_000;

fn key(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "keys", name].iter().collect()
}

fn config() -> Config {
    let row = |id: &str, algorithm, file| TokenKey {
        id: Some(id.into()),
        algorithm: Some(algorithm),
        file: Some(key(file)),
        text: KeyText(std::fs::read(key(file)).unwrap()),
    };
    let token_keys = vec![
        row("old", Algorithm::ES384, "p384.pub.pem"),
        row("new", Algorithm::ES256, "p256.pub.pem"),
        row("rsa", Algorithm::PS256, "rsa.pub.pem"),
    ];
    let mut config = Config { token_keys, ..Config::default() };
    config.tokens.issuer = Some("https://app.example".into());
    config.tokens.audience = Some("encke".into());
    config.tokens.claim = "rights".into();
    config
}

fn args(name: &str) -> TokenArgs {
    TokenArgs {
        key: Some(key(name)),
        subscribe: vec!["chat/*".into()],
        publish: vec!["chat/lobby".into()],
        subject: Some("alice".into()),
        expires: 3600,
        ..TokenArgs::default()
    }
}

#[test]
fn a_server_with_the_same_settings_takes_it() {
    let config = config();
    let tokens = Tokens::new(&config).unwrap();
    for name in ["p256.pem", "p384.pem", "rsa.pem"] {
        let grant = tokens.verify(&make(&args(name), &config, NOW).unwrap(), NOW).unwrap();
        assert_eq!(grant.subject.as_deref(), Some("alice"));
        assert!(grant.may_subscribe("chat/a") && grant.may_publish("chat/lobby"));
        assert!(grant.id.is_some() && grant.issued == Some(NOW));
        let shown = describe(&grant, &config, NOW);
        assert!(shown.contains("3600 s from now") && shown.contains("subscribe  chat/*\n"), "{shown}");
    }
    let first = make(&args("p256.pem"), &config, NOW).unwrap();
    assert_ne!(
        claimed(&first),
        claimed(&make(&args("p256.pem"), &config, NOW).unwrap()),
        "no two have one jti"
    );
}

#[test]
fn what_a_server_would_refuse_is_not_made() {
    let config = config();
    for args in [
        args("ed25519.pem"),
        args("p256.pub.pem"),
        args("nowhere"),
        TokenArgs { kid: Some("rsa".into()), ..args("p256.pem") },
        TokenArgs { algorithm: Some(Algorithm::ES256), ..args("rsa.pem") },
        TokenArgs { issuer: Some("another".into()), ..args("p256.pem") },
        TokenArgs { subscribe: vec!["a/**/b".into()], ..args("p256.pem") },
        TokenArgs { expires: 31 * 86_400, ..args("p256.pem") },
    ] {
        assert!(make(&args, &config, NOW).is_err(), "{args:?}");
    }
    // Without settings there is nobody to refuse it.
    assert!(make(&args("ed25519.pem"), &Config::default(), NOW).is_ok());
}

#[test]
fn times() {
    for (text, expected) in [("90", 90), ("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
        assert_eq!(seconds(text), Ok(expected));
    }
    for text in ["", "h", "0s", "-1s", "1w", "1h30m", "99999999999999999999d"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}
