//! Who is between two polls while more comes than a channel keeps.

use super::bench::Bench;
use super::disk::Disk;
use crate::broker::LogSettings;
use crate::config::Config;
use crate::hub::{Data, Publication};
use crate::id::{Epoch, MessageId};
use crate::log::{LogTime, Proposal, Record, Ticket};
use serde_json::Value;

const BURST: usize = 500;

/// Keeps 100 messages of a channel, beside those of the grace, which is 10 seconds.
fn bench() -> Bench {
    let mut config = Config::default();
    config.history.messages = 100;
    assert_eq!(config.history.grace_seconds, 10);
    Bench::new(config)
}

fn publish(bench: &mut Bench, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        bench.publish("a", &number.to_string(), None);
        bench.turn();
    }
}

/// Polls once: the messages, whether a gap was told, and where the next poll goes on.
fn poll(bench: &mut Bench, after: &str) -> (Vec<String>, bool, String) {
    let request = format!("GET /sub/a?as=interval&max=1000&after={after} HTTP/1.1\r\nHost: x\r\n");
    let (_, answer) = bench.client(&format!("{request}Accept: application/json\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let batch: Value = serde_json::from_str(body).unwrap();
    let messages = batch["messages"].as_array().unwrap().iter();
    let data = messages.map(|message| message["data"].as_str().unwrap().to_owned()).collect();
    (data, batch["gap"].as_bool().unwrap(), batch["next"].as_str().unwrap().to_owned())
}

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

#[test]
fn a_burst_between_two_polls_is_not_lost() {
    let mut bench = bench();
    publish(&mut bench, [0]);
    let (_, _, next) = poll(&mut bench, "oldest");
    publish(&mut bench, 1..=BURST);
    bench.world.advance(9_000);
    bench.turn();
    let (got, is_gap, _) = poll(&mut bench, &next);
    assert_eq!((got, is_gap), (texts(1..=BURST), false));

    // After the grace the count rules again, though nobody publishes.
    bench.world.advance(1_100);
    bench.turn();
    assert_eq!(bench.server.broker.hub.gauges().messages, 100);
    let (got, is_gap, _) = poll(&mut bench, &next);
    assert_eq!((got, is_gap), (texts(BURST - 99..=BURST), true));
}

#[test]
fn each_message_has_its_own_grace() {
    let mut bench = bench();
    for second in 0..30 {
        publish(&mut bench, second * 50..(second + 1) * 50);
        let kept = bench.server.broker.hub.gauges().messages;
        assert!(kept <= 11 * 50, "{kept} messages after {second} s");
        assert!(second < 9 || kept >= 10 * 50, "{kept} messages after {second} s");
        bench.world.advance(1_000);
        bench.turn();
    }
}

#[test]
fn bytes_know_no_grace() {
    let mut config = Config::default();
    (config.history.messages, config.history.bytes) = (1, 5_000);
    let mut bench = Bench::new(config);
    for _ in 0..20 {
        bench.publish("a", &"x".repeat(1_000), None);
        bench.turn();
    }
    assert!((2..=4).contains(&bench.server.broker.hub.gauges().messages));
}

#[test]
fn the_latest_values_outlive_the_grace() {
    let mut bench = bench();
    let (_, answer) = bench.client("POST /pub/a?key=first HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    publish(&mut bench, 1..=BURST);
    bench.world.advance(11_000);
    bench.turn();
    assert_eq!(bench.server.broker.hub.gauges().messages, 100);
    let (_, answer) = bench.client("GET /pub/a?key=first HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n1"), "{answer}");
}

/// While a server starts, nobody can ask it: what was young when the one before it ended is young to those who come back,
/// however long that took.
#[test]
fn a_burst_before_a_restart_is_not_lost() {
    let mut bench = bench();
    let (epoch, began) = (Epoch::from_random(1), 1_800_000_000_000);
    let record = |number: usize| Record::Message {
        channel: "a".into(),
        publication: Publication::of(Data::Text(number.to_string().into())),
        at: LogTime(began - 60_000),
    };
    let mut disk = Disk::new();
    let records = (0..=BURST).map(record).collect();
    disk.write(&Proposal { ticket: Ticket(1), first: 1, records, answered: None, seen: None });
    disk.begin(false, false);
    let Bench { server, world, .. } = &mut bench;
    server.use_log(LogSettings { behind: false, staged_bytes: 1 << 20, lag_ms: 60_000, shared: None });
    server.log_opened(world.now, disk.opening(epoch, began));
    // A large history takes longer to load than the grace lasts.
    world.advance(15_000);
    disk.load(server, world, |_| panic!("all of it is history"));
    bench.turn();
    bench.world.advance(9_000);
    bench.turn();
    let first = MessageId { epoch, seq: 1 };
    let (got, is_gap, next) = poll(&mut bench, &first.to_string());
    assert_eq!((got, is_gap), (texts(1..=BURST), false));

    bench.world.advance(1_100);
    bench.turn();
    assert_eq!(bench.server.broker.hub.gauges().messages, 100, "then the count rules");
    let (_, is_gap, _) = poll(&mut bench, &first.to_string());
    assert!(is_gap && next.ends_with(&(BURST + 1).to_string()), "{next}");
}
