//! What the unmodified clients put on the wire, as recorded: CometD's 9.0.0 and Faye's 1.4.3.

use super::*;

/// A request as CometD's client sends it under Node: chunked, with the kind of message below the mount.
fn chunked(client: &mut Client, below: &str, messages: &Value) -> Vec<Value> {
    let body = messages.to_string();
    client.send(format!(
        "POST /bayeux{below} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
         Content-Type: application/json;charset=UTF-8\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ));
    replies(&client.answer())
}

/// All that CometD's client asks for in its life, by whatever way `ask` takes: (path below the mount, messages) →
/// replies. Its connects and batches are its own; a reply it does not find by its id stalls it.
fn cometd(connection_type: &str, mut ask: impl FnMut(&str, Value) -> Vec<Value>) {
    let timesync = json!({"tc": 1_795_379_519_018_u64, "l": 0, "o": 0});
    let shaken = ask(
        "/handshake",
        json!([{"id": "1", "version": "1.0", "minimumVersion": "1.0", "channel": "/meta/handshake",
            "supportedConnectionTypes": [connection_type], "advice": {"timeout": 60000, "interval": 0},
            "ext": {"timesync": timesync, "ack": true}}]),
    );
    assert!(ok(&shaken[0]) && shaken[0]["id"] == "1" && shaken[0]["ext"]["ack"] == true, "{shaken:?}");
    let id = &shaken[0]["clientId"];
    let batch = ask(
        "/",
        json!([
            {"id": "2", "channel": "/meta/subscribe", "subscription": "/foo/*", "clientId": id},
            {"id": "3", "channel": "/foo/bar", "data": {"hello": "world"}, "clientId": id, "ext": {}},
        ]),
    );
    assert!(batch.iter().all(ok) && batch[0]["id"] == "2" && batch[1]["id"] == "3", "{batch:?}");
    let first = ask(
        "/connect",
        json!([{"id": "4", "channel": "/meta/connect", "connectionType": connection_type,
            "advice": {"timeout": 0}, "clientId": id, "ext": {"timesync": timesync, "ack": 0}}]),
    );
    assert_eq!(first[0], json!({"channel": "/foo/bar", "data": {"hello": "world"}}));
    assert!(ok(&first[1]) && first[1]["id"] == "4" && first[1]["ext"]["ack"] == 1, "{first:?}");
    ask("/", json!([{"id": "5", "channel": "/foo/bar", "data": 2, "clientId": id, "ext": {}}]));
    let second = ask(
        "/connect",
        json!([{"id": "6", "channel": "/meta/connect", "connectionType": connection_type, "clientId": id, "ext": {"ack": 1}}]),
    );
    assert_eq!(
        (events(&second), &second[1]["id"], &second[1]["ext"]["ack"]),
        (vec![json!(2)], &json!("6"), &json!(2))
    );
    let left = ask("/disconnect", json!([{"id": "7", "channel": "/meta/disconnect", "clientId": id}]));
    assert_eq!(left, [json!({"id": "7", "channel": "/meta/disconnect", "successful": true})]);
}

#[test]
fn case_9_cometds_client_by_long_polling() {
    let server = start(&[]);
    let mut client = server.connect();
    cometd("long-polling", |below, messages| chunked(&mut client, below, &messages));
}

#[test]
fn case_10_cometds_client_by_websocket() {
    let server = start(&[]);
    let mut socket = Socket::open(&server);
    cometd("websocket", |_, messages| socket.ask(&messages));
}

#[test]
fn case_11_a_server_that_comes_back_sends_its_clients_to_handshake() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let id = session.id.clone();
    drop(server);
    let server = start(&[]);
    let mut client = server.connect();
    let connect =
        json!({"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "id": "9"});
    let reply = &post(&mut client, &connect)[0];
    assert!(error(reply).starts_with("402::") && reply["id"] == "9");
    assert_eq!(reply["advice"], json!({"reconnect": "handshake", "interval": 0}));
    assert!(!ok(&post(&mut client, &json!({"channel": "/a", "data": 1, "clientId": id}))[0]));
    let mut back = Session::begin(&server);
    assert!(back.id != id && ok(&back.subscribe("/a")));
    back.publish("/a", 2);
    assert_eq!(back.poll(), [2]);
}

#[test]
fn fayes_client_by_long_polling() {
    let server = start(&[]);
    let mut client = server.connect();
    let shaken = &post(
        &mut client,
        &json!([{"channel": "/meta/handshake", "version": "1.0",
            "supportedConnectionTypes": ["in-process", "websocket", "long-polling"], "id": "1"}]),
    )[0];
    assert!(ok(shaken) && shaken["advice"]["reconnect"] == "retry", "{shaken}");
    let id = &shaken["clientId"];
    let batch = post(
        &mut client,
        &json!([
            {"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "id": "2", "advice": {"timeout": 0}},
            {"channel": "/meta/subscribe", "clientId": id, "subscription": "/foo/*", "id": "4"},
        ]),
    );
    assert!(batch.len() == 2 && batch.iter().all(ok), "{batch:?}");
    assert!(batch.iter().any(|reply| reply["id"] == "4" && reply["subscription"] == "/foo/*"));
    let mut held = server.connect();
    let connect =
        json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "long-polling", "id": "5"}]);
    held.request("POST", "/bayeux", &["Content-Type: application/json"], connect.to_string().as_bytes());
    server.does(held.addr(), Some("bayeux"));
    let publish = json!([{"channel": "/foo/self", "data": {"me": 1}, "clientId": id, "id": "6"}]);
    for _ in 0..2 {
        let reply = post(&mut client, &publish);
        assert_eq!(
            reply,
            [json!({"id": "6", "channel": "/foo/self", "successful": true})],
            "also when sent again"
        );
    }
    let woken = replies(&held.answer());
    assert_eq!(woken[0], json!({"channel": "/foo/self", "data": {"me": 1}}));
    assert!(woken.len() == 2 && woken[1]["id"] == "5" && ok(&woken[1]));
}
