//! What publishers ask for, and what their answers bind the server to.

use super::*;

impl Sim {
    pub(super) fn publish(&mut self) {
        let conn = self.connect();
        let (text, channel) = (self.text(), self.channel());
        match self.random.below(6) {
            0 => {
                let texts = vec![text, self.text()];
                let other = self.channel();
                let body = format!(
                    "{}\n{}\n",
                    json!({"channel": channel, "data": texts[0]}),
                    json!({"channel": other, "data": texts[1]})
                );
                let head = "POST /pub HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n";
                self.send(conn, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                self.wait(conn, Kind::Http, texts);
            }
            1 => {
                let key = format!("key {}", self.texts);
                self.publish_keyed(conn, channel, &text, &key);
            }
            2 => {
                self.send(
                    conn,
                    "GET /sub/quiet?after=now HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                );
                assert!(self.read(conn).starts_with("HTTP/1.1 101"));
                let command = json!({"publish": {"channel": channel, "data": text}, "ref": 7}).to_string();
                let length = command.len() as u8;
                let mut frame =
                    if length < 126 { vec![0x81, 0x80 | length] } else { vec![0x81, 0xfe, 0, length] };
                frame.extend([0; 4]);
                frame.extend(command.bytes());
                self.server.receive(self.world.now, conn, &frame, &mut self.world);
                self.turn();
                self.wait(conn, Kind::WebSocket, vec![text]);
            }
            3 => {
                let body = json!([{"channel": format!("/{channel}"), "data": text, "id": "1"}]).to_string();
                let head = "POST /bayeux HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
                self.send(conn, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
                let texts = vec![json!(text).to_string()];
                self.wait(conn, Kind::Bayeux, texts);
            }
            4 => {
                let ttl = [1, 20, 3000][self.random.below(3) as usize];
                let length = text.len();
                self.send(conn, &format!("POST /pub/{channel}?ttl={ttl} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}"));
                let end = self.line() + ttl * 1000;
                self.brief.insert(text.clone(), (end, end));
                self.wait(conn, Kind::Http, vec![text]);
            }
            _ => {
                let length = text.len();
                // Another request waits behind it.
                self.send(conn, &format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
                self.wait(conn, Kind::Http, vec![text]);
            }
        }
    }

    pub(super) fn publish_keyed(&mut self, conn: ConnId, channel: &str, text: &str, key: &str) {
        let was_stored = self.stored.contains(text);
        let head = format!("POST /pub/{channel} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {key}");
        self.send(conn, &format!("{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        let key = Some(format!("{channel} {key}"));
        self.waiting.push(Waiting { conn, texts: vec![text.to_owned()], key, kind: Kind::Http, was_stored });
    }

    /// Waits for the answer to what publishes `texts` without a key.
    pub(super) fn wait(&mut self, conn: ConnId, kind: Kind, texts: Vec<String>) {
        self.waiting.push(Waiting { conn, texts, key: None, kind, was_stored: false });
    }

    /// Sends a request again, of which the answer is not known or was a refusal.
    pub(super) fn repeat(&mut self) {
        let waiting =
            self.waiting.iter().filter_map(|waiting| Some((waiting.key.clone()?, waiting.texts[0].clone())));
        let mut all: Vec<(String, String)> = waiting.chain(self.refused.iter().cloned()).collect();
        if all.is_empty() {
            return;
        }
        let (key, text) = all.swap_remove(self.random.below(all.len() as u64) as usize);
        let (channel, key) = key.split_once(' ').unwrap();
        let conn = self.connect();
        self.publish_keyed(conn, channel, &text, key);
    }

    pub(super) fn delete(&mut self) {
        let at = self.random.below(3) as usize;
        let conn = self.connect();
        self.followers.iter_mut().for_each(|follower| follower.may_miss = true);
        self.send(conn, &format!("DELETE /pub/{} HTTP/1.1\r\nHost: x\r\n\r\n", CHANNELS[at]));
        self.wait(conn, Kind::Delete(at), vec![]);
    }

    /// The log answers some of what waits.
    pub(super) fn answer(&mut self) {
        let count = 1 + self.random.below(self.queue.len().max(1) as u64) as usize;
        let taken: Vec<Proposal> = self.queue.drain(..count.min(self.queue.len())).collect();
        let Some(last) = taken.last().map(|proposal| proposal.ticket) else { return };
        if !self.behind && self.random.one_in(5) {
            self.counts[1] += 1;
            let why = Refusal("no space left".to_owned());
            self.server.refuse_proposals(self.world.now, last, &why, &mut self.world);
        } else {
            let mut batch = Batch { own: Some(last), ..Batch::default() };
            for proposal in taken {
                self.store(&proposal);
                let numbered = (proposal.first..).zip(proposal.records);
                batch.entries.extend(numbered.map(|(seq, record)| Entry { seq, record }));
                batch.answered.extend(proposal.answered);
            }
            self.server.apply(self.world.now, batch, &mut self.world);
        }
        self.turn();
        if self.random.one_in(4) {
            let dead = self.disk.sweep(&self.server);
            let is_lasting = |seq: &Seq| !self.has_ended(&self.named[seq]);
            assert!(self.behind || !dead.iter().any(is_lasting), "nothing has left the rings: {dead:?}");
        }
    }

    /// Looks what publishers were answered.
    pub(super) fn hear(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let bytes = self.world.read(waiting.conn, usize::MAX);
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            if answer.is_empty() {
                let is_open = !self.world.at_end(waiting.conn);
                assert!(is_open || waiting.kind == Kind::WebSocket, "closed without an answer");
                self.waiting.push(waiting);
                continue;
            }
            self.judge(&waiting, &answer);
        }
    }

    pub(super) fn judge(&mut self, waiting: &Waiting, answer: &str) {
        let status = answer.get(9..12).unwrap_or_default();
        let is_done = match waiting.kind {
            Kind::Http => matches!(status, "201" | "202"),
            Kind::Bayeux => status == "200" && answer.contains("\"successful\":true"),
            Kind::WebSocket => answer.contains("\"ref\":7") && !answer.contains("\"error\""),
            Kind::Delete(_) => {
                assert!(matches!(status, "204" | "404" | "503"), "{answer}");
                return;
            }
        };
        if !is_done {
            assert!(
                answer.contains("503")
                    || waiting.kind == Kind::WebSocket && answer.contains("repeated")
                    || answer.contains("keep up"),
                "{answer}"
            );
            let text = waiting.texts[0].clone();
            self.refused.extend(waiting.key.clone().map(|key| (key, text)));
            return;
        }
        self.counts[2] += 1;
        for (index, text) in waiting.texts.iter().enumerate() {
            assert!(self.behind || self.stored.contains(text), "{text} was answered and is not stored");
            let seq = match waiting.kind {
                Kind::Http => {
                    let body = answer.split("\r\n\r\n").nth(1).unwrap();
                    let body = body.split("HTTP/1.1").next().unwrap();
                    let value: Value = serde_json::from_str(body).unwrap();
                    let one = if value.is_array() { &value[index] } else { &value };
                    Some(self.seq_of(one["id"].as_str().unwrap()))
                }
                _ => None,
            };
            if let Some(seq) = seq {
                assert_eq!(self.named.get(&seq), Some(text), "{seq} names what it was given for");
            }
            let known = self.told.insert(text.clone(), seq);
            // What a crash took before it was on the disk is published anew, under a number of its own.
            let was_lost = self.behind
                && !waiting.was_stored
                && known.flatten().is_some_and(|known| known < self.disk.lost_all);
            assert!(was_lost || known.is_none_or(|known| known == seq), "{text} was published twice");
        }
    }
}
