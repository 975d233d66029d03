//! The application's word for protocols with sessions.

use super::{COOKIE, bench, config};
use crate::config::Who;
use crate::server::tests::access::{bayeux, handshake, has, revoke, rule, status};
use crate::server::tests::bench::Bench;
use serde_json::json;

#[test]
fn bayeux_asks_before_anything_of_a_batch_is_done() {
    let mut bench = bench();
    let session = handshake(&mut bench, COOKIE, json!({}));
    let subscribe = |channel: &str| json!({"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel});
    let publish =
        |channel: &str| json!({"channel": channel, "clientId": session["clientId"], "data": "x", "id": "1"});
    let batch = json!([subscribe("/room/a"), subscribe("/news"), subscribe("/room/b"), publish("/room/c")])
        .to_string();
    let id = bench.post_waits("/bayeux", COOKIE, &batch);
    assert_eq!(bench.server.hub().gauges().subscribers, 0, "nothing is done");
    let question = bench.say(&json!({"allow": ["room/a"], "subject": "alice"}));
    assert_eq!(
        (&question["channels"], &question["client"]["technique"]),
        (&json!(["room/a", "room/b"]), &json!("bayeux"))
    );
    let question = bench.say(&json!({"allow": true}));
    assert_eq!((&question["action"], &question["channels"]), (&json!("publish"), &json!(["room/c"])));
    let heard = bench.heard(id);
    has(&heard, &["403:/room/b:subscribe_denied"]);
    assert_eq!(heard.matches("\"successful\":true").count(), 3, "{heard}");
    assert_eq!(bench.server.hub().info("room/c").unwrap().messages, 1, "published once");
    // No answer.
    let batch = json!([subscribe("/room/x")]).to_string();
    let id = bench.post_waits("/bayeux", COOKIE, &batch);
    bench.seconds(2);
    has(&bench.heard(id), &["503:/room/x:subscribe_denied"]);
    bench.asked.clear();
    // A page of somebody else.
    let refused =
        bayeux(&mut bench, "Cookie: a=b\r\nOrigin: https://evil.example\r\n", json!([subscribe("/room/y")]));
    assert_eq!(refused[0]["error"], "403:/room/y:subscribe_denied");
    assert!(bench.asked.is_empty());
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    bench.server.check(bench.world.now);
    assert!(bench.server.access.hook.listeners.is_empty());
}

#[test]
fn bayeux_over_a_websocket_waits_in_order() {
    let mut bench = bench();
    let session = handshake(&mut bench, COOKIE, json!({}));
    let (socket, opened) = bench.socket("/bayeux", COOKIE);
    status(&opened, 101);
    let client = &session["clientId"];
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": client, "subscription": "/room/a", "id": "1"}]);
    assert_eq!(bench.tell(socket, &subscribe.to_string()), "");
    let publish = json!([{"channel": "/room/a", "clientId": client, "data": "late", "id": "2"}]);
    assert_eq!(bench.tell(socket, &publish.to_string()), "");
    bench.say(&json!({"allow": true, "expires_in": 10}));
    has(&bench.heard(socket), &["\"id\":\"1\",\"channel\":\"/meta/subscribe\",\"successful\":true"]);
    bench.say(&json!({"allow": true}));
    has(&bench.heard(socket), &["\"id\":\"2\",\"channel\":\"/room/a\",\"successful\":true"]);
    let connect = json!([{"channel": "/meta/connect", "clientId": client, "connectionType": "websocket"}]);
    bench.tell(socket, &connect.to_string());
    assert_eq!(bench.tell(socket, &connect.to_string()), "");
    bench.publish("room/a", "hello", None);
    bench.turn();
    has(&bench.heard(socket), &["hello"]);
    bench.seconds(10);
    has(&bench.heard(socket), &["503::application_unanswered", "\"reconnect\":\"handshake\""]);
    bench.server.check(bench.world.now);
}

#[test]
fn fdajax_windows_wait_for_the_word() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.fdajax.win_timeout = 5000;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Hook, None));
    let mut bench = Bench::new(config);
    let session = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\nOrigin: http://x\r\n";
    let wait = "/live.fdajax?cmd=wait&types=feed&win_id=7";
    let id = bench.get_waits(wait, session);
    let question = bench.say(&json!({"allow": false, "reason": "no"}));
    assert_eq!(
        (&question["channels"], &question["client"]["technique"]),
        (&json!(["fdajax/groups/feed"]), &json!("fdajax"))
    );
    status(&bench.heard(id), 403);
    bench.seconds(2);
    let id = bench.get_waits(wait, session);
    bench.say(&json!({"allow": true, "expires_in": 10, "subject": "alice", "cache_seconds": 0}));
    assert_eq!(bench.heard(id), "");
    bench.world.advance(9_999);
    bench.turn();
    bench.say(&json!({"allow": true, "expires_in": 10, "subject": "alice", "cache_seconds": 0}));
    assert_eq!(bench.heard(id), "");
    bench.seconds(10);
    status(&bench.heard(id), 503);
    bench.asked.clear();
    let id = bench.get_waits(wait, session);
    bench.say(&json!({"allow": true, "subject": "alice"}));
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    status(&bench.heard(id), 403);
}
