//! What the server lets strangers do beside its defaults: what the page of any visitor may, with the token that its
//! application has given it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde_json::{Value, json};

/// Seconds that a token is valid.
const LIFE: u64 = 3600;
/// The key of tokens.
const KEY: &str = "thirty-two bytes, or some more, for tokens";
/// Keys of Mercure's tokens.
const PUBLISHER_KEY: &str = "thirty-two bytes, or some more, for publishers";
const SUBSCRIBER_KEY: &str = "thirty-two bytes, or some more, for subscribers";

/// Everybody may listen, as by default. Who comes to a room is seen there, who has a token may publish in `own`, and Mercure
/// is there, with its subscriptions. A leave is told after a second, so that it is within the time of a measurement.
const SETTINGS: &str = r#"
presence_seconds = 1

[mercure]
anonymous = true
subscriptions = true

[[tokens.keys]]
id = "app"
algorithm = "HS256"
file = "app.key"

[[channels]]
match = "chat/**"
presence = true

[[channels]]
match = "own/**"
publish = "token"
"#;

/// Writes the settings, and has a server read them.
pub fn grant(command: &mut Command, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("app.key"), KEY)?;
    let settings: PathBuf = directory.join("encke.toml");
    fs::write(&settings, SETTINGS)?;
    command.arg("--config").arg(settings);
    command.env("ENCKE_MERCURE_PUBLISHER_KEY", PUBLISHER_KEY);
    command.env("ENCKE_MERCURE_SUBSCRIBER_KEY", SUBSCRIBER_KEY);
    Ok(())
}

/// What a token grants.
pub enum Rights {
    /// To be known by a name.
    Named(usize),
    /// To publish in `own`.
    Speaks,
    /// To see what Mercure publishes on these topics.
    Told(&'static str),
}

impl Rights {
    pub fn token(&self) -> String {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() + LIFE);
        match self {
            Self::Named(number) => signed(
                &json!({"sub": format!("visitor-{number}"), "exp": end, "encke": {"subscribe": ["chat/*"]}}),
                KEY,
            ),
            Self::Speaks => signed(&json!({"exp": end, "encke": {"publish": ["own/*"]}}), KEY),
            Self::Told(topics) => signed(&json!({"mercure": {"subscribe": [topics]}}), SUBSCRIBER_KEY),
        }
    }
}

fn signed(claims: &Value, key: &str) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let [header, claims] = [&header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let message = format!("{header}.{claims}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(hmac::sign(&key, message.as_bytes()).as_ref()))
}

/// The header field that shows a token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
