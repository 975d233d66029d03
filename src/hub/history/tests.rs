//! What readers ask for takes nothing from others: frames go before messages, whoever else holds these, and what is kept
//! for patches has a share.

use crate::config::Config;
use crate::hub::keyed::BASES_SHARE;
use crate::hub::{Data, Encoded, Hub, Message, Owner, Pace, Publication, Start, Update, Wish};
use crate::id::Epoch;
use crate::time::Instant;
use std::rc::Rc;

const NOW: Instant = Instant::from_millis(1000);
const MESSAGES: usize = 200;
const FORMATS: u8 = 6;

fn text(size: usize) -> Publication {
    Publication::of(Data::Text("x".repeat(size).into()))
}

/// A hub that has just room for what it is given.
fn full(publish: impl Fn(&mut Hub, usize)) -> Hub {
    let mut config = Config::default();
    config.history.messages = MESSAGES / 4;
    config.history.grace_seconds = 0;
    let mut measured = Hub::new(&config, Epoch::from_random(1), NOW);
    (0..MESSAGES).for_each(|number| publish(&mut measured, number));
    measured.tick(NOW);
    config.history.total_bytes = measured.gauges().bytes + 5000;
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    (0..MESSAGES).for_each(|number| publish(&mut hub, number));
    hub.tick(NOW);
    hub
}

/// Has every message encoded in many forms, each for good or for the moment.
fn read_all(hub: &mut Hub, all: &[Rc<Message>]) {
    for format in 0..FORMATS {
        for message in all {
            let (_, bytes) = message.frame(format, |message| message.publication.data.bytes().into());
            match (format + message.id.seq as u8) % 2 {
                0 => {
                    let mut encoded = Encoded::default();
                    encoded.note(message, bytes);
                    hub.charge(&encoded);
                }
                _ => hub.charge_once(hub.names.get(&message.channel).unwrap(), message.id.seq, bytes),
            }
        }
        hub.check();
    }
}

fn kept(hub: &Hub) -> Vec<Rc<Message>> {
    let mut all: Vec<Rc<Message>> = Vec::new();
    for (_, channel) in hub.channels.iter() {
        all.extend(channel.ring.after(0).cloned());
        all.extend(channel.latest().into_iter().flat_map(|latest| latest.after(0)).cloned());
    }
    all.sort_unstable_by_key(|message| message.id.seq);
    all.dedup_by_key(|message| message.id.seq);
    all
}

/// Reads all that a hub keeps, again and again; nothing of it goes.
fn read_on(mut hub: Hub) {
    let before: Vec<_> = kept(&hub).iter().map(|message| message.id.seq).collect();
    let evicted = hub.counts.messages_evicted;
    for _ in 0..3 {
        // Some at a time, as nobody holds all of them.
        for place in (0..before.len()).step_by(8) {
            let some: Vec<_> = kept(&hub).into_iter().skip(place).take(8).collect();
            read_all(&mut hub, &some);
            drop(some);
            hub.tick(NOW);
            hub.check();
        }
    }
    let after: Vec<_> = kept(&hub).iter().map(|message| message.id.seq).collect();
    assert_eq!((after, hub.counts.messages_evicted), (before, evicted));
    assert!(hub.gauges().bytes <= hub.history.total_bytes());
}

#[test]
fn frames_of_messages_go_before_messages() {
    read_on(full(|hub, number| _ = hub.publish(NOW, &format!("c/{}", number % 7), text(500)).unwrap()));
}

#[test]
fn frames_of_latest_values_go_before_messages() {
    // Most of them have left their ring.
    read_on(full(|hub, number| {
        let publication = Publication { key: Some(format!("k{number}").into()), ..text(500) };
        hub.publish(NOW, "table", publication).unwrap();
    }));
}

#[test]
fn frames_of_updates_with_many_topics_go_before_messages() {
    read_on(full(|hub, number| {
        let topics: Vec<Box<str>> =
            (0..1 + number % 4).map(|topic| format!("t/{}", topic * (1 + number % 3)).into()).collect();
        let update = Some(Box::new(Update { topics, ..Update::default() }));
        let publication = Publication { update, ..text(500) };
        let name = publication.update.as_ref().unwrap().channel();
        hub.publish(NOW, &name, publication).unwrap();
    }));
}

#[test]
fn who_is_in_the_midst_of_a_frame_keeps_it() {
    let mut hub = full(|hub, number| {
        let publication = Publication { key: Some(format!("k{number}").into()), ..text(500) };
        hub.publish(NOW, "table", publication).unwrap();
    });
    let held = Rc::clone(&kept(&hub)[MESSAGES - 1]);
    read_all(&mut hub, std::slice::from_ref(&held));
    hub.tick(NOW);
    hub.check();
    assert_eq!(held.encoded(0).map(<[u8]>::len), Some(500));
}

#[test]
fn what_is_kept_for_patches_has_a_share() {
    let mut config = Config::default();
    config.history.messages = 10_000;
    config.history.total_bytes = 1 << 20;
    let mut hub = Hub::new(&config, Epoch::from_random(1), NOW);
    for rate in [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0] {
        let wish = Wish { latest: true, pace: Pace::at_most(rate).unwrap(), delta: true };
        hub.attach_as(NOW, Owner(0), &["table"], Vec::new(), Start::Now, wish).unwrap();
    }
    let mut most = 0;
    for round in 0..40_u64 {
        let now = NOW + round * 500;
        hub.tick_paces(now);
        for number in 0..100 {
            let data = Data::Json(format!("{{\"n\":{round},\"t\":\"{}\"}}", "x".repeat(1000)).into());
            let publication = Publication { key: Some(format!("k{number}").into()), ..Publication::of(data) };
            hub.publish(now, "table", publication).unwrap();
        }
        while let Some(key) = hub.next_ready() {
            let mut pulled: Vec<&Rc<Message>> = Vec::new();
            hub.pull(now, key, 1000, &mut pulled);
            hub.advance(key, hub.seq);
            hub.finish(now, key);
        }
        hub.tick(now);
        hub.check();
        most = most.max(hub.base_bytes);
    }
    let share = hub.history.total_bytes() / BASES_SHARE;
    assert!(most > share / 2 && most <= share, "{most} of {share}");
}
