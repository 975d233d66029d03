//! Clients behind a trusted proxy, which brings the requests of all of them by a few connections: what is done for each is
//! counted for it, and nobody waits because of somebody else.

use super::bench::Bench;
use super::budgets::frame;
use crate::config::Config;
use crate::conn::ConnId;

const PROXY: [u8; 4] = [192, 0, 2, 7];

fn bench() -> Bench {
    let trusted_proxies = vec!["192.0.2.7/32".parse().unwrap()];
    Bench::new(Config { trusted_proxies, ..Config::default() })
}

/// A request of a client as the proxy hands it on.
fn of(client: u8, target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.{client}\r\n{fields}\r\n")
}

/// Has so much done for a client that it comes after others.
fn flood(bench: &mut Bench, id: ConnId, client: u8) {
    for _ in 0..40 {
        bench.send(id, &of(client, "/x", "").repeat(1000));
        bench.turn();
        bench.read(id);
    }
}

#[test]
fn what_one_costs_is_not_paid_by_another() {
    let mut bench = bench();
    let (busy, idle) = (bench.connect_from(PROXY).unwrap(), bench.connect_from(PROXY).unwrap());
    flood(&mut bench, busy, 1);
    // Whatever connection of the proxy it comes by.
    for id in [busy, idle] {
        bench.send(id, &of(1, "/x", ""));
        assert!(bench.server.is_waiting(id), "others come first");
        bench.turn();
        assert!(bench.read(id).starts_with("HTTP/1.1 404 "));
        bench.send(id, &of(2, "/x", ""));
        assert!(bench.read(id).starts_with("HTTP/1.1 404 "), "another client is served at once");
    }
    // An application beside the proxy, and who is not named, are nobody in particular.
    bench.send(busy, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(bench.read(busy).starts_with("HTTP/1.1 404 "));
    bench.server.check(bench.world.now);
}

#[test]
fn who_names_itself_pays_for_itself() {
    let mut bench = bench();
    // It is no trusted proxy, whoever it says it speaks for.
    let stranger = bench.connect_from([192, 0, 2, 8]).unwrap();
    flood(&mut bench, stranger, 1);
    bench.send(stranger, &of(2, "/x", ""));
    assert!(bench.server.is_waiting(stranger));
    let proxied = bench.connect_from(PROXY).unwrap();
    bench.send(proxied, &of(1, "/x", ""));
    assert!(bench.read(proxied).starts_with("HTTP/1.1 404 "), "and nobody else does");
    bench.server.check(bench.world.now);
}

#[test]
fn a_request_in_pieces_is_of_whom_it_turns_out_to_be() {
    let mut bench = bench();
    let id = bench.connect_from(PROXY).unwrap();
    flood(&mut bench, id, 1);
    let request = of(2, "/x", "");
    for cut in 1..request.len() {
        bench.send(id, &of(1, "/x", ""));
        bench.turn();
        bench.read(id);
        bench.send(id, &request[..cut]);
        bench.send(id, &request[cut..]);
        assert!(bench.read(id).starts_with("HTTP/1.1 404 "), "cut at {cut}");
    }
    bench.server.check(bench.world.now);
}

#[test]
fn sockets_and_streams_pay_for_whom_they_were_opened() {
    let mut bench = bench();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut open = |client: u8, target: &str, fields: &str| {
        let id = bench.connect_from(PROXY).unwrap();
        bench.send(id, &of(client, target, fields));
        id
    };
    let (loud, quiet) = (open(1, "/sub/a", upgrade), open(2, "/sub/a", upgrade));
    let (crowd, innocent): (Vec<ConnId>, ConnId) = (
        (0..300).map(|_| open(1, "/sub/large?as=stream", "")).collect(),
        open(2, "/sub/small?as=stream", ""),
    );
    bench.turn();
    for _ in 0..40 {
        bench.send_bytes(loud, &frame("").repeat(1000));
        bench.turn();
        bench.world.read(loud, usize::MAX);
    }
    let ping = frame("{\"subscribe\":[],\"ref\":1}");
    bench.send_bytes(loud, &ping);
    assert!(bench.server.is_waiting(loud), "others come first");
    bench.world.read(quiet, usize::MAX);
    bench.send_bytes(quiet, &ping);
    assert!(bench.read_text(quiet).contains("\"ref\":1"), "at once");
    bench.turn();
    bench.order().clear();
    bench.world.pace = 2000;
    bench.publish("large", &"x".repeat(100_000), None);
    bench.publish("small", "x", None);
    bench.turn();
    let place = bench.order().iter().position(|&id| id == innocent).unwrap();
    assert!(place < 150, "{place} of {} before it", crowd.len());
    bench.server.check(bench.world.now);
}
