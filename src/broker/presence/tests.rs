//! Tests of who is here on one server.

use super::*;

const ROOM: &str = "chat/lobby";

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn told(presence: &mut Presence) -> Vec<String> {
    let text = |news| match news {
        News::Here { value, .. } => format!("+{value}"),
        News::Gone { subject, .. } => format!("-{subject}"),
        News::Count { value, .. } => value,
    };
    presence.take_news().into_iter().map(text).collect()
}

fn note(presence: &mut Presence, ms: u64, owner: u32, name: Option<&str>, is_here: bool) {
    let subject = name.map(|name| (Box::from(name), None));
    let channels = if is_here { vec![ROOM.into()] } else { Vec::new() };
    presence.note(at(ms), Owner(owner), subject.as_ref(), channels);
}

#[test]
fn short_absences_make_no_noise() {
    let mut presence = Presence::new(10_000, 10);
    note(&mut presence, 0, 1, Some("alice"), true);
    assert_eq!(told(&mut presence), [r#"+{"id":"alice"}"#]);
    note(&mut presence, 1000, 1, Some("alice"), false);
    note(&mut presence, 9000, 2, Some("alice"), true);
    note(&mut presence, 9500, 3, Some("alice"), true);
    presence.tick(at(30_000));
    note(&mut presence, 30_000, 2, None, false);
    presence.tick(at(60_000));
    assert_eq!(told(&mut presence), [""; 0]);
    assert_eq!(presence.look(ROOM).members.unwrap()[0].connections, 1);
    note(&mut presence, 60_000, 3, None, false);
    assert_eq!(presence.next_deadline(), at(70_000));
    presence.tick(at(69_999));
    assert_eq!(told(&mut presence), [""; 0]);
    presence.tick(at(70_000));
    assert_eq!(told(&mut presence), ["-alice"]);
    assert!(presence.is_empty());
}

#[test]
fn who_is_expelled_leaves_at_once_unless_it_is_there_otherwise() {
    let mut presence = Presence::new(10_000, 10);
    note(&mut presence, 0, 1, Some("alice"), true);
    note(&mut presence, 0, 2, Some("alice"), true);
    note(&mut presence, 0, 3, None, true);
    told(&mut presence);
    presence.expel(at(1), Owner(1), |_| true);
    assert_eq!(told(&mut presence), [""; 0]);
    presence.expel(at(2), Owner(2), |name| name == ROOM);
    assert_eq!(told(&mut presence), ["-alice"]);
    assert_eq!((presence.look(ROOM).count, presence.look(ROOM).anonymous), (0, 1));
    presence.expel(at(3), Owner(3), |_| false);
    assert_eq!(presence.look(ROOM).anonymous, 1);
    presence.expel(at(3), Owner(3), |_| true);
    assert!(presence.is_empty());
}

#[test]
fn a_crowd_is_counted_and_told_when_it_is_none_any_more() {
    let mut presence = Presence::new(0, 3);
    for number in 0..3 {
        note(&mut presence, 0, number, Some(&format!("user{number}")), true);
    }
    assert_eq!(told(&mut presence).len(), 3);
    note(&mut presence, 10, 3, Some("user3"), true);
    assert_eq!(told(&mut presence), [r#"{"count":4,"anonymous":0}"#]);
    for number in 4..100 {
        note(&mut presence, 10 + number, number as u32, Some(&format!("user{number}")), true);
    }
    assert_eq!(told(&mut presence), [""; 0], "once a second");
    presence.tick(at(1010));
    assert_eq!(told(&mut presence), [r#"{"count":100,"anonymous":0}"#]);
    // Who was told is removed when gone, even now.
    note(&mut presence, 1100, 0, None, false);
    assert_eq!(told(&mut presence), ["-user0"]);
    for number in 3..99 {
        note(&mut presence, 1200, number, None, false);
    }
    let left = told(&mut presence);
    assert_eq!(left, [r#"+{"id":"user99"}"#]);
    presence.tick(at(2010));
    assert_eq!(told(&mut presence), [r#"{"count":3,"anonymous":0}"#]);
    note(&mut presence, 9000, 99, None, false);
    assert_eq!(told(&mut presence), ["-user99"]);
}

#[test]
fn what_others_are_told_is_the_newest_and_subjects_may_change() {
    let mut presence = Presence::new(0, 10);
    let named = |name: &str, info: &str| (Box::from(name), Some(Box::from(info)));
    let here = || vec![Rc::from(ROOM)];
    presence.note(at(0), Owner(1), Some(&named("alice", "1")), here());
    presence.note(at(1), Owner(1), Some(&named("alice", "1")), here());
    presence.note(at(2), Owner(2), Some(&named("alice", "2")), here());
    let expected = [r#"+{"id":"alice","info":1}"#, r#"+{"id":"alice","info":2}"#];
    assert_eq!(told(&mut presence), expected);
    presence.note(at(3), Owner(1), Some(&named("bob", "3")), here());
    assert_eq!(told(&mut presence), [r#"+{"id":"bob","info":3}"#]);
    presence.note(at(4), Owner(2), None, here());
    assert_eq!(told(&mut presence), ["-alice"]);
    assert_eq!((presence.look(ROOM).count, presence.look(ROOM).anonymous), (1, 1));
    // What could not be told is told a second later, as it is then.
    presence.untold((ROOM.into(), "bob".into()));
    presence.untold((ROOM.into(), "alice".into()));
    presence.untold((ROOM.into(), "".into()));
    presence.tick(at(5));
    assert_eq!((told(&mut presence), presence.next_deadline()), (Vec::new(), at(1005)));
    presence.tick(at(1005));
    let expected = [r#"{"count":1,"anonymous":1}"#, "-alice", r#"+{"id":"bob","info":3}"#];
    assert_eq!(told(&mut presence), expected);
    assert_eq!(presence.next_deadline(), Instant::NEVER);
}

#[test]
fn who_is_between_two_connections_leaves_at_once_when_revoked() {
    let mut presence = Presence::new(10_000, 10);
    note(&mut presence, 0, 1, Some("alice"), true);
    note(&mut presence, 0, 2, Some("bob"), true);
    note(&mut presence, 1, 1, None, false);
    told(&mut presence);
    presence.expel_absent(at(2), "alice", |_| false);
    presence.expel_absent(at(2), "bob", |_| true);
    presence.expel_absent(at(2), "carol", |_| true);
    assert_eq!(told(&mut presence), [""; 0]);
    presence.expel_absent(at(3), "alice", |name| name == ROOM);
    assert_eq!(told(&mut presence), ["-alice"]);
    assert_eq!((presence.look(ROOM).count, presence.next_deadline()), (1, Instant::NEVER));
}

#[test]
fn a_large_crowd_leaves_some_a_turn() {
    let mut presence = Presence::new(1000, 10);
    for number in 0..2500 {
        note(&mut presence, 0, number, Some(&format!("user{number}")), true);
    }
    (0..2500).for_each(|number| note(&mut presence, 1, number, None, false));
    let mut turns = 0;
    while presence.next_deadline() <= at(1001) {
        presence.tick(at(1001));
        turns += 1;
    }
    assert!((3..=4).contains(&turns), "{turns}");
    presence.tick(at(5000));
    assert!(presence.look(ROOM).count == 0 && presence.timers.is_empty() && presence.rooms.is_empty());
}
