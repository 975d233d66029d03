//! Subscribing and publishing.

use super::*;

#[test]
fn case_15_overlapping_subscriptions_deliver_once() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    for subscription in ["/a", "/*", "/**"] {
        assert!(ok(&session.subscribe(subscription)));
    }
    session.publish("/a", 1);
    session.publish("/b", 2);
    assert_eq!(session.poll(), [1, 2]);
    let unsubscribe =
        json!({"channel": "/meta/unsubscribe", "subscription": ["/*", "/**", "/never"], "id": "u"});
    let reply = session.ask(unsubscribe);
    assert!(ok(&reply) && reply["subscription"] == json!(["/*", "/**", "/never"]));
    session.publish("/b", 3);
    session.publish("/a", 4);
    assert_eq!(session.poll(), [4]);
}

#[test]
fn case_16_one_segment_or_all_below() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/f/*");
    session.subscribe("/g/**");
    for channel in ["/f/a", "/f/a/b", "/f", "/g/a/b", "/g/a", "/g"] {
        assert!(ok(&session.publish(channel, channel)));
    }
    assert_eq!(session.poll(), ["/f/a", "/g/a/b", "/g/a"]);
}

#[test]
fn case_17_an_event_tells_nothing_of_its_publisher() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let reply =
        Session::begin(&server).ask(json!({"channel": "/a", "data": 1, "id": "77", "ext": {"secret": 1}}));
    assert_eq!(reply, json!({"id": "77", "channel": "/a", "successful": true}), "no data, no more");
    assert_eq!(session.connect(json!({}))[0], json!({"channel": "/a", "data": 1}));
}

#[test]
fn case_19_several_subscriptions_at_once() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let reply = session.subscribe(json!(["/a", "/b/*"]));
    assert!(ok(&reply) && reply["subscription"] == json!(["/a", "/b/*"]));
    session.publish("/a", 1);
    session.publish("/b/c", 2);
    assert_eq!(session.poll(), [1, 2]);
    let reply = session.subscribe(json!(["/c", "/bad<>"]));
    assert!(error(&reply).starts_with("405:") && reply["subscription"] == json!(["/c", "/bad<>"]));
    session.publish("/c", 3);
    assert_eq!(session.poll(), [0; 0], "all or none");
}

#[test]
fn case_20_replies_come_in_the_order_of_the_batch() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    let replies = session.send(&[
        json!({"channel": "/meta/subscribe", "subscription": "/a", "id": "x"}),
        json!({"channel": "/a", "data": 1, "id": "y"}),
        json!({"channel": "/meta/unsubscribe", "subscription": "/a", "id": "z"}),
    ]);
    let ids: Vec<&Value> = replies.iter().map(|reply| &reply["id"]).collect();
    assert!(ids == ["x", "y", "z"] && replies.iter().all(ok), "{replies:?}");
}

#[test]
fn cases_22_and_23_messages_wait_for_the_next_connect_in_order() {
    let server = start(&[]);
    let mut session = Session::handshake(&server, &handshake());
    assert!(ok(&session.publish("/before", 1)));
    assert!(ok(&session.subscribe("/a")));
    for number in 0..50 {
        session.publish("/a", number);
    }
    assert_eq!(session.poll(), (0..50).map(Value::from).collect::<Vec<_>>());
    assert_eq!(session.poll(), [0; 0]);
}

#[test]
fn case_33_what_is_no_channel() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    for channel in [
        json!("foo"),
        json!("/a/*/b"),
        json!("//x"),
        json!("/foo<>"),
        json!("/"),
        json!(""),
        json!("/a/../b"),
        json!(5),
        json!("/x".repeat(200)),
    ] {
        assert!(error(&session.subscribe(channel.clone())).starts_with("405:"), "{channel}");
        assert!(error(&session.ask(json!({"channel": channel, "data": 1}))).starts_with("405:"), "{channel}");
    }
    for pattern in ["/x/*", "/x/**", "/*"] {
        assert!(error(&session.publish(pattern, 1)).starts_with("405:"));
    }
    assert!(error(&session.ask(json!({"data": 1}))).starts_with("400:"));
    assert!(error(&session.ask(json!({"channel": "/a"}))).starts_with("402:data:"));
    assert!(error(&session.ask(json!({"channel": "/meta/subscribe"}))).starts_with("403:"));
    assert!(error(&session.subscribe(json!([]))).starts_with("403:"));
}

#[test]
fn case_34_meta_channels_are_the_protocols_own() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    for channel in ["/meta/connect", "/meta/**", "/meta/foo"] {
        assert!(error(&session.subscribe(channel)).starts_with("403:"));
    }
    for channel in ["/meta/foo", "/meta"] {
        assert!(error(&session.publish(channel, 1)).starts_with("403:"));
    }
    session.subscribe("/**");
    server.publish("meta/connect", "a trap");
    server.publish("service/x", "another");
    server.publish("a", "plain");
    assert_eq!(session.poll(), ["plain"], "nobody speaks for the server");
}

#[test]
fn case_35_services_are_private() {
    let server = start(&[]);
    let (mut one, mut other) = (Session::begin(&server), Session::begin(&server));
    assert!(ok(&one.subscribe("/service/x")) && ok(&other.subscribe(json!(["/**", "/service/**"]))));
    assert!(ok(&one.publish("/service/x", 1)));
    one.publish("/a", 2);
    assert_eq!(other.poll(), [2]);
    assert_eq!(server.history("service/x"), Vec::<String>::new());
}

#[test]
fn case_40_falsy_data_is_data() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    let all = [json!(null), json!(0), json!(""), json!(false), json!([]), json!({})];
    for data in &all {
        assert!(ok(&session.publish("/a", data.clone())));
    }
    assert_eq!(session.poll(), all);
}

#[test]
fn publishing_and_subscribing_are_allowed_by_patterns_alone() {
    let server = Encke::start(&["--bayeux-publish", "chat/**,/news", "--bayeux-subscribe", "chat/**"]);
    let mut session = Session::begin(&server);
    assert!(ok(&session.publish("/chat/a/b", 1)) && ok(&session.publish("/news", 1)));
    assert_eq!(error(&session.publish("/other", 1)), "403:/other:publish_denied");
    for good in ["/chat/a", "/chat/*", "/chat/**"] {
        assert!(ok(&session.subscribe(good)), "{good}");
    }
    for bad in ["/news", "/**", "/*"] {
        assert_eq!(error(&session.subscribe(bad)), format!("403:{bad}:subscribe_denied"));
    }
    let server = Encke::start(&[]);
    assert!(
        error(&Session::begin(&server).publish("/a", 1)).starts_with("403:"),
        "off by default, even from here"
    );
    let server = Encke::start(&["--demo"]);
    let mut session = Session::begin(&server);
    assert!(ok(&session.publish("/demo/chat", 1)) && !ok(&session.publish("/chat", 1)));
}

#[test]
fn a_publisher_needs_no_session_but_no_wrong_one_either() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    assert!(ok(&post(&mut server.connect(), &json!({"channel": "/a", "data": 1}))[0]));
    assert!(!ok(&post(&mut server.connect(), &json!({"channel": "/a", "data": 2, "clientId": "bogus"}))[0]));
    assert_eq!(session.poll(), [1]);
}

#[test]
fn a_publication_sent_again_is_published_once() {
    let server = start(&[]);
    let (mut session, mut other) = (Session::begin(&server), Session::begin(&server));
    session.subscribe("/a");
    let publish = json!({"channel": "/a", "data": 1, "id": "7"});
    assert_eq!(session.ask(publish.clone()), session.ask(publish.clone()), "the answer is the same");
    other.ask(publish);
    session.ask(json!({"channel": "/a", "data": 2, "id": "7"}));
    for _ in 0..2 {
        session.ask(json!({"channel": "/a", "data": 3}));
    }
    assert_eq!(session.poll(), [1, 1, 2, 3, 3], "only a true repeat is one");
}

#[test]
fn native_clients_and_bayeux_clients_meet() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a/*");
    let mut client = server.connect();
    client.publish("a/b", &["Content-Type: application/json"], b"{\"x\":\n1}");
    client.publish("a/b", &[], b"plain \"text\"");
    client.publish("a/b", &["Content-Type: application/octet-stream"], b"\xff");
    assert_eq!(session.poll(), [json!({"x": 1}), json!("plain \"text\""), json!({"data64": "/w=="})]);
    let (_, mut sse) = server.open("/sub/a/b?as=sse", &[]);
    session.publish("/a/b", json!({"y": "ü"}));
    sse.block();
    assert!(sse.block().unwrap().ends_with("data: {\"y\":\"ü\"}"));
}

#[test]
fn a_deleted_channel_goes_on_for_its_sessions() {
    let server = start(&[]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    session.publish("/a", 1);
    assert_eq!(session.poll(), [1]);
    assert_eq!(server.ask("DELETE", "/pub/a", &[], b"").status, 204);
    session.publish("/a", 2);
    assert_eq!(session.poll(), [2]);
}

#[test]
fn subscriptions_are_bounded() {
    let server = start(&["--bayeux-subscriptions", "3"]);
    let mut session = Session::begin(&server);
    assert!(ok(&session.subscribe(json!(["/a", "/b/*"]))));
    assert!(error(&session.subscribe(json!(["/c", "/d"]))).starts_with("403:"));
    assert!(ok(&session.subscribe("/c")) && !ok(&session.subscribe("/d")));
}

#[test]
fn messages_that_a_limit_threw_away_are_told() {
    let server = start(&["--history-messages", "3", "--history-grace-seconds", "0"]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    for number in 0..10 {
        session.publish("/a", number);
    }
    // The count is enforced in a turn in which nothing is to be delivered.
    turn(&server);
    let answer = session.connect(json!({}));
    assert_eq!(events(&answer), [7, 8, 9]);
    assert_eq!(answer.last().unwrap()["ext"], json!({"gap": ["/a"]}));
    assert!(session.connect(json!({}))[0].get("ext").is_none(), "once");

    let server =
        start(&["--history-messages", "3", "--history-grace-seconds", "0", "--bayeux-end-session-on-gap"]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    for number in 0..10 {
        session.publish("/a", number);
    }
    // The count is enforced in a turn in which nothing is to be delivered.
    turn(&server);
    let answer = session.connect(json!({}));
    assert!(answer.len() == 1 && error(&answer[0]).starts_with("402:"));
    assert_eq!(answer[0]["advice"]["reconnect"], "handshake");
}

#[test]
fn an_answer_is_bounded_and_the_rest_comes_with_the_next() {
    let server = start(&["--bayeux-answer-messages", "4", "--bayeux-answer-bytes", "120"]);
    let mut session = Session::begin(&server);
    session.subscribe("/a");
    for number in 0..6 {
        session.publish("/a", number);
    }
    session.publish("/a", "x".repeat(50));
    session.publish("/a", "y".repeat(500));
    assert_eq!(session.poll(), [0, 1, 2, 3]);
    assert_eq!(session.poll().len(), 2);
    assert_eq!(session.poll(), ["x".repeat(50)]);
    assert_eq!(session.poll(), ["y".repeat(500)], "a single one may be larger");
}

#[test]
fn channels_of_fdajax_users_are_not_for_bayeux_clients() {
    let server = Encke::start(&["--fdajax"]);
    let mut session = Session::begin(&server);
    for private in ["/fdajax/users/7", "/fdajax/users/*", "/fdajax/**", "/**"] {
        let reply = session.subscribe(private);
        assert_eq!(error(&reply), format!("403:{private}:subscribe_denied"));
    }
    assert_eq!(session.subscribe("/fdajax/groups/feed")["successful"], true);
}
