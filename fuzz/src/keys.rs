//! Keys over HTTP, whatever they are made of: what is published under one is found under it, in its own request and in a
//! snapshot, until it is removed; and what is no key is refused.

use crate::script::{Stage, small};
use encke::config::Config;
use encke::wire::query;
use std::collections::BTreeMap;

/// Checks changes of keys, one a line: `+` or `-`, and the key.
pub fn check(data: &[u8]) {
    let mut stage = Stage::new(roomy());
    let mut values: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in data.split(|&byte| byte == b'\n').enumerate().take(40) {
        let Some((&sign, key)) = line.split_first() else { continue };
        let written: String = key.iter().map(|byte| format!("%{byte:02X}")).collect();
        let name = std::str::from_utf8(key).ok();
        let is_key = |name: &&str| (1..=255).contains(&name.len()) && !name.chars().any(char::is_control);
        let name = name.filter(is_key);
        let body = number.to_string();
        let (method, expected) = match (sign, name) {
            (b'-', Some(name)) => ("DELETE", if values.remove(name).is_some() { "200" } else { "404" }),
            (b'-', None) => ("DELETE", "400"),
            (_, Some(name)) => {
                values.insert(name.to_owned(), number);
                ("POST", "202")
            }
            (_, None) => ("POST", "400"),
        };
        let answer = ask(&mut stage, method, &format!("/pub/q?key={written}"), &body);
        // The first message makes the channel.
        let status = answer.get(9..12).map(|status| if status == "201" { "202" } else { status });
        assert_eq!(status, Some(expected), "{line:?}: {answer}");
        let Some(name) = name else { continue };
        let found = ask(&mut stage, "GET", &format!("/pub/q?key={}", query::encode_path(name)), "");
        match values.get(name) {
            Some(number) => assert!(found.ends_with(&format!("\r\n\r\n{number}")), "{name:?}: {found}"),
            None => assert!(found.starts_with("HTTP/1.1 404"), "{name:?}: {found}"),
        }
    }
    let snapshot = ask(&mut stage, "GET", "/sub/q?as=interval&latest&max=100", "");
    let body = snapshot.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let told: BTreeMap<String, usize> = match snapshot.starts_with("HTTP/1.1 200") {
        true => {
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let one = |message: &serde_json::Value| {
                let (key, data) = (message["key"].as_str()?, message["data"].as_str()?);
                Some((key.to_owned(), data.parse().ok()?))
            };
            body["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .map(|message| one(message).unwrap())
                .collect()
        }
        false => BTreeMap::new(),
    };
    assert_eq!(told, values);
}

fn roomy() -> Config {
    let mut config = small();
    config.history.total_bytes = 1 << 20;
    config.limits.head_bytes = 8192;
    config
}

fn ask(stage: &mut Stage, method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    stage.request(&format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}
