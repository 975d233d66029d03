//! What a delivery costs, counted; and the traps that simulations have found, each on its own.

mod crowds;

use super::bench::{Bench, post};
use crate::config::Config;
use crate::conn::{ConnId, Connection, Phase};

use crowds::told;

/// One message after the other, as a stream of JSON lines tells them.
fn data(text: &str) -> Vec<&str> {
    text.split("\"data\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_message_is_encoded_once_a_format() {
    let mut bench = Bench::new(Config::default());
    let accept = "HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n";
    for _ in 0..1000 {
        for technique in ["poll", "sse", "stream", "raw"] {
            bench.subscriber(&format!("a?as={technique}"));
        }
        bench.client(&format!("GET /sub/a?as=poll {accept}"));
        bench.client("GET /sub/a?as=sse HTTP/1.0\r\n\r\n");
    }
    bench.publish("a", "hello", None);
    bench.turn();
    assert_eq!(bench.server.stats().messages_delivered, 6000);
    assert_eq!(bench.server.stats().frames_encoded, 6);
    bench.publish("a", "two", None);
    bench.publish("a", "three", None);
    bench.turn();
    assert_eq!(bench.server.stats().frames_encoded, 6 + 2 * 4, "the streams are still there");
}

#[test]
fn a_frame_leaves_when_all_have_it() {
    let mut bench = Bench::new(Config::default());
    for technique in ["poll", "sse", "stream", "raw"] {
        bench.subscriber(&format!("a?as={technique}"));
    }
    let slow = bench.subscriber("a?as=stream");
    bench.read(slow);
    // What the history grows by with one more message.
    let grows = |bench: &mut Bench, channel| {
        let before = bench.server.broker.hub.gauges().bytes;
        bench.publish(channel, "hello", None);
        bench.turn();
        bench.server.broker.hub.gauges().bytes - before
    };
    let alone = grows(&mut bench, "nobody listens");
    assert_eq!(grows(&mut bench, "a"), alone);
    assert_eq!(data(&bench.read(slow)), ["hello"]);
    bench.world.socket(slow).capacity = 10;
    assert!(grows(&mut bench, "a") > alone, "the end of a frame is still to be written");
    assert_eq!(grows(&mut bench, "a"), alone, "the next can be encoded again");
    let mut text = bench.read(slow);
    bench.world.socket(slow).capacity = 1 << 30;
    bench.turn();
    text += &bench.read(slow);
    assert_eq!(data(&text), ["hello", "hello"]);
}

#[test]
fn a_delivery_is_one_write() {
    let mut bench = Bench::new(Config::default());
    let streams = ["sse", "stream", "raw"].map(|technique| bench.subscriber(&format!("a,b?as={technique}")));
    let poll = bench.subscriber("a,b?as=poll");
    for id in streams {
        assert_eq!(bench.writes(id), 1, "head and opening");
    }
    assert_eq!(bench.writes(poll), 0);
    bench.publish("a", "one", None);
    bench.turn();
    assert_eq!([streams[0], streams[1], streams[2], poll].map(|id| bench.writes(id)), [2, 2, 2, 1]);
    for text in ["two", "three", "four"] {
        bench.publish("b", text, None);
    }
    bench.turn();
    for id in streams {
        assert_eq!((bench.writes(id), bench.world.socket(id).slices), (3, 3), "what waits leaves together");
    }
    assert_eq!(bench.writes(poll), 1, "it has not asked again");
    bench.send(poll, "GET /sub/a,b?after=10:1 HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.turn();
    assert_eq!(bench.writes(poll), 2);
    assert!(bench.read(poll).ends_with("\r\n\r\ntwo"));
}

#[test]
fn the_publisher_is_answered_before_the_fan_out() {
    let mut bench = Bench::new(Config::default());
    let stream = bench.subscriber("a?as=sse");
    let publisher = bench.connect();
    bench.order.clear();
    bench.send(publisher, &post("a", "x"));
    bench.turn();
    assert_eq!(bench.order, [publisher, stream]);
}

/// A hundred kilobytes for each of many others take longer than anybody should wait for ten bytes.
#[test]
fn what_is_large_comes_after_what_is_small() {
    let mut bench = Bench::new(Config::default());
    let many =
        ["big?as=sse", "big,other?as=stream", "big?as=poll", "big,other?as=poll", "big?as=iframe&callback=f"];
    let many = many.map(|query| bench.subscriber(query));
    let few = ["small?as=stream", "small,other?as=sse", "small?as=poll"].map(|query| bench.subscriber(query));
    let large = "x".repeat(100_000);
    bench.publish("big", &large, None);
    bench.publish("small", "x", None);
    bench.order.clear();
    bench.turn();
    assert_eq!(bench.order.len(), many.len() + few.len(), "each is written to once");
    let places = |ids: &[ConnId]| -> Vec<usize> {
        ids.iter().map(|id| bench.order.iter().position(|other| other == id).unwrap()).collect()
    };
    assert!(places(&few).into_iter().max() < places(&many).into_iter().min(), "{:?}", bench.order);
    for id in many {
        assert!(bench.read(id).contains(&large));
    }
    bench.server.check(bench.world.now);
}

/// They need not have waited for it.
#[test]
fn what_is_kept_and_much_comes_after_what_is_small() {
    let mut bench = Bench::new(Config::default());
    bench.publish("big", &"x".repeat(100_000), None);
    (0..50).for_each(|_| bench.publish("long", "x", None));
    bench.turn();
    let many =
        ["big?after=oldest", "big?as=jsonp&callback=f&after=oldest", "long?as=jsonp&callback=f&after=oldest"];
    let few = bench.subscriber("small?as=stream");
    bench.order.clear();
    let many = many.map(|query| {
        let id = bench.connect();
        bench.send(id, &format!("GET /sub/{query} HTTP/1.1\r\nHost: x\r\n\r\n"));
        id
    });
    bench.publish("small", "x", None);
    bench.turn();
    assert_eq!(bench.order.first(), Some(&few));
    for id in many {
        assert!(bench.read(id).starts_with("HTTP/1.1 200 OK"));
    }
    bench.server.check(bench.world.now);
}

#[test]
fn who_waits_holds_no_buffer() {
    let mut bench = Bench::new(Config::default());
    let ids =
        ["poll", "sse", "stream", "raw"].map(|technique| bench.subscriber(&format!("a?as={technique}")));
    bench.publish("a", "x", None);
    bench.turn();
    for id in ids {
        let Connection { input, output, .. } = &bench.server.connections[id.slot];
        assert!(input.is_none() && output.is_none());
    }
}

#[test]
fn what_somebody_who_waits_costs() {
    const SUBSCRIBER_BYTES: usize = 40;
    const PLACE_IN_LIST_BYTES: usize = 8;
    const TIMER_BYTES: usize = 12;
    let state = size_of::<Connection>() + SUBSCRIBER_BYTES;
    assert!(state <= 104 && state + PLACE_IN_LIST_BYTES + TIMER_BYTES <= 128, "{state}");
}

#[test]
fn a_message_of_no_lifetime_reaches_those_who_listen() {
    let mut config = Config::default();
    config.turn.deliveries = 1;
    let mut bench = Bench::new(config);
    let poll = bench.subscriber("a?as=poll");
    let stream = bench.subscriber("a?as=stream");
    bench.publish("a", "now", Some(0));
    bench.turn();
    assert!(bench.read(poll).ends_with("\r\n\r\nnow"));
    assert_eq!(data(&bench.read(stream)), ["now"]);
    let (_, late) = bench.client("GET /sub/a?as=interval&after=oldest HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(late.starts_with("HTTP/1.1 304 "), "{late}");
    assert_eq!(bench.server.broker.hub.gauges().bytes, 0);
}

#[test]
fn a_burst_larger_than_the_ring_arrives_whole() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (2, 0);
    config.turn.deliveries = 1;
    let mut bench = Bench::new(config);
    let streams = [bench.subscriber("a?as=stream"), bench.subscriber("a,b?as=stream")];
    let burst: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    for text in &burst {
        bench.publish("a", text, None);
    }
    bench.turn();
    for id in streams {
        assert_eq!(data(&bench.read(id)), burst);
    }
    assert_eq!(bench.server.broker.hub.gauges().messages, 2, "cut when the turn ends");
}

#[test]
fn a_slow_reader_is_told_what_it_lost() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (2, 0);
    let mut bench = Bench::new(config);
    let stream = bench.subscriber("a?as=stream");
    bench.world.socket(stream).capacity = 10;
    for text in ["one", "two", "three", "four", "five"] {
        bench.publish("a", text, None);
        bench.turn();
    }
    let mut text = bench.read(stream);
    bench.world.socket(stream).capacity = 1 << 30;
    bench.turn();
    text += &bench.read(stream);
    let (before, after) =
        text.split_once("{\"gap\":{\"channel\":\"a\",\"after\":\"10:1\",\"oldest\":\"10:4\"}}").unwrap();
    assert_eq!((data(before), data(after)), (vec!["one"], vec!["four", "five"]));
}

#[test]
fn a_poll_at_its_deadline_gets_what_was_just_published() {
    let mut bench = Bench::new(Config::default());
    let poll = bench.subscriber("a?as=poll&timeout=1");
    bench.world.advance(1_100);
    bench.publish("a", "in time", None);
    bench.turn();
    assert!(bench.read(poll).ends_with("\r\n\r\nin time"));
}

#[test]
fn a_poll_behind_a_blocked_answer_gets_what_came_meanwhile() {
    let mut bench = Bench::new(Config::default());
    let id = bench.connect();
    bench.world.socket(id).capacity = 20;
    bench.send(id, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.publish("a", "meanwhile", None);
    bench.turn();
    bench.world.socket(id).capacity = 1 << 30;
    bench.read(id);
    bench.turn();
    assert!(bench.read(id).ends_with("\r\n\r\nmeanwhile"));
}

#[test]
fn a_body_that_arrives_behind_a_blocked_answer_is_kept() {
    for chunked in [false, true] {
        let mut bench = Bench::new(Config::default());
        let id = bench.connect();
        bench.world.socket(id).capacity = 20;
        let (coding, body) = match chunked {
            true => ("Transfer-Encoding: chunked", "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"),
            false => ("Content-Length: 5", "hello"),
        };
        let head = format!("POST /pub/a HTTP/1.1\r\nHost: x\r\n{coding}\r\n\r\n");
        bench.send(id, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{head}{}", &body[..1]));
        bench.send(id, &format!("{}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &body[1..]));
        bench.world.socket(id).capacity = 1 << 30;
        bench.read(id);
        bench.turn();
        let text = bench.read(id);
        assert!(text.contains("HTTP/1.1 202 ") && text.ends_with("\r\n\r\nok\n"), "{text}");
        assert_eq!(bench.server.broker.hub.journal[0].publication.data.bytes(), b"hello");
    }
}

#[test]
fn a_slow_reader_of_an_answer_is_not_idle() {
    let mut config = Config::default();
    config.limits.unread_bytes_per_second = 1;
    let mut bench = Bench::new(config);
    bench.publish("a", &"x".repeat(1000), None);
    let id = bench.connect();
    bench.world.socket(id).capacity = 1;
    bench.send(id, "GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut text = String::new();
    while !text.ends_with(&"x".repeat(1000)) {
        assert!(!bench.world.at_end(id), "cut off after {}", text.len());
        text += &bench.read(id);
        bench.turn();
        bench.world.advance(1_000);
    }
}

#[test]
fn frames_for_a_broken_connection_are_accounted_for() {
    let mut config = Config::default();
    (config.history.messages, config.history.grace_seconds) = (1, 0);
    let mut bench = Bench::new(config);
    for technique in ["sse", "poll"] {
        let id = bench.subscriber(&format!("a?as={technique}"));
        bench.world.socket(id).broken = true;
        bench.publish("a", "x", None);
        bench.turn();
    }
    assert!(
        bench
            .server
            .connections
            .iter()
            .all(|(_, connection)| !matches!(connection.phase, Phase::Streaming(_)))
    );
}

#[test]
fn a_pattern_is_told_when_the_channels_it_knew_are_gone() {
    let mut bench = Bench::new(Config::default());
    let (_, head) = bench.client("GET /sub/c/*?as=stream&after=z:7 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.contains("{\"gap\":{\"channel\":\"c/*\",\"after\":\"z:7\",\"oldest\":\"10:0\"}}"), "{head}");
    bench.publish("c/x", "lost", None);
    bench.client("DELETE /pub/c/x HTTP/1.1\r\nHost: x\r\n\r\n");
    let (_, answer) = bench.client("GET /sub/c/*,d/*?after=10:0 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("\r\nEncke-Gap: c/%2A\r\n"), "what d/* matches has lost nothing: {answer}");
    let (_, answer) = bench.client("GET /sub/d/*?after=10:0 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer, "", "it waits");
}

#[test]
fn what_was_asked_before_half_closing_is_answered_in_order() {
    let asked = "GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /sub/a HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /heal";
    for capacity in [1 << 30, 10] {
        let mut bench = Bench::new(Config::default());
        let (id, _) = bench.client(asked);
        bench.server.hang_up(bench.world.now, id, &mut bench.world);
        bench.world.socket(id).capacity = capacity;
        let mut text = String::new();
        for news in ["one", "two"] {
            bench.publish("a", news, None);
            bench.turn();
            for _ in 0..200 {
                text += &bench.read(id);
                bench.turn();
            }
        }
        let answers: Vec<&str> =
            text.split("HTTP/1.1 ").map(|answer| answer.get(..3).unwrap_or("")).collect();
        assert_eq!(answers, ["", "200", "200", "200", "404"], "{text}");
        assert!(text.find("\r\n\r\none") < text.find("\r\n\r\nok") && text.contains("\r\n\r\ntwo"), "{text}");
        assert!(bench.world.at_end(id), "nothing is left to answer");
    }
}

#[test]
fn a_large_message_that_waits_is_shared_by_those_who_read_slowly() {
    let mut bench = Bench::new(Config::default());
    let large = "x".repeat(100_000);
    bench.publish("a", &large, None);
    bench.world.advance(10_000);
    for capacity in [0, 10, 5000, 1 << 30] {
        let id = bench.connect();
        bench.world.socket(id).capacity = capacity;
        let ask = "GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\n\r\n";
        bench.send(id, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{ask}{ask}"));
        bench.turn();
        let own = bench.server.connections[id.slot].output.as_ref().map_or(0, |output| output.own_len());
        assert!(own < 1000, "{own} bytes are kept for a client that took {capacity}");
        bench.world.socket(id).capacity = 30_000;
        let mut text = String::new();
        for _ in 0..10 {
            text += &bench.read(id);
            bench.turn();
        }
        assert_eq!(text.matches("\r\n\r\nx").count(), 2, "both are answered");
        assert_eq!(text.split("\r\n\r\n").filter(|part| part.starts_with(&large)).count(), 2);
    }
}

#[test]
fn who_subscribes_while_the_server_leaves_is_sent_away() {
    let mut bench = Bench::new(Config::default());
    let paths = ["/sub/a", "/sub/a?as=stream"];
    let ids = paths.map(|path| (bench.connect(), path));
    for (id, path) in ids {
        bench.send(id, &format!("GET {path} HTTP"));
    }
    bench.server.drain(bench.world.now, &mut bench.world);
    for (id, _) in ids {
        bench.send(id, "/1.1\r\nHost: x\r\n\r\n");
    }
    bench.turn();
    assert!(bench.server.is_drained());
    assert!(bench.read(ids[0].0).starts_with("HTTP/1.1 204 "));
    assert!(bench.read(ids[1].0).ends_with("\r\n0\r\n\r\n"));
}

#[test]
fn a_crowd_that_left_leaves_no_memory_behind() {
    let mut bench = Bench::new(Config::default());
    let crowd: Vec<ConnId> = (0..1500).map(|_| bench.subscriber("a?as=stream")).collect();
    let full = bench.server.connections.capacity();
    for &id in &crowd[1..] {
        bench.server.reset(bench.world.now, id);
    }
    bench.turn();
    let left = bench.server.connections.capacity();
    assert!(full >= 1500 && left < full / 4, "room for {left} of {full} is left");
    bench.publish("a", "still here", None);
    bench.turn();
    assert!(bench.read(crowd[0]).contains("still here"));
}

#[test]
fn an_empty_message_is_nothing_on_a_raw_stream_and_something_elsewhere() {
    let mut bench = Bench::new(Config::default());
    let ids =
        ["stream", "raw", "poll", "raw"].map(|technique| bench.subscriber(&format!("a?as={technique}")));
    let before = bench.writes(ids[1]);
    ids.iter().for_each(|&id| _ = bench.read(id));
    bench.publish("a", "", None);
    bench.turn();
    let [stream, raw, poll, _] = ids.map(|id| bench.read(id));
    assert!(data(&stream) == [""] && poll.contains("Content-Length: 0\r\n"), "{stream} {poll}");
    assert_eq!((bench.writes(ids[1]), raw), (before, String::new()));
    bench.publish("a", "<m0>", None);
    bench.turn();
    assert_eq!(told(&bench.read(ids[1])), ["m0"]);
}

#[test]
fn what_ran_out_is_not_told_to_who_comes_back_for_it() {
    let mut config = Config::default();
    config.turn.deliveries = 1;
    let mut bench = Bench::new(config);
    let waiting = bench.subscriber("b?as=stream");
    bench.publish("a", "<m0>", Some(1));
    bench.world.advance(1_001);
    // Nothing is swept out while deliveries are left for the next turn.
    bench.publish("b", "<m1>", None);
    let late = bench.connect();
    bench.send(late, "GET /sub/a?as=stream&after=10:0 HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.turn();
    assert_eq!([waiting, late].map(|id| told(&bench.read(id)).len()), [1, 0]);
}

#[test]
fn a_stream_that_takes_nothing_is_given_up_in_time() {
    let mut bench = Bench::new(Config { heartbeat: 3_600, ..Config::default() });
    let stream = bench.subscriber("a?as=stream");
    bench.read(stream);
    bench.world.socket(stream).capacity = 0;
    bench.publish("a", "x", None);
    bench.turn();
    let seconds = bench.server.config.limits.stalled_seconds;
    bench.world.advance((seconds - 1) * 1_000);
    bench.turn();
    assert!(!bench.world.socket(stream).closed);
    bench.world.advance(2_000);
    bench.turn();
    assert!(bench.world.socket(stream).closed);
}

#[test]
fn a_message_does_not_wait_for_the_heartbeats_of_a_crowd() {
    let mut bench = Bench::new(Config::default());
    for _ in 0..400 {
        bench.subscriber("quiet?as=stream");
    }
    let listener = bench.subscriber("a?as=raw");
    // Of the quarter of the interval over which the first heartbeats are spread, a quarter is over.
    bench.world.advance(11_200);
    bench.turn();
    bench.world.advance(1_000);
    bench.publish("a", "news", None);
    let now = bench.world.now;
    bench.server.tick(now, &mut bench.world);
    bench.server.deliver(now, &mut bench.world);
    assert!(bench.read(listener).contains("news"));
    let sent = bench.server.stats().heartbeats;
    assert!((1..50).contains(&sent), "{sent}: the others can wait");
    assert!(bench.server.next_deadline(now) <= now.at, "but not long");
    bench.turn();
    assert!((90..110).contains(&bench.server.stats().heartbeats));
}

#[test]
fn timers_that_are_late_are_looked_at_in_greater_numbers() {
    let mut bench = Bench::new(Config::default());
    let streams = [0; 300].map(|_| bench.subscriber("quiet?as=stream"));
    bench.world.advance(17_000);
    bench.server.tick(bench.world.now, &mut bench.world);
    let budget = bench.server.config.turn.deliveries as u64;
    assert_eq!(bench.server.stats().heartbeats, budget.min(streams.len() as u64));
}

#[test]
fn the_heartbeats_of_a_crowd_are_spread() {
    let mut bench = Bench::new(Config::default());
    for _ in 0..400 {
        bench.subscriber("quiet?as=sse");
    }
    let mut heartbeats_after = |ms: u64| {
        bench.world.advance(ms);
        bench.turn();
        bench.server.stats().heartbeats
    };
    assert_eq!(heartbeats_after(11_200), 0);
    let half = heartbeats_after(1_900);
    assert!((180..220).contains(&half), "{half} of 400 in half of the time");
    assert_eq!(heartbeats_after(1_908), 400);
    assert_eq!(heartbeats_after(11_000), 400, "from then on, each has its own moment every 15 s");
    assert!((580..620).contains(&heartbeats_after(2_100)));
    assert_eq!(heartbeats_after(2_000), 800);
}

#[test]
fn counters_say_what_happened() {
    let mut bench = Bench::new(Config::default());
    bench.publish("a", "x", None);
    let (_, answer) = bench.client("GET /sub/a?after=oldest HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nx"));
    let stats = bench.server.stats();
    assert_eq!((stats.deliveries, stats.messages_delivered), (1, 1), "a poll that was answered at once");
    let stream = bench.subscriber("a?as=sse");
    bench.server.hang_up(bench.world.now, stream, &mut bench.world);
    assert_eq!(bench.read(stream), "2\r\n:\n\r\n", "a half-closed stream is probed");
    assert_eq!(bench.server.stats().heartbeats, 0, "and that is no heartbeat");
}

/// Hundreds of readers of large messages do not come before somebody else's small one.
#[test]
fn large_messages_of_one_address_come_after_what_others_wait_for() {
    let mut bench = Bench::new(Config::default());
    let mut subscriber = |address, channel: &str| {
        let id = bench.connect_from(address).unwrap();
        bench.send(id, &format!("GET /sub/{channel}?as=stream HTTP/1.1\r\nHost: x\r\n\r\n"));
        id
    };
    for _ in 0..300 {
        subscriber([192, 0, 2, 1], "large");
    }
    let innocent = subscriber([192, 0, 2, 2], "small");
    bench.turn();
    bench.order.clear();
    bench.world.pace = 2000;
    bench.publish("large", &"x".repeat(100_000), None);
    bench.publish("small", "x", None);
    bench.turn();
    assert_eq!(bench.order.len(), 301);
    let place = bench.order.iter().position(|&id| id == innocent).unwrap();
    assert!(place < 150, "{place} before it");
}
