//! Many who are given the same: nobody gets it twice, or what is meant for somebody else.

use crate::config::Config;
use crate::conn::ConnId;
use crate::server::tests::bench::Bench;

/// The texts `m0`, `m1`, … between angle brackets that somebody was told.
pub(super) fn told(text: &str) -> Vec<&str> {
    let starts = text.match_indices("<m").map(|(at, _)| at + 1);
    starts.map(|at| text[at..].split('>').next().unwrap()).collect()
}

#[test]
fn a_crowd_of_all_kinds_gets_each_message_once() {
    let mut bench = Bench::new(Config::default());
    let request = |technique: &str| format!("GET /sub/a?as={technique} HTTP/1.1\r\nHost: x\r\n\r\n");
    let kinds = ["stream", "stream", "sse", "poll", "stream", "poll", "raw"];
    let crowd: Vec<(ConnId, &str)> = kinds
        .iter()
        .cycle()
        .take(300)
        .map(|technique| (bench.client(&request(technique)).0, *technique))
        .collect();
    let mut texts = vec![String::new(); crowd.len()];
    for number in 0..20 {
        // Sockets that take nothing, a part, or all; they are read again before the next message.
        for (at, &(id, _)) in crowd.iter().enumerate() {
            bench.world.socket(id).capacity = [0, 30, 1 << 30, 1 << 30][(at + number) % 4];
        }
        bench.publish("a", &format!("<m{number}>"), None);
        bench.turn();
        for (&(id, technique), text) in crowd.iter().zip(&mut texts) {
            bench.world.socket(id).capacity = 1 << 30;
            *text += &bench.read(id);
            bench.turn();
            *text += &bench.read(id);
            if technique == "poll" {
                bench.send(id, &request(technique));
            }
        }
    }
    let all: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    for ((_, technique), text) in crowd.iter().zip(&texts) {
        assert_eq!(told(text), all, "{technique}: {text}");
    }
}

#[test]
fn one_that_breaks_among_many_takes_nobody_along() {
    let mut bench = Bench::new(Config::default());
    for technique in ["stream", "poll"] {
        let crowd = [0; 9].map(|_| bench.subscriber(&format!("{technique}?as={technique}")));
        bench.world.socket(crowd[4]).broken = true;
        bench.publish(technique, "<m0>", None);
        bench.turn();
        assert!(bench.world.socket(crowd[4]).closed);
        for id in crowd.into_iter().filter(|&id| id != crowd[4]) {
            assert_eq!(told(&bench.read(id)), ["m0"]);
        }
    }
}

#[test]
fn who_takes_the_place_of_one_that_was_ready_gets_nothing_twice() {
    let mut bench = Bench::new(Config::default());
    let crowd = [0; 3].map(|_| bench.subscriber("a?as=stream"));
    bench.publish("a", "<m0>", None);
    bench.server.reset(bench.world.now, crowd[1]);
    // It has the same place in the hub, which stands in the queue of those that are ready.
    let late = bench.connect();
    bench.send(late, "GET /sub/a?as=stream HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.publish("a", "<m1>", None);
    bench.turn();
    assert_eq!(told(&bench.read(late)), ["m1"]);
    assert_eq!([crowd[0], crowd[2]].map(|id| told(&bench.read(id)).len()), [2, 2]);
}

#[test]
fn who_had_the_same_on_another_channel_lacks_something_else() {
    let mut bench = Bench::new(Config::default());
    let crowd = ["a", "b"].map(|channel| bench.subscriber(&format!("{channel}?as=stream")));
    bench.publish("a", "<m0>", None);
    bench.publish("b", "<m1>", None);
    bench.turn();
    assert_eq!(crowd.map(|id| told(&bench.read(id)).join(",")), ["m0", "m1"]);
}

#[test]
fn who_came_after_a_message_of_no_duration_does_not_get_it_with_those_who_were_there() {
    let mut bench = Bench::new(Config::default());
    let there = bench.subscriber("a?as=stream");
    bench.publish("a", "<m0>", Some(0));
    let late = bench.connect();
    bench.send(late, "GET /sub/a?as=stream&after=oldest HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.turn();
    assert_eq!([there, late].map(|id| told(&bench.read(id)).join(",")), ["m0", ""]);
}

#[test]
fn a_shared_answer_tells_the_time_at_which_it_is_given() {
    let mut config = Config::default();
    config.turn.deliveries = 1;
    let mut bench = Bench::new(config);
    let polls = [0; 2].map(|_| bench.subscriber("a?as=poll"));
    bench.publish("a", "x", None);
    bench.server.deliver(bench.world.now, &mut bench.world);
    bench.world.advance(1_000);
    bench.turn();
    let dates = polls.map(|id| bench.read(id).split("\r\n").nth(1).unwrap().to_owned());
    assert!(dates[0].starts_with("Date: ") && dates[1] > dates[0], "{dates:?}");
}

#[test]
fn polls_with_wishes_of_their_own_get_them_beside_those_without() {
    let mut config = Config::default();
    config.cors.origins = vec!["https://x.example".into(), "https://y.example".into()];
    let mut bench = Bench::new(config);
    let get = |query: &str, fields: &str| format!("GET /sub/a?{query} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let requests = [
        get("as=poll", ""),
        get("as=poll", "Connection: close\r\n"),
        get("as=poll", "Origin: https://y.example\r\n"),
        get("as=poll", "Accept: application/json\r\n"),
        get("as=poll", ""),
    ];
    let ids = requests.each_ref().map(|request| bench.client(request).0);
    bench.server.hang_up(bench.world.now, ids[4], &mut bench.world);
    bench.publish("a", "<m0>", None);
    bench.publish("a", "<m1>", None);
    bench.turn();
    let answers = ids.map(|id| bench.read(id));
    assert_eq!(told(&answers[3]), ["m0", "m1"], "a batch is all there is");
    for at in [0, 1, 2, 4] {
        assert!(answers[at].ends_with("\r\n\r\n<m0>"), "{answers:?}");
        assert_eq!(answers[at].contains("\r\nConnection: close\r\n"), matches!(at, 1 | 4), "{answers:?}");
        assert_eq!(answers[at].contains("Allow-Origin: https://y.example"), at == 2, "{answers:?}");
        assert_eq!(bench.world.at_end(ids[at]), matches!(at, 1 | 4));
    }
}

#[test]
fn a_script_is_a_script_beside_polls() {
    let mut bench = Bench::new(Config::default());
    let ids = ["poll", "jsonp&callback=f", "poll"].map(|query| bench.subscriber(&format!("a?as={query}")));
    bench.publish("a", "<m0>", None);
    bench.turn();
    let [first, script, second] = ids.map(|id| bench.read(id));
    assert!(
        script.contains("\r\n\r\n/**/f(") && first.ends_with("<m0>") && second.ends_with("<m0>"),
        "{script}"
    );
}
