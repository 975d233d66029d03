//! Rights that are taken back, and settings that change.

use super::super::bench::Bench;
use super::{NOW, SECRET, alice, bayeux, bench, config, handshake, has, revoke, rule, status, token, with};
use crate::cli::token::sign::Signer;
use crate::config::{Algorithm, Config, KeyText, Who};
use serde_json::{Value, json};

#[test]
fn revocation_ends_listening_in_the_same_turn_on_every_technique() {
    let ends: [(&str, &[&str]); 9] = [
        ("?timeout=300", &["HTTP/1.1 403 ", "error=\"insufficient_scope\"", "Encke-Next: "]),
        ("?as=jsonp&callback=f", &["/**/f([],\"", "\",{\"revoked\":true});"]),
        ("?as=sse", &["event: encke.revoked\nid: ", "\ndata: {\"revoked\":true}\n\n", "0\r\n\r\n"]),
        ("?as=sse-envelope", &["data: {\"revoked\":true,\"next\":\""]),
        ("?as=stream", &["{\"revoked\":true,\"next\":\"", "0\r\n\r\n"]),
        ("?as=raw", &["0\r\n\r\n"]),
        ("?as=iframe", &["<script>e({\"revoked\":true"]),
        ("?as=multipart", &["Encke-Revoked: true\r\n"]),
        ("?as=x-mixed-replace", &["Encke-Revoked: true\r\n"]),
    ];
    let mut bench = bench();
    let bob = token("bob", NOW + 60, &["chat/**"], &[]);
    let listen = |bench: &mut Bench, query: &str, token: &str| {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/chat/a{query} HTTP/1.1\r\nHost: x\r\n{}\r\n", with(token)));
        bench.turn();
        bench.heard(id);
        id
    };
    let concerned: Vec<_> =
        ends.iter().map(|(query, expected)| (listen(&mut bench, query, &alice()), query, expected)).collect();
    let other = listen(&mut bench, "?as=stream", &bob);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 9);
    bench.publish("chat/a", "secret", None);
    bench.turn();
    for (id, query, expected) in concerned {
        let heard = bench.heard(id);
        has(&heard, expected);
        assert!(!heard.contains("secret"), "{query}: {heard}");
    }
    has(&bench.heard(other), &["secret"]);
    // A replay is refused, whether the token had been remembered or not; one that was issued later is not.
    let refused = bench.get_with("/sub/chat/a?as=interval", &with(&alice()));
    status(&refused, 401);
    has(&refused, &["error=\"invalid_token\"", "the token was revoked"]);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&bob)), 304);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 0);
    let later = json!({"sub": "alice", "iat": NOW + 1, "exp": NOW + 60, "encke": {"subscribe": ["chat/**"]}});
    let later = Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &later).unwrap();
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&later)), 304);
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice", "before": NOW + 1})), 0);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&later)), 401);
}

#[test]
fn revocation_of_one_token_and_of_some_channels() {
    let mut bench = bench();
    let numbered = |id: &str| {
        let claims = json!({"sub": "alice", "jti": id, "iat": NOW, "exp": NOW + 60,
            "encke": {"subscribe": ["chat/**"], "publish": ["chat/**"]}});
        Signer::Secret(SECRET.into()).token(Algorithm::HS256, Some("k"), &claims).unwrap()
    };
    let (one, _) = bench.socket("/sub/chat/a", &with(&numbered("1")));
    let (two, _) = bench.socket("/sub/chat/a,chat/b,news", &with(&numbered("2")));
    let (plain, _) = bench.socket("/sub/chat/a", &with(&alice()));
    assert_eq!(revoke(&mut bench, &json!({"token": "1"})), 1);
    has(&bench.heard(one), &["{\"revoked\":true,\"next\":\"", "\u{11}3the right to listen was revoked"]);
    // Pasting a whole token does what is meant, and pasting rubbish is told.
    assert_eq!(revoke(&mut bench, &json!({"token": alice()})), 1);
    has(&bench.heard(plain), &["{\"revoked\":true,\"next\":\""]);
    status(&bench.get_with("/sub/chat/a", &with(&alice())), 401);

    // What was published before, and had not been delivered, is not either.
    bench.world.socket(two).capacity = 0;
    bench.publish("news", &"x".repeat(100), None);
    bench.turn();
    bench.publish("chat/b", "secret", None);
    bench.turn();
    assert_eq!(revoke(&mut bench, &json!({"token": numbered("2"), "channels": ["chat/b", "chat/z"]})), 1);
    bench.world.socket(two).capacity = 1 << 20;
    bench.world.edges.push(two);
    bench.turn();
    let heard = bench.heard(two);
    has(&heard, &["{\"revoked\":true,\"channels\":[\"chat/b\"]}", "xxxxx"]);
    assert!(!heard.contains("secret"), "{heard}");
    bench.publish("chat/b", "secret", None);
    bench.publish("chat/a", "hello", None);
    bench.turn();
    let heard = bench.heard(two);
    assert!(heard.contains("hello") && !heard.contains("secret"), "{heard}");
    has(&bench.tell(two, "{\"subscribe\":[\"chat/*\"]}"), &["is not granted"]);
    has(&bench.tell(two, r#"{"publish":{"channel":"chat/z","data":1},"ref":2}"#), &["is not granted"]);
    has(&bench.tell(two, r#"{"publish":{"channel":"chat/a","data":1},"ref":2}"#), &["\"ok\""]);
    status(&bench.get_with("/sub/chat/b?as=interval", &with(&numbered("2"))), 403);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&numbered("2"))), 304);
}

#[test]
fn revoking_is_for_who_publishes_everything() {
    let mut bench = bench();
    let body = "{\"subject\":\"alice\"}";
    status(&bench.post_with("/revoke", "", body), 401);
    // A token that is good is not good for this.
    let refused = bench.post_with("/revoke", &with(&token("root", NOW + 60, &["**"], &["**"])), body);
    status(&refused, 403);
    has(&refused, &["WWW-Authenticate: Bearer error=\"insufficient_scope\""]);
    status(&bench.post_with("/revoke", &with("x"), body), 401);
    let application = with("application-token-2");
    status(&bench.get_with("/revoke", &application), 405);
    for body in [
        "",
        "{}",
        "[]",
        "{\"subject\":\"a\",\"token\":\"b\"}",
        "{\"subject\":\"\"}",
        "{\"subject\":7}",
        "{\"subject\":\"a\",\"channels\":[\"a//b\"]}",
        "{\"subject\":\"a\",\"channel\":[\"a\"]}",
        "{\"token\":\"eyJhbGciOiJIUzI1NiJ9.e30.AAAA\"}",
    ] {
        let refused = bench.post_with("/revoke", &application, body);
        status(&refused, 400);
        assert!(!refused.contains("eyJ"), "{refused}");
    }
    let mut config = config();
    config.admin_listen = Some(([127, 0, 0, 1], 1).into());
    status(&Bench::new(config).post_with("/revoke", &application, body), 404);
}

#[test]
fn revocation_reaches_bayeux_sessions_and_windows() {
    let mut config = config();
    config.fdajax.enabled = true;
    config.channels.insert(0, rule("fdajax/groups/feed", Who::Token, None));
    let mut bench = Bench::new(config);
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    let other = handshake(&mut bench, "", json!({"token": token("bob", NOW + 60, &["chat/**"], &[])}));
    let connect = |session: &Value| json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    for session in [&session, &other] {
        for channel in ["/chat/a", "/chat/b"] {
            let subscribe = json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": channel}]);
            assert_eq!(bayeux(&mut bench, "", subscribe)[0]["successful"], true);
        }
        bayeux(&mut bench, "", connect(session));
    }
    let held = bench.connect();
    let body = connect(&session).to_string();
    bench.send(
        held,
        &format!("POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    );
    let window = bench.connect();
    let carol = with(&token("carol", NOW + 60, &["fdajax/groups/*"], &[]));
    let cookie = "Cookie: _session_id=abcdef0123456789abcdef0123456789\r\n";
    bench.send(
        window,
        &format!("GET /live.fdajax?cmd=wait&types=feed&win_id=7 HTTP/1.1\r\nHost: x\r\n{cookie}{carol}\r\n"),
    );
    bench.turn();
    assert_eq!(bench.heard(held) + &bench.heard(window), "");
    assert_eq!(revoke(&mut bench, &json!({"subject": "alice"})), 1);
    has(&bench.heard(held), &["\"successful\":false", "403::revoked", "\"reconnect\":\"none\""]);
    assert_eq!(revoke(&mut bench, &json!({"subject": "carol"})), 1);
    has(&bench.heard(window), &["HTTP/1.1 403 "]);
    assert_eq!(revoke(&mut bench, &json!({"subject": "bob", "channels": ["chat/a"]})), 1);
    bench.publish("chat/a", "secret", None);
    bench.publish("chat/b", "hello", None);
    let got = bayeux(&mut bench, "", connect(&other)).to_string();
    assert!(got.contains("hello") && !got.contains("secret"), "{got}");
}

#[test]
fn after_a_reload_everybody_is_judged_again() {
    let mut bench = bench();
    let listen = |bench: &mut Bench, channel: &str, fields: &str| {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/{channel}?as=stream HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        bench.turn();
        bench.heard(id);
        id
    };
    let by_token = listen(&mut bench, "chat/a", &with(&alice()));
    let open = listen(&mut bench, "news", "");
    let closing = listen(&mut bench, "wall/a", "");
    let (socket, _) = bench.socket("/sub/wall/a,news", "");
    let session = handshake(&mut bench, "", json!({"token": alice()}));
    let subscribe =
        json!([{"channel": "/meta/subscribe", "clientId": session["clientId"], "subscription": "/chat/a"}]);
    bayeux(&mut bench, "", subscribe);

    // The wall is closed; the key stays.
    let mut config = config();
    config.channels[2].subscribe = Who::Token;
    bench.server.reconfigure(config.clone());
    bench.turn();
    assert_eq!(bench.heard(by_token) + &bench.heard(open), "");
    has(&bench.heard(closing), &["{\"revoked\":true,\"next\":\""]);
    has(&bench.heard(socket), &["{\"revoked\":true,\"channels\":[\"wall/a\"]}"]);
    status(&bench.get_with("/sub/wall/a", ""), 401);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 304);

    // The key is exchanged.
    config.token_keys[0].text = KeyText(b"another secret that is long enough!!".to_vec());
    bench.server.reconfigure(config.clone());
    bench.turn();
    assert_eq!(bench.heard(open) + &bench.heard(socket), "");
    has(&bench.heard(by_token), &["{\"revoked\":true,\"next\":\""]);
    status(&bench.get_with("/sub/chat/a?as=interval", &with(&alice())), 401);
    let connect = json!([{"channel": "/meta/connect", "clientId": session["clientId"], "connectionType": "long-polling"}]);
    assert_eq!(bayeux(&mut bench, "", connect)[0]["successful"], false);

    // Rules go altogether, and come where there were none.
    bench.server.reconfigure(Config { channels: Vec::new(), token_keys: Vec::new(), ..config.clone() });
    bench.turn();
    let late = listen(&mut bench, "chat/a", "");
    bench.server.reconfigure(config);
    bench.turn();
    has(&bench.heard(late), &["{\"revoked\":true"]);
}
