//! Large deliveries: they come after what others wait for, whoever asks for them, and end in time.

use crate::config::Config;
use crate::conn::ConnId;
use crate::hub::{Data, Publication};
use crate::server::tests::bench::Bench;
use std::net::Ipv4Addr;

/// Sets so many values of a table.
fn set(bench: &mut Bench, keys: usize, number: usize) {
    for key in 0..keys {
        let key = Some(format!("k{key:04}").into());
        let publication =
            Publication { key, ..Publication::of(Data::Json(format!("{{\"n\":{number}}}").into())) };
        bench.server.publish(bench.world.now, "table", publication).unwrap();
    }
}

/// A stream of somebody who has an address of his own.
fn listener(bench: &mut Bench, number: u8, query: &str) -> ConnId {
    let id = bench.connect_from(Ipv4Addr::new(192, 0, 2, number)).unwrap();
    bench.send(id, &format!("GET /sub/{query}&as=stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    id
}

/// Each of many strangers lacks something else, which has to be composed for it.
#[test]
fn what_has_to_be_composed_comes_after_what_others_wait_for() {
    let mut config = Config::default();
    config.turn.deliveries = 20;
    let mut bench = Bench::new(config);
    set(&mut bench, 10, 0);
    let readers: Vec<ConnId> =
        (0..100).map(|number| listener(&mut bench, number, "table?delta&rate=50")).collect();
    let innocent = listener(&mut bench, 200, "small?timeout=60");
    bench.turn();
    for (place, &reader) in readers.iter().enumerate() {
        bench.read(reader);
        // None of them takes all that it is given, and each takes another part.
        bench.world.socket(reader).capacity = 10 + place;
    }
    bench.read(innocent);
    for number in 1..3 {
        bench.world.advance(20);
        set(&mut bench, 10, number);
        bench.world.advance(20);
        bench.turn();
    }
    for &reader in &readers {
        bench.world.socket(reader).capacity = 1 << 30;
        bench.read(reader);
    }
    bench.order().clear();
    // All are ready before it is, and more than a turn delivers to.
    for id in std::mem::take(&mut bench.world.edges) {
        bench.server.writable(bench.world.now, id, &mut bench.world);
    }
    bench.publish("small", "x", None);
    bench.turn();
    let place = bench.order().iter().position(|&id| id == innocent).unwrap();
    assert_eq!(bench.order().len(), 101, "everybody is given what was left");
    assert_eq!(place, 0, "nothing large comes before what is small");
}

/// A page ends after a while, with as much of it as there is, and all of it comes.
#[test]
fn a_page_ends_in_time() {
    let written = |hurry: u32| {
        let mut bench = Bench::new(Config::default());
        set(&mut bench, 1500, 7);
        bench.world.hurry = hurry;
        let reader = listener(&mut bench, 1, "table?latest");
        bench.order().clear();
        bench.turn();
        let text = bench.read(reader);
        let keys: Vec<&str> = text.split("\"key\":\"").skip(1).map(|rest| &rest[..5]).collect();
        let all: Vec<String> = (0..1500).map(|key| format!("k{key:04}")).collect();
        assert_eq!(keys, all, "each once, in order");
        bench.order().len()
    };
    let (at_once, in_pieces) = (written(0), written(600));
    assert!(at_once <= 2, "{at_once} writes");
    assert!((1500 / 128..=2 + 1500 / 64).contains(&in_pieces), "{in_pieces} writes");
}

/// A snapshot is not finished while values change at each tick: whoever waits for the rest waits once.
#[test]
fn who_waits_for_a_large_delivery_is_not_marked_again() {
    let mut bench = Bench::new(Config::default());
    set(&mut bench, 100, 0);
    let reader = listener(&mut bench, 1, "table?latest");
    bench.turn();
    let key = bench.server.connections[reader.slot].subscriber().unwrap();
    let hub = &mut bench.server.broker.hub;
    hub.mark_bulk(key);
    hub.mark_bulk(key);
    hub.mark(key);
    set(&mut bench, 1, 1);
    let hub = &mut bench.server.broker.hub;
    assert_eq!((hub.next_ready(), hub.next_bulk(), hub.next_bulk()), (None, Some(key), None));
    hub.mark(key);
    assert_eq!((hub.next_bulk(), hub.next_ready(), hub.next_ready()), (None, Some(key), None));
}
