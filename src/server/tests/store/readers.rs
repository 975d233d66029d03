//! What subscribers see, over all lives.

use super::*;

impl Sim {
    /// What a poll brings: messages, where to go on, and whether there is a gap.
    pub(super) fn poll(&mut self, channels: &str, after: &str) -> (Vec<(Seq, String)>, String, bool) {
        self.poll_page(channels, after, 1000)
    }

    /// The same, of at most `max` messages.
    pub(super) fn poll_page(
        &mut self,
        channels: &str,
        after: &str,
        max: u64,
    ) -> (Vec<(Seq, String)>, String, bool) {
        let conn = self.connect();
        let request = format!(
            "GET /sub/{channels}?as=interval&after={after}&max={max} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
        );
        self.send(conn, &request);
        let answer = self.read(conn);
        if answer.starts_with("HTTP/1.1 304") {
            let next = answer.split("Encke-Next: ").nth(1).unwrap().split("\r\n").next().unwrap();
            return (vec![], next.to_owned(), false);
        }
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).expect(&answer);
        let messages = body["messages"].as_array().unwrap().iter().map(|one| {
            let data = &one["data"];
            let text = data.as_str().map_or_else(|| data.to_string(), ToOwned::to_owned);
            (self.seq_of(one["id"].as_str().unwrap()), text)
        });
        (messages.collect(), body["next"].as_str().unwrap().to_owned(), body["gap"] == true)
    }

    pub(super) fn follow(&mut self) {
        let at = self.random.below(3) as usize;
        let (channels, place) = (self.followers[at].channels, self.followers[at].next.clone());
        let mut last = self.seq_of(&place);
        let is_from_before = last + 1 < self.disk.lost_all;
        // With pages that are too small for all, the last of what is older tells of what a crash took.
        let max = if self.random.one_in(3) { 1 + self.random.below(4) } else { 1000 };
        let (messages, next, gap) = self.poll_page(channels, &place, max);
        let next_seq = self.seq_of(&next);
        let is_partial = messages.len() as u64 == max && next_seq + 1 < self.disk.lost_all;
        let line = self.line();
        let follower = &mut self.followers[at];
        assert!(gap || is_partial || !is_from_before, "what a crash took was not told of: {place}");
        let has_cause = follower.may_miss || is_from_before && !is_partial;
        assert!(!gap || has_cause, "a gap without a cause: {place}");
        assert!(is_partial || next_seq + 1 >= self.disk.lost_all, "the same gap would be told again: {next}");
        if gap {
            // What is kept is brought along; what is missing is older than where it goes on.
            follower.since = next_seq;
            follower.seen.clear();
        } else {
            follower.may_miss &= max < 1000;
        }
        for (seq, text) in messages {
            let known = self.named.get(&seq).map(|named| named.trim_matches('"'));
            assert_eq!(known, Some(text.trim_matches('"')), "{seq} shows what is stored");
            let is_over = self.brief.get(&text).is_some_and(|&(_, end)| end <= line);
            assert!(!is_over, "{seq} has expired");
            assert!(seq > last, "in order, none twice");
            last = seq;
            follower.seen.insert(seq, text);
        }
        assert!(next_seq >= last, "it would be given {last} again");
        follower.next = next;
        let channels: Vec<&str> = channels.split(',').collect();
        let follower = &self.followers[at];
        for entry in &self.disk.entries {
            let is_its = match entry.record.channel() {
                GROUP => false,
                channel => channels.contains(&"*") || channels.contains(&channel),
            };
            let has_it = entry.seq <= follower.since || follower.seen.contains_key(&entry.seq);
            let has_it = has_it || max < 1000 && entry.seq > next_seq;
            // Whoever has not had it is told so, as long as its place is older than what was deleted.
            let is_told = gap && self.is_deleted_ahead(entry) || self.has_ended(&self.named[&entry.seq]);
            assert!(!is_its || has_it || is_told, "{} was not delivered", entry.seq);
        }
    }

    /// Whether the time is over of what it says.
    pub(super) fn has_ended(&self, text: &str) -> bool {
        self.brief.get(text).is_some_and(|&(end, _)| end <= self.line())
    }

    /// Whether its channel was deleted in `behind` since, which is not on the disk yet.
    pub(super) fn is_deleted_ahead(&self, entry: &Entry) -> bool {
        let deletes = |record: &Record| matches!(record, Record::Deleted { channel } if **channel == *entry.record.channel());
        let later = self.queue.iter().filter(|proposal| proposal.first > entry.seq);
        self.behind && later.flat_map(|proposal| &proposal.records).any(deletes)
    }

    /// The rings hold what is on the disk, and nothing that is not.
    pub(super) fn check_history(&mut self) {
        let (messages, ..) = self.poll(&format!("a,b,c,{GROUP}"), "oldest");
        let shown: BTreeMap<Seq, String> = messages.into_iter().collect();
        let seqs = self.disk.entries.iter().map(|entry| entry.seq);
        let stored: BTreeSet<Seq> = seqs.filter(|seq| !self.has_ended(&self.named[seq])).collect();
        assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), stored);
        if !self.behind {
            for (text, seq) in &self.told {
                let is_there = seq.is_none_or(|seq| stored.contains(&seq));
                let is_gone = self.deleted.contains(text) || self.has_ended(text);
                assert!(is_there || is_gone, "{text} was answered and is not there");
            }
        }
        for seq in self.followers.iter().flat_map(|follower| follower.seen.keys()) {
            let text = &self.named[seq];
            let may_be_gone =
                *seq < self.disk.lost_all || self.deleted.contains(text) || self.has_ended(text);
            assert!(may_be_gone || stored.contains(seq), "{seq} was seen and is not there");
        }
        let texts: BTreeSet<&String> = shown.values().collect();
        assert_eq!(texts.len(), shown.len(), "something was published twice");
    }

    pub(super) fn live(&mut self) {
        for _ in 0..self.random.below(120) {
            match self.random.below(20) {
                0..9 => self.publish(),
                9 => self.repeat(),
                10 if self.random.one_in(3) => self.delete(),
                11..16 => self.answer(),
                16..19 => self.follow(),
                19 if self.random.one_in(2) => self.chat(),
                _ => self.world.advance(self.random.below(700)),
            }
            self.hear();
        }
        if self.random.one_in(2) {
            while !self.queue.is_empty() {
                self.answer();
            }
            self.hear();
            assert!(self.waiting.is_empty(), "without an answer: {:?}", self.waiting);
            let waiting = self.server.broker.log_waiting().unwrap();
            assert_eq!((waiting.proposals, waiting.bytes), (0, 0));
        }
        self.end();
    }
}
