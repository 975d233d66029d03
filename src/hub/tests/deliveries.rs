//! What the hub gives a subscriber, beside what its twin is owed.

use super::*;

impl Pair {
    /// One subscriber pulls a batch of any size.
    pub(super) fn deliver(&mut self) {
        let Some(key) = self.hub.next_ready() else { return };
        let place =
            self.twins.iter().position(|twin| twin.key == key).expect("only who is attached is ready");
        let max = 1 + self.random.below(5) as usize;
        let gaps = match self.random.one_in(2) {
            true => self.hub.take_gaps(key),
            false => self.hub.take_gaps_for(self.now, key, max),
        };
        let is_cut = self.hub.is_cut(key);
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        self.hub.pull(self.now, key, max, &mut pulled);
        let pulled: Vec<(Seq, Rc<str>)> =
            pulled.iter().map(|message| (message.id.seq, Rc::clone(&message.channel))).collect();
        self.compare(place, &gaps, &pulled, max);
        let last = pulled.last().map_or_else(|| self.hub.position(key).seq, |(seq, _)| *seq);
        self.hub.advance(key, last);
        if pulled.len() == max || is_cut {
            assert!(!pulled.is_empty(), "it would go on for ever");
            self.hub.mark(key);
        }
        self.encode(key, pulled.first().map(|(seq, _)| *seq));
    }

    /// Has the first message that somebody pulled encoded, for all or for the moment; now and then, somebody holds it
    /// for longer.
    pub(super) fn encode(&mut self, key: SubscriberKey, first: Option<Seq>) {
        let (Some(seq), Memberships::One { channel, .. }) = (first, &self.hub.subscribers[key].memberships)
        else {
            return;
        };
        let channel = *channel;
        let format = self.random.below(3) as u8;
        let message = Rc::clone(self.hub.message(channel, seq).expect("it was pulled"));
        let (frame, encoded) = message.frame(format, |_| vec![format; 9].into());
        assert_eq!(frame, [format; 9]);
        match self.random.one_in(2) {
            _ if encoded == 0 => {}
            true => {
                let mut all = Encoded::default();
                all.note(&message, encoded);
                self.hub.charge(&all);
            }
            false => self.hub.charge_once(channel, seq, encoded),
        }
        if self.random.one_in(8) {
            // It is held, and keeps what was encoded.
            self.hub.tick(self.now);
        }
    }

    pub(super) fn compare(&mut self, place: usize, gaps: &[Gap], pulled: &[(Seq, Rc<str>)], max: usize) {
        let twin = &mut self.twins[place];
        let is_all = pulled.len() < max && !self.hub.is_cut(twin.key);
        let upto = if is_all { self.known.len() as Seq } else { pulled[pulled.len() - 1].0 };
        for gap in gaps {
            let key = self.hub.names.get(&gap.channel);
            let lost = key.map_or(gap.oldest.seq, |key| self.hub.channels[key].ring.evicted());
            twin.told.push((Rc::clone(&gap.channel), lost));
            let is_told = |of: &str| *of == *gap.channel || NAMES.contains(&of) && matches(&gap.channel, of);
            twin.foreign.retain(|of| !is_told(of));
        }
        if is_all {
            assert!(twin.foreign.is_empty(), "foreign ids are told of: {twin:?} {gaps:?} {pulled:?}");
        }
        let mut expected = pulled.iter().map(|(seq, _)| *seq).peekable();
        let begin = twin.windows.values().map(|window| window.cursor).min().unwrap_or(upto);
        for seq in begin + 1..=upto {
            let Known { channel, expires, grace, is_taken, .. } = &self.known[seq as usize - 1];
            let window = twin.windows.get(channel).filter(|window| seq > window.cursor);
            let window = window.filter(|window| window.covers(seq));
            if expected.next_if_eq(&seq).is_some() {
                let window =
                    window.unwrap_or_else(|| panic!("{seq} of {channel} was not asked for: {twin:?}"));
                assert!(seq > window.joined || *expires > self.now, "{seq} had expired");
                assert!(!twin.foreign.iter().any(|foreign| **foreign == **channel), "its gap comes first");
                twin.had.push(seq);
                continue;
            }
            let is_due = window.is_some() && *expires > self.now;
            let is_told = twin.told.iter().any(|(gap, lost)| seq <= *lost && matches(gap, channel));
            assert!(!is_due || is_told, "{seq} of {channel} is missing: {twin:?}, {gaps:?}, {pulled:?}");
            let is_bytes = self.config.history.bytes.min(self.config.history.total_bytes) < 1 << 20;
            let is_safe = *grace > self.now && !is_bytes && !is_taken;
            assert!(!is_due || !is_safe, "{seq} of {channel} is gone before its grace is over");
        }
        assert_eq!(expected.next(), None, "out of order, or twice");
        // A gap is told only where something was lost, unless that is no longer known.
        for gap in gaps.iter().filter(|_| self.tombstones_suffice) {
            let is_lost = |(seq, known): (Seq, &Known)| {
                matches(&gap.channel, known.channel) && seq > gap.after.seq && !twin.had.contains(&seq)
            };
            let foreign = gap.after.epoch != self.hub.epoch
                || twin.suspected.iter().any(|of| *of == gap.channel || matches(of, &gap.channel));
            assert!(foreign || (1..).zip(&self.known).any(is_lost), "nothing was lost: {gap:?}");
        }
        twin.windows.values_mut().for_each(|window| window.cursor = window.cursor.max(upto));
    }

    /// The numbers in a channel's ring that have not expired.
    pub(super) fn kept(&self, name: &str) -> Vec<Seq> {
        let Some(key) = self.hub.names.get(name) else { return Vec::new() };
        let ring = self.hub.channels[key].ring.after(0);
        ring.filter(|message| !message.expired(self.now)).map(|message| message.id.seq).collect()
    }
}
