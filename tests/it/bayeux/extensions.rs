//! `ext`: acknowledged delivery, clocks, replay, and what is none of our business.

use super::*;

fn acknowledging(server: &Encke) -> Session<'_> {
    let mut message = handshake();
    message["ext"] = json!({"ack": true});
    let mut session = Session::handshake(server, &message);
    assert_eq!(ack(&session.connect(json!({"ack": 0}))), 1);
    session.subscribe("/a");
    session
}

/// The number of the batch in the answer to a connect.
fn ack(answer: &[Value]) -> u64 {
    answer.last().unwrap()["ext"]["ack"].as_u64().unwrap_or_else(|| panic!("no batch: {answer:?}"))
}

#[test]
fn case_39_what_is_not_acknowledged_is_sent_again() {
    let server = start(&[]);
    let reply = &post(&mut server.connect(), &{
        let mut message = handshake();
        message["ext"] = json!({"ack": true});
        message
    })[0];
    assert_eq!(reply["ext"]["ack"], true);

    let mut session = acknowledging(&server);
    session.publish("/a", 1);
    session.publish("/a", 2);
    let lost = session.connect(json!({"ack": 1}));
    assert_eq!((events(&lost), ack(&lost)), (vec![json!(1), json!(2)], 2));
    session.publish("/a", 3);
    let mut held = session.begin_connect(&json!({"id": "5", "ext": {"ack": 1}}));
    let again = replies(&held.answer());
    assert_eq!((events(&again), ack(&again)), (vec![json!(1), json!(2), json!(3)], 3), "at once, with all");
    let mut held = session.hold(&json!({"id": "6", "ext": {"ack": 3}}));
    assert!(!held.answered_within(MOMENT), "nothing is left");
    session.publish("/a", 4);
    let next = replies(&held.answer());
    assert_eq!((events(&next), ack(&next)), (vec![json!(4)], 4));
    let again = session.connect(json!({}));
    assert_eq!(events(&again), [4], "a connect without a number acknowledges nothing");
    assert_eq!(events(&session.connect(json!({"ack": ack(&again)}))), [0; 0]);
}

#[test]
fn acknowledged_events_come_with_connects_on_sockets_too() {
    let server = start(&[]);
    let mut session = acknowledging(&server);
    let mut socket = Socket::open(&server);
    let connect = |ack: u64, id: &str| json!([{"channel": "/meta/connect", "clientId": id, "connectionType": "websocket", "id": ack, "ext": {"ack": ack}}]);
    socket.send(&connect(1, &session.id));
    socket.settle();
    session.publish("/a", 1);
    let first = socket.read();
    assert_eq!((events(&first), ack(&first)), (vec![json!(1)], 2));
    session.publish("/a", 2);
    let second = socket.ask(&connect(1, &session.id));
    assert_eq!((events(&second), ack(&second)), (vec![json!(1), json!(2)], 3));
}

#[test]
fn clocks_are_synchronised() {
    let server = start(&[]);
    let mut message = handshake();
    message["ext"] = json!({"timesync": {"tc": 1000, "l": 0, "o": 0}});
    let reply = &post(&mut server.connect(), &message)[0];
    let timesync = &reply["ext"]["timesync"];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let ts = timesync["ts"].as_i64().unwrap();
    assert!((now - ts).abs() < 10_000 && timesync["tc"] == 1000 && timesync["a"] == 1000 - ts, "{timesync}");
    let mut session = Session::begin(&server);
    let clock = json!({"timesync": {"tc": 1000, "l": 0, "o": 0}});
    for channel in ["/meta/subscribe", "/meta/unsubscribe", "/meta/connect", "/meta/disconnect"] {
        let message =
            json!({"channel": channel, "subscription": "/a", "advice": {"timeout": 0}, "ext": clock});
        let unknown = post(&mut server.connect(), &message);
        let known = session.send(&[message]);
        for reply in [&known[0], &unknown[0]] {
            assert_eq!(reply["ext"]["timesync"]["tc"], 1000, "{reply}");
        }
    }
    let mut session = Session::begin(&server);
    let synced = session.connect(json!({"timesync": {"tc": ts, "l": 5, "o": now - ts}}));
    assert!(synced[0]["ext"]["timesync"].is_object() || synced[0].get("ext").is_none());
    let mut held = session
        .hold(&json!({"id": "1", "advice": {"timeout": 50}, "ext": {"timesync": {"tc": 1, "l": 0, "o": 0}}}));
    let waited = held.answer().json()[0]["ext"]["timesync"]["p"].as_u64().unwrap();
    assert!((50..10_000).contains(&waited), "{waited}");
}

#[test]
fn other_extensions_do_no_harm() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    for ext in
        [json!({"x": [1], "ack": {"y": 2}, "replay": 5, "timesync": null}), json!(7), json!(null), json!([])]
    {
        assert!(ok(&session.connect(ext.clone())[0]), "{ext}");
        let subscribe = json!({"channel": "/meta/subscribe", "subscription": "/a", "ext": ext});
        assert!(ok(&session.ask(subscribe)));
    }
}

/// The positions that events tell.
fn positions(events: &[Value]) -> Vec<i64> {
    events.iter().map(|data| data["event"]["replayId"].as_i64().unwrap_or_else(|| panic!("{data}"))).collect()
}

#[test]
fn replay_begins_where_the_client_says() {
    let server = start(&[]);
    let reply = &post(&mut server.connect(), &handshake())[0];
    assert_eq!(reply["ext"]["replay"], true, "the client asks only a server that says so");
    let publish = |number: u32| post(&mut server.connect(), &json!({"channel": "/a", "data": {"n": number}}));
    (0..5).for_each(|number| drop(publish(number)));
    let subscribe = |position: i64| {
        let mut session = Session::begin(&server);
        session.subscribe("/b");
        let message =
            json!({"channel": "/meta/subscribe", "subscription": "/a", "ext": {"replay": {"/a": position}}});
        assert!(ok(&session.ask(message)));
        let got = session.poll();
        (session, got)
    };
    let (_, all) = subscribe(-2);
    assert_eq!(all.iter().map(|data| data["n"].clone()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let (mut live, none) = subscribe(-1);
    assert_eq!(none, [0; 0]);
    let known = positions(&all);
    assert!(known.is_sorted() && *known.last().unwrap() < 1 << 53, "numbers that a double keeps");
    let (_, rest) = subscribe(known[2]);
    assert_eq!(positions(&rest), known[3..]);
    let (_, foreign) = subscribe(12);
    assert_eq!(positions(&foreign), known, "a position of another life");
    let (_, beyond) = subscribe(known[4] + 1000);
    assert_eq!(positions(&beyond), known);
    publish(5);
    post(&mut server.connect(), &json!([{"channel": "/a", "data": {}}, {"channel": "/a", "data": "text"}]));
    let events = live.connect(json!({}));
    assert_eq!(events[0]["data"]["n"], 5);
    assert_eq!(events[0]["data"]["event"]["replayId"], events[0]["ext"]["replayId"]);
    assert!(events[1]["data"]["event"]["replayId"].is_number());
    assert!(events[2]["data"] == "text" && events[2]["ext"]["replayId"].is_number());
}
