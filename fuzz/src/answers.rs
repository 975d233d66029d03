//! What the application answers when it is asked: only a JSON object that says so lets anybody in.

use crate::script::{Stage, small};
use encke::config::{ChannelRule, Who};
use encke::dialect::hook::Reply;
use serde_json::Value;

/// Checks an answer: its status is 200 unless the first byte says otherwise.
pub fn check(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    let status = match kind {
        0 => 401,
        1 => 403,
        2 => 500,
        _ => 200,
    };
    let mut config = small();
    let rule = |pattern: &str, subscribe| ChannelRule {
        pattern: pattern.into(),
        subscribe,
        ..ChannelRule::default()
    };
    config.channels = vec![rule("room/**", Who::Hook), rule("**", Who::Anyone)];
    config.hook.url = Some("http://127.0.0.1:1/".into());
    let mut stage = Stage::new(config);
    stage.play_on(0, b"GET /sub/room/a,room/b?as=interval HTTP/1.1\r\nHost: x\r\n\r\n");
    stage.reply(&Reply::Answer { status, body: body.to_vec() });
    let answer = String::from_utf8_lossy(&stage.take(0)).into_owned();
    let read: Option<Value> = serde_json::from_slice(body).ok().filter(|_| status == 200);
    let allows = read.as_ref().filter(|read| read.is_object()).is_some_and(|read| {
        let has = |name: &str| read["allow"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        read["allow"] == true || has("room/a") && has("room/b")
    });
    let is_in = answer.starts_with("HTTP/1.1 304 ");
    assert!(!is_in || allows, "{body:?} let somebody in");
    let is_refused =
        ["401", "403", "503"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
    assert!(is_in || is_refused, "{answer}");
    stage.end();
}
