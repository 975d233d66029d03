//! A crowd that is sent away.

use super::bench::Bench;
use crate::config::Config;
use crate::conn::ConnId;
use std::collections::BTreeSet;

const POLL: &str = "x?timeout=300";

fn ended(bench: &mut Bench, ids: &[ConnId]) -> usize {
    let mut is_over = |id: &ConnId| {
        let socket = bench.world.socket(*id);
        socket.ended || socket.closed
    };
    ids.iter().filter(|id| is_over(id)).count()
}

#[test]
fn a_crowd_leaves_one_after_the_other_and_a_few_at_once() {
    for (crowd, per_step) in [(90, 100), (600, 60), (6000, 90)] {
        let mut bench = Bench::new(Config { drain_seconds: 10, heartbeat: 3600, ..Config::default() });
        let ids: Vec<ConnId> =
            (0..crowd).map(|n| bench.subscriber(if n % 2 == 0 { POLL } else { "x?as=sse" })).collect();
        bench.server.drain(bench.world.now, &mut bench.world);
        bench.turn();
        let mut before = ended(&mut bench, &ids);
        assert_eq!(before, crowd.min(100), "a few go at once");
        let mut steps = 0;
        while before < crowd {
            bench.world.advance(100);
            bench.turn();
            let now = ended(&mut bench, &ids);
            assert!(now - before <= per_step, "{} at once", now - before);
            before = now;
            steps += 1;
            assert!(steps <= 75, "three quarters of the time are enough");
        }
        assert!(crowd < 1000 || steps > 60, "and are used: {steps}");
    }
}

#[test]
fn who_still_waits_gets_messages_and_each_comes_back_at_another_time() {
    let mut bench = Bench::new(Config { drain_seconds: 10, ..Config::default() });
    let ids: Vec<ConnId> = (0..300).map(|_| bench.subscriber(POLL)).collect();
    let (last, _) = bench.client("GET /sub/x?as=stream HTTP/1.1\r\nHost: x\r\n\r\n");
    bench.server.drain(bench.world.now, &mut bench.world);
    bench.turn();
    bench.publish("x", "news", None);
    bench.turn();
    let mut times = BTreeSet::new();
    for (n, id) in ids.iter().enumerate() {
        let answer = bench.read(*id);
        assert_eq!(answer.contains("news"), n >= 100, "{answer}");
        if n >= 100 {
            // It asks again on the same connection.
            bench.send(*id, "GET /sub/x HTTP/1.1\r\nHost: x\r\n\r\n");
            bench.turn();
        }
        let answer = if n >= 100 { bench.read(*id) } else { answer };
        let time =
            answer.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next()).expect(&answer);
        times.insert(time.parse::<u64>().unwrap());
    }
    assert!(times.len() > 5, "{times:?}");
    assert!(bench.read(last).contains("news"));
}

#[test]
fn without_time_nobody_waits() {
    let mut bench = Bench::new(Config { drain_seconds: 0, ..Config::default() });
    let ids: Vec<ConnId> = (0..200).map(|_| bench.subscriber(POLL)).collect();
    bench.server.drain(bench.world.now, &mut bench.world);
    bench.world.advance(1);
    bench.turn();
    assert_eq!(ended(&mut bench, &ids), 200);
}
