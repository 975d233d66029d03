//! Those who leave a channel and come back to it.

use super::*;

/// Channels of [`leaving_and_coming_back`].
const ROOMS: [&str; 3] = ["a", "b", "c"];

/// Whoever leaves is owed what was published before; who comes back before having that gets what came meanwhile, too.
#[test]
fn leaving_and_coming_back() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let now = Instant::default();
        let mut hub = Hub::new(&Config::default(), Epoch::from_random(7), now);
        let key = hub.attach(now, Owner(0), &ROOMS[..2], Vec::new(), Start::Now).unwrap();
        let mut listens = [true, true, false];
        let (mut journal, mut owed): (Vec<usize>, BTreeSet<Seq>) = (Vec::new(), BTreeSet::new());
        for _ in 0..200 {
            let room = random.below(3) as usize;
            match random.below(6) {
                0..3 => {
                    let publication = Publication::of(Data::Text("x".into()));
                    let published = hub.publish(now, ROOMS[room], publication).unwrap();
                    assert_eq!(published.subscribers, usize::from(listens[room]));
                    journal.push(room);
                    owed.extend(listens[room].then_some(published.id.seq));
                }
                3 => {
                    hub.unsubscribe(now, key, &[ROOMS[room]], &[]).unwrap();
                    listens[room] = false;
                }
                4 => {
                    hub.subscribe(now, key, &[ROOMS[room]], &[], |_| Start::Now).unwrap();
                    let first = owed.iter().find(|seq| journal[**seq as usize - 1] == room).copied();
                    let since = first.filter(|_| !listens[room]).unwrap_or(Seq::MAX);
                    let of_room = (1..).zip(&journal).filter(|(seq, of)| **of == room && *seq >= since);
                    owed.extend(of_room.map(|(seq, _)| seq));
                    listens[room] = true;
                }
                _ => {
                    let mut pulled: Vec<&Rc<Message>> = Vec::new();
                    assert!(hub.take_gaps(key).is_empty());
                    hub.pull(now, key, 1 + random.below(4) as usize, &mut pulled);
                    let pulled: Vec<Seq> = pulled.iter().map(|message| message.id.seq).collect();
                    assert!(owed.iter().take(pulled.len()).eq(&pulled), "seed {seed}: {owed:?}, {pulled:?}");
                    assert!(!pulled.is_empty() || owed.is_empty(), "seed {seed}: {owed:?} is not told");
                    pulled.iter().for_each(|seq| _ = owed.remove(seq));
                    hub.advance(key, pulled.last().copied().unwrap_or_else(|| hub.position(key).seq));
                    if random.one_in(2) {
                        hub.tick(now);
                    }
                }
            }
            hub.check();
        }
        hub.detach(now, key);
        hub.check();
    }
}
