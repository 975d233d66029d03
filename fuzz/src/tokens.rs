//! Tokens: nobody gets in who does not know the key, and claims that are signed grant no more, and no longer, than they say.

use data_encoding::BASE64URL_NOPAD;
use encke::broker::access::{Draft, MercureTokens, Role, Tokens};
use encke::config::{Algorithm, Config, KeyText, TokenKey};
use ring::hmac;
use serde_json::Value;

const KEY: &[u8] = b"a secret of thirty-two bytes at least";
const NOW: u64 = 1_700_000_000;

/// Checks a text: as a whole token, as the claims of one, and as its header with the claims on the next line.
pub fn check(data: &[u8]) {
    let mut config = Config::default();
    let text = KeyText(KEY.to_vec());
    config.token_keys =
        vec![TokenKey { id: Some("k".into()), algorithm: Some(Algorithm::HS256), file: None, text }];
    config.mercure.subscriber_key = Some(String::from_utf8_lossy(KEY).into_owned());
    config.mercure.publisher_key = config.mercure.subscriber_key.clone();
    let mut tokens = Tokens::new(&config).expect("a key");
    let mut mercure = MercureTokens::new(&config).expect("a key");
    if let Ok(text) = std::str::from_utf8(data)
        && !is_signed(text)
    {
        assert!(tokens.check(text, NOW).is_err(), "{text:?} is nobody's");
        for role in [Role::Publisher, Role::Subscriber] {
            for draft in [Draft::Classic, Draft::V1] {
                assert!(mercure.check(role, draft, text, NOW * 1000).is_err(), "{text:?} is nobody's");
            }
        }
    }
    let usual = &br#"{"alg":"HS256","typ":"JWT","kid":"k"}"#[..];
    let at = data.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    for (header, claims) in [(usual, data), (&data[..at], data.get(at + 1..).unwrap_or_default())] {
        let token = signed(header, claims);
        let read: Option<Value> = serde_json::from_slice(claims).ok();
        if let Ok(grant) = tokens.check(&token, NOW) {
            let read = read.as_ref().expect("claims are JSON");
            assert_eq!(grant.subject.as_deref(), read["sub"].as_str(), "{read}");
            let ends = read["exp"].as_f64().expect("a token ends");
            assert!(ends as u64 + config.tokens.leeway_seconds >= NOW, "{read} has ended");
            for (what, patterns) in [("subscribe", &grant.subscribe), ("publish", &grant.publish)] {
                let said = read["encke"][what].as_array().cloned().unwrap_or_default();
                assert!(
                    patterns.iter().all(|pattern| said.iter().any(|one| one == &**pattern)),
                    "{read}: {patterns:?}"
                );
            }
            assert!(
                tokens.check(&token, NOW + 400 * 86_400 * 100).is_err(),
                "no token counts for ever: {read}"
            );
        }
        for draft in [Draft::Classic, Draft::V1] {
            if let Ok(grant) = mercure.check(Role::Subscriber, draft, &token, NOW * 1000) {
                let read = read.as_ref().expect("claims are JSON");
                let said = read.to_string();
                let may = grant.may_subscribe("https://example.com/a topic that nobody has granted");
                assert!(
                    !may || said.contains('*') || said.contains('{') || said.contains("nobody"),
                    "{said}"
                );
            }
        }
    }
}

/// Whether whoever made it knew the key.
fn is_signed(text: &str) -> bool {
    let Some((message, signature)) = text.rsplit_once('.') else { return false };
    let Ok(signature) = BASE64URL_NOPAD.decode(signature.as_bytes()) else { return false };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, KEY), message.as_bytes(), &signature).is_ok()
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}
