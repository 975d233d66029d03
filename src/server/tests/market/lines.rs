//! What waits in the kernel for readers of latest values: little, as it is superseded there no more.

use crate::config::Config;
use crate::conn::ConnId;
use crate::hub::{Data, Publication};
use crate::server::tests::bench::Bench;

fn put(bench: &mut Bench, number: usize) {
    let value = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(1000));
    let key = Some(format!("k{}", number % 10).into());
    let publication = Publication { key, ..Publication::of(Data::Json(value.into())) };
    bench.server.publish(bench.world.now, "q", publication).unwrap();
}

fn unsent(bench: &mut Bench, id: ConnId) -> Option<u32> {
    bench.world.socket(id).unsent
}

#[test]
fn little_waits_unsent_for_who_wants_latest_values() {
    let mut bench = Bench::new(Config::default());
    let plain = bench.subscriber("q?as=stream");
    assert_eq!(unsent(&mut bench, plain), None, "everything is for it");
    for query in ["latest", "rate=2", "rate=2&delta"] {
        let reader = bench.subscriber(&format!("q?as=stream&{query}"));
        assert_eq!(unsent(&mut bench, reader), Some(64 << 10), "{query}");
    }
    // A WebSocket may come to want them later.
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let socket = bench.connect();
    bench.send(socket, &format!("GET /sub/r HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n"));
    bench.turn();
    assert_eq!(unsent(&mut bench, socket), None);
    bench.send_bytes(socket, &super::frame(r#"{"subscribe":["q"],"latest":true}"#));
    bench.turn();
    assert_eq!(unsent(&mut bench, socket), Some(64 << 10));
}

#[test]
fn less_waits_unsent_on_a_slow_line() {
    let mut bench = Bench::new(Config::default());
    let [slow, plain] = ["latest", ""].map(|query| bench.subscriber(&format!("q?as=stream&{query}")));
    for id in [slow, plain] {
        bench.read_text(id);
        bench.world.socket(id).capacity = 500;
    }
    for number in 0..30 {
        put(&mut bench, number);
        bench.turn();
        let is_late = number * 20 >= 400;
        assert_eq!(unsent(&mut bench, slow), Some(if is_late { 16 << 10 } else { 64 << 10 }), "{number}");
        bench.world.advance(20);
    }
    assert_eq!(unsent(&mut bench, plain), None);
    // What it is given now are the latest values, but for the message begun.
    bench.world.socket(slow).capacity = 1 << 30;
    let mut text = String::new();
    for _ in 0..3 {
        text += &bench.read_text(slow);
        bench.turn();
    }
    let number =
        |line: &str| line.split("\"n\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
    let given: Vec<usize> = text.lines().filter_map(number).collect();
    let expected: Vec<usize> = [0].into_iter().chain(20..30).collect();
    assert_eq!(given, expected);
}
