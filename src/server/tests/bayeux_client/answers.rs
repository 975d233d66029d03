//! What a client takes in: answers, frames and events, and what of them its ledger is told.

use super::*;

/// What it is told.
impl BayeuxClient {
    /// Takes bytes that arrived on a line.
    pub fn take(&mut self, line: usize, bytes: &[u8], view: &View) {
        let Some(mut current) = self.lines[line].take() else { return };
        current.inbox.extend_from_slice(bytes);
        while self.step(line, &mut current, view) {}
        self.lines[line] = Some(current);
    }

    /// Takes one answer, or one frame. False if there is none.
    fn step(&mut self, line: usize, of: &mut Line, view: &View) -> bool {
        if self.by_socket && of.is_open {
            let Some((opcode, payload)) = take_frame(&mut of.inbox) else { return false };
            assert!(!of.over, "frames after the last one");
            match opcode {
                0x1 => self.messages(line, &payload, view),
                0x8 => of.over = true,
                0x9 | 0xa => {}
                _ => panic!("a frame of kind {opcode}"),
            }
            return true;
        }
        if let Stream::Begun(life) = of.stream {
            return self.take_streamed(of, life, view);
        }
        let Some(head) = Head::read(&of.inbox).filter(|_| !of.inbox.is_empty()) else { return false };
        if let Stream::Asked(life) = of.stream
            && head.field("transfer-encoding").is_some()
        {
            assert_eq!(head.status, 200);
            of.inbox.drain(..head.length);
            of.stream = Stream::Begun(life);
            if life == self.life {
                // From now on nothing is sent on an older one.
                self.ledger.excuse_up_to(view.newest());
            }
            return true;
        }
        let length = head.field("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        let end = head.length + length;
        if of.inbox.len() < end {
            return false;
        }
        let body = of.inbox[head.length..end].to_vec();
        of.inbox.drain(..end);
        of.over = head.field("connection") == Some("close");
        let stream = std::mem::replace(&mut of.stream, Stream::None);
        match head.status {
            // What an EventSource gets instead of a refusal.
            200 if stream != Stream::None => {
                assert!(
                    body.starts_with(b"retry: ") && head.field("retry-after").is_some(),
                    "{}",
                    String::from_utf8_lossy(&body)
                );
            }
            404 if stream == Stream::Asked(self.life) => {
                self.session_gone(&String::from_utf8_lossy(&body), view);
            }
            404 if stream != Stream::None => {}
            101 => of.is_open = true,
            200 => {
                let script = body.strip_prefix(b"/**/f(").and_then(|rest| rest.strip_suffix(b");"));
                self.messages(line, script.unwrap_or(&body), view);
                let left: Vec<_> = self.asked.values().filter(|asked| asked.line == line).collect();
                assert!(left.is_empty(), "not answered: {left:?}");
            }
            status => {
                assert!(REFUSALS.contains(&status), "{status}: {}", String::from_utf8_lossy(&body));
                let asked = std::mem::take(&mut self.asked);
                let (refused, others) = asked.into_iter().partition(|(_, asked)| asked.line == line);
                self.asked = others;
                self.give_up(refused);
            }
        }
        true
    }

    /// Takes one chunk of a stream. False if there is none.
    fn take_streamed(&mut self, of: &mut Line, life: u32, view: &View) -> bool {
        let Some(chunk) = take_chunk(&mut of.inbox) else { return false };
        assert!(!of.over, "bytes after the last chunk");
        of.over = chunk.is_empty();
        let Some(messages) = chunk.strip_prefix(b"data: ") else {
            assert!([&b""[..], b":\r\n\r\n", b"retry: 5000\r\n\r\n"].contains(&&chunk[..]), "{chunk:?}");
            return true;
        };
        if life == self.life {
            // Of a gap the answer to the next connect tells.
            self.ledger.is_told_later(Some(self.count));
            self.messages(STREAM, messages, view);
            self.ledger.is_told_later(None);
        }
        true
    }

    /// Messages of one answer, or of one frame.
    fn messages(&mut self, line: usize, text: &[u8], view: &View) {
        let messages: Vec<Value> = serde_json::from_slice(text).unwrap();
        let is_event = |message: &&Value| message.get("data").is_some();
        let has_connect = messages.iter().any(|message| message["channel"] == "/meta/connect");
        let has_events = messages.iter().any(|message| is_event(&message));
        let is_pushed = (self.by_socket || line == STREAM) && !self.acks;
        assert!(!has_events || has_connect || is_pushed, "events come with connects: {messages:?}");
        // What an earlier session was told is of no use any more.
        let of_connect = |message: &&Value| message["channel"] == "/meta/connect";
        let connect = messages.iter().find(of_connect).and_then(|reply| reply["id"].as_str()?.parse().ok());
        let asked = connect.and_then(|id: u64| self.asked.get(&id));
        let is_current = asked.is_none_or(|asked| asked.life == self.life);
        // Gaps stand behind the events that come after them.
        for name in messages.iter().filter_map(|message| message["ext"]["gap"].as_array()).flatten() {
            if !is_current {
                break;
            }
            let name = name.as_str().unwrap().strip_prefix('/').unwrap();
            let of_it = |message: &&Value| message["channel"].as_str() == Some(&format!("/{name}"));
            let first = messages.iter().filter(is_event).find(of_it);
            let upto = first.map_or_else(|| view.newest(), |event| self.find(event, view) - 1);
            self.ledger.gap(name, upto);
            self.seen.gaps += 1;
        }
        for message in &messages {
            match is_event(&message) {
                true if is_current => {
                    self.event(message, view);
                    self.seen.streamed += u64::from(line == STREAM);
                }
                true => {}
                false => self.reply(line, message, view),
            }
        }
    }

    /// Which message an event is.
    fn find(&self, event: &Value, view: &View) -> Seq {
        let channel = event["channel"].as_str().unwrap().strip_prefix('/').unwrap();
        let bytes = payload(&without_replay(event));
        let is_it =
            |message: &&Message| *message.channel == *channel && message.publication.data.bytes() == bytes;
        let found = match event["ext"]["replayId"].as_u64() {
            Some(id) => view.journal.iter().find(|message| replay_id(message.id) == id),
            None => view.journal[self.ledger.cursor() as usize..].iter().find(is_it),
        };
        let found = found.unwrap_or_else(|| panic!("an event of no message, or too late: {event}, {self:?}"));
        assert!(is_it(&found), "{event}");
        found.id.seq
    }

    fn event(&mut self, event: &Value, view: &View) {
        assert!(event.get("id").is_none() && event.get("clientId").is_none(), "{event}");
        let seq = self.find(event, view);
        let life = self.life;
        let pending = self.asked.values().filter(|asked| asked.life == life);
        let pending = pending.filter_map(|asked| match &asked.what {
            What::Subscribe(items, after) => Some((&items[..], after.unwrap_or(asked.newest))),
            _ => None,
        });
        self.ledger.message(seq, view, pending);
        self.last = event["ext"]["replayId"].as_u64().map(|id| (id, seq)).or(self.last);
        self.seen.events += 1;
    }

    fn reply(&mut self, line: usize, reply: &Value, view: &View) {
        let id: u64 = reply["id"].as_str().expect("an id").parse().unwrap();
        let asked = self.asked.remove(&id).unwrap_or_else(|| panic!("an answer to nothing: {reply}"));
        assert_eq!(asked.line, line, "an answer elsewhere");
        let (is_done, error) = (reply["successful"] == true, reply["error"].as_str().unwrap_or_default());
        assert!(is_done != reply["error"].is_string(), "{reply}");
        if asked.life != self.life {
            return;
        }
        let is_unknown = error.starts_with("402::");
        if is_unknown && !matches!(asked.what, What::Handshake) {
            if let What::Connect(_) = asked.what {
                assert_eq!(reply["advice"]["reconnect"], "handshake", "{reply}");
            }
            return self.session_gone(error, view);
        }
        self.heard = self.heard.max(asked.at);
        match asked.what {
            What::Handshake if is_done => {
                self.session = Some(reply["clientId"].as_str().unwrap().to_owned());
                assert_eq!(reply["ext"]["ack"] == true, self.acks, "{reply}");
                (self.heard, self.has_restarted) = (asked.at, false);
                self.seen.sessions += 1;
            }
            What::Connect(by_stream) => {
                assert!(is_done, "{reply}");
                // What goodbyes answer has no number.
                if self.acks && reply["advice"]["reconnect"] != "none" {
                    let batch = reply["ext"]["ack"].as_u64().expect("a batch");
                    assert!(batch > self.batch, "batches have ascending numbers");
                    self.batch = batch;
                }
                self.ledger.settle(id, view);
                (self.streams, self.is_back) = (by_stream, false);
                // The server may not know yet that a stream is lost.
                if !by_stream || self.has_stream() {
                    self.ledger.excuse_up_to(view.newest());
                }
            }
            What::Subscribe(items, after) if is_done => {
                // What is asked for from an earlier place on has to come from there, or a gap is told.
                let begun = after.filter(|&after| after > 0).unwrap_or_else(|| view.newest());
                let asked = after.unwrap_or(asked.newest);
                items.iter().for_each(|&item| self.ledger.begin(item, asked, begun));
                items.into_iter().for_each(|item| self.note_leaving(item));
            }
            What::Unsubscribe(item) if is_done => self.ledger.end(item, asked.newest, view.newest()),
            What::Publish(channel, payload) if is_done => {
                let is_it = |message: &Message| {
                    *message.channel == *channel && message.publication.data.bytes() == payload.as_bytes()
                };
                assert!(view.journal.iter().any(is_it), "{payload} was not published");
                self.seen.published += 1;
            }
            What::Disconnect if is_done => self.forget(),
            What::Unsubscribe(item) => {
                self.ledger.go_on(item, asked.newest);
                self.note_leaving(item);
            }
            What::Handshake | What::Subscribe(..) | What::Publish(..) | What::Disconnect => {}
        }
    }

    /// What has been asked for may have been left since, by what is not answered yet.
    fn note_leaving(&mut self, item: &'static str) {
        let leaves = |asked: &&Asked| {
            asked.life == self.life && matches!(asked.what, What::Unsubscribe(left) if left == item)
        };
        let asked = self.asked.values().filter(leaves).map(|asked| asked.newest);
        asked.for_each(|newest| self.ledger.perhaps_end(item, newest));
    }

    /// The server knows the session no more: its time was over, or it has missed something, or the server is another.
    fn session_gone(&mut self, why: &str, view: &View) {
        let is_over = self.heard + self.terms.max_interval_ms <= view.at;
        let leaves = |asked: &Asked| asked.life == self.life && matches!(asked.what, What::Disconnect);
        let is_leaving = self.asked.values().any(leaves);
        let is_known = self.has_restarted || self.terms.ends_on_gap || is_over || is_leaving;
        assert!(is_known, "the session is gone: {why}, {self:?}");
        self.seen.unknown += 1;
        self.forget();
    }

    /// When all is quiet, who waits lacks nothing, and does not wait for too long.
    pub fn settle(&mut self, view: &View) {
        if self.streams && self.has_stream() && !self.acks && !self.is_connecting() && !self.has_restarted {
            self.ledger.is_told_later(Some(self.count));
            self.ledger.account(view.newest(), view);
            return self.ledger.is_told_later(None);
        }
        let is_connect = |asked: &&Asked| matches!(asked.what, What::Connect(_)) && asked.life == self.life;
        let Some(connect) = self.asked.values().find(is_connect) else { return };
        let Some(line) = &self.lines[connect.line] else { return };
        if line.over || line.half_closed || self.has_restarted {
            return;
        }
        let due = connect.at + self.terms.timeout_ms + 16;
        assert!(connect.is_deferred || due > view.at, "a connect overslept: {self:?}");
        self.ledger.account(view.newest(), view);
    }
}

/// The data of an event as it was published: where it is an object, its position has been written into it.
fn without_replay(event: &Value) -> Value {
    let mut data = event["data"].clone();
    if let Some(object) = data.as_object_mut() {
        object.remove("event");
    }
    data
}
