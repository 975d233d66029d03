//! What a limit took away from a client is told to it, and nothing else is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Encke, data, parts, until};
use crate::sse::parse;

const JSON: [&str; 1] = ["Accept: application/json"];

/// Whether a client that continues after `id` is told of a gap, and what it gets.
fn resume(server: &Encke, channels: &str, id: &str) -> (bool, Vec<String>) {
    let answer = server.get(&format!("/sub/{channels}?as=interval&after={id}"), &JSON);
    if answer.status == 304 {
        assert_eq!(answer.get("encke-gap"), None);
        return (false, vec![]);
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    let batch = answer.json();
    let gap = batch["gap"].as_bool().expect("a batch says whether there is a gap");
    assert_eq!(answer.get("encke-gap").is_some(), gap, "header and body agree");
    (gap, data(&batch))
}

#[test]
fn a_full_ring_makes_a_gap_for_those_who_missed_something() {
    let server = Encke::start(&["--history-messages", "3", "--history-grace-seconds", "0"]);
    let ids: Vec<String> = (1..=6).map(|n| server.publish("x", n.to_string())).collect();
    assert_eq!(resume(&server, "x", &ids[0]), (true, vec!["4".into(), "5".into(), "6".into()]));
    assert_eq!(resume(&server, "x", &ids[1]), (true, vec!["4".into(), "5".into(), "6".into()]));
    assert_eq!(resume(&server, "x", &ids[2]), (false, vec!["4".into(), "5".into(), "6".into()]));
    assert_eq!(resume(&server, "x", &ids[4]), (false, vec!["6".into()]));
    assert_eq!(resume(&server, "x", &ids[5]), (false, vec![]));
    for word in ["oldest", "-3", "-99"] {
        assert!(!resume(&server, "x", word).0, "{word} names no message that was missed");
    }

    let verbatim = server.get(&format!("/sub/x?after={}", ids[0]), &[]);
    assert_eq!((verbatim.text().as_str(), verbatim.get("encke-gap")), ("4", Some("x")));
    let next = server.get(&format!("/sub/x?after={}", verbatim.next()), &[]);
    assert_eq!((next.text().as_str(), next.get("encke-gap")), ("5", None), "a gap is told once");
}

#[test]
fn a_gap_is_the_matter_of_its_channel() {
    let server = Encke::start(&["--history-messages", "1", "--history-grace-seconds", "0"]);
    let id = server.publish("start", "x");
    for channel in ["a%2Cb", "a%2Cb", "gr%C3%BC%C3%9Fe", "gr%C3%BC%C3%9Fe", "whole"] {
        server.publish(channel, channel);
    }
    let answer = server.get(&format!("/sub/a%2Cb,gr%C3%BC%C3%9Fe,whole?after={id}"), &JSON);
    let mut gaps: Vec<&str> = answer.get("encke-gap").expect("a gap").split(',').map(str::trim).collect();
    gaps.sort_unstable();
    assert_eq!(gaps, ["a%2Cb", "gr%C3%BC%C3%9Fe"], "names the channels, comma separated, percent-encoded");
    assert!(!resume(&server, "whole", &id).0);
}

#[test]
fn bytes_and_age_make_gaps_too() {
    let body = "x".repeat(1000);
    let server = Encke::start(&["--history-bytes", "5000"]);
    let first = server.publish("x", "first");
    let ids: Vec<String> = (0..20).map(|_| server.publish("x", &body)).collect();
    let kept = resume(&server, "x", "oldest").1.len();
    assert!((1..=5).contains(&kept), "{kept} messages of 1000 bytes are kept in 5000");
    assert!(resume(&server, "x", &first).0);
    assert!(!resume(&server, "x", &ids[19]).0);

    while_young(|begun| {
        let server = Encke::start(&["--history-seconds", "3"]);
        let first = server.publish("x", "1");
        server.publish("x", "2");
        until("the history has aged", || server.history("x").is_empty().then_some(()));
        begun();
        server.publish("x", "3");
        vec![(resume(&server, "x", &first), (true, vec!["3".into()]))]
    });
}

/// What a client is told, and what it should be.
type Told = (bool, Vec<String>);

/// Looks at histories of three seconds: the last message, published when it says that it begins, must be younger than that
/// when it is asked for. Should the machine have been too slow, it is done again.
fn while_young(mut ask: impl FnMut(&mut dyn FnMut()) -> Vec<(Told, Told)>) {
    until("the machine is fast enough once", || {
        let mut begun = None;
        let told = ask(&mut || begun = Some(Instant::now()));
        let is_young = begun.is_some_and(|begun| begun.elapsed() < Duration::from_secs(3));
        is_young.then(|| told.into_iter().for_each(|(told, expected)| assert_eq!(told, expected)))
    });
}

#[test]
fn over_all_channels_the_globally_oldest_message_goes_first() {
    let server = Encke::start(&["--history-total-bytes", "10000"]);
    let body = "x".repeat(1000);
    let first = server.publish("old", "1");
    server.publish("old", "2");
    for n in 0..20 {
        server.publish(&format!("new/{}", n % 7), &body);
    }
    assert_eq!(server.history("old"), [""; 0]);
    assert_eq!(server.history("new/5").last(), Some(&body), "the youngest stay");
    server.publish("old", "3");
    assert_eq!(resume(&server, "old", &first), (true, vec!["3".into()]));
}

#[test]
fn a_forgotten_channel_remembers_what_was_lost() {
    while_young(|begun| {
        let server = Encke::start(&["--history-seconds", "3", "--channel-idle-seconds", "1"]);
        let first = server.publish("x", "1");
        let second = server.publish("x", "2");
        until("the channel is forgotten", || (server.get("/pub/x", &[]).status == 404).then_some(()));
        begun();
        server.publish("x", "3");
        let told = [&first, &second].map(|id| resume(&server, "x", id));
        told.into_iter().zip([(true, vec!["3".into()]), (false, vec!["3".into()])]).collect()
    });
}

#[test]
fn an_id_of_another_epoch_gets_what_is_there_after_a_notice() {
    let other = Encke::start(&[]).publish("x", "of another server");
    let server = Encke::start(&[]);
    assert_ne!(parts(&server.publish("x", "1")).0, parts(&other).0, "epochs are random");
    server.publish("x", "2");
    assert_eq!(resume(&server, "x", &other), (true, vec!["1".into(), "2".into()]));
    let verbatim = server.get("/sub/x", &[&format!("Last-Event-ID: {other}")]);
    assert_eq!((verbatim.text().as_str(), verbatim.get("encke-gap")), ("1", Some("x")));

    let answer = server.get(&format!("/sub/empty?after={other}"), &JSON);
    let batch = answer.json();
    assert_eq!((answer.status, &batch["gap"], &batch["messages"]), (200, &json!(true), &json!([])));
    assert_eq!(batch["next"], answer.next().as_str());
    let verbatim = server.get(&format!("/sub/empty?after={other}"), &[]);
    assert_eq!((verbatim.status, verbatim.get("encke-gap")), (204, Some("empty")), "at once, not after 30 s");

    let mut again = server.park(&format!("/sub/empty?after={}", verbatim.next()), &JSON, "empty", 1);
    server.publish("empty", "news");
    let batch = again.answer().json();
    assert_eq!((data(&batch), &batch["gap"]), (vec!["news".to_owned()], &json!(false)));
}

#[test]
fn streams_tell_a_gap_before_the_first_message() {
    let server = Encke::start(&["--history-messages", "2", "--history-grace-seconds", "0"]);
    let ids: Vec<String> = (1..=5).map(|n| server.publish("x", n.to_string())).collect();
    let gap = json!({"channel": "x", "after": ids[0], "oldest": ids[3]});

    let (_, mut stream) = server.open(&format!("/sub/x?as=stream&after={}", ids[0]), &[]);
    assert_eq!(stream.envelope(), json!({"gap": gap}));
    assert_eq!(stream.envelope()["data"], "4");
    assert_eq!(stream.envelope()["data"], "5");

    let (_, mut sse) = server.open("/sub/x?as=sse", &[&format!("Last-Event-ID: {}", ids[0])]);
    let notice = std::iter::from_fn(|| sse.block()).find(|block| block.contains("encke.gap")).unwrap();
    let event = parse(&notice);
    assert_eq!(event.event.as_deref(), Some("encke.gap"));
    assert_eq!(serde_json::from_str::<Value>(&event.data.unwrap()).unwrap(), gap);
    assert_eq!(parse(&sse.block().unwrap()).data.as_deref(), Some("4"));
}
