//! Clients of the simulation that speak through WebSockets, and those of Bayeux.

use super::super::bayeux_client::STREAM;
use super::super::trace::note;
use super::requests::key;
use super::{Sim, view};
use crate::conn::ConnId;
use crate::id::Seq;

impl Sim {
    /// Something happens to a WebSocket.
    pub(super) fn talk(&mut self) {
        let who = self.random.below(self.talkers.len() as u64) as usize;
        let newest = self.server.broker.hub.journal.len() as Seq;
        let Some(id) = self.talkers[who].id else {
            if self.draining {
                return;
            }
            let Some((id, _)) = self.accept() else { return };
            let item = self.item();
            let handshake = self.talkers[who].begin(id, item, newest);
            note!(self, "socket {who} opens as {id:?} {item}");
            return self.server.receive(self.world.now, id, handshake.as_bytes(), &mut self.world);
        };
        if self.habits.resets && self.random.one_in(20) {
            note!(self, "socket {who} resets");
            self.world.socket(id).broken = true;
            self.server.reset(self.world.now, id);
            self.stale.extend(self.talkers[who].leave());
        } else if self.talkers[who].may_speak() && self.server.find(id).is_some() {
            let bytes = self.say(who, newest);
            note!(self, "socket {who} says {:?}", String::from_utf8_lossy(&bytes));
            self.receive_in_pieces(id, &bytes);
        }
    }

    /// A command.
    pub(super) fn say(&mut self, who: usize, newest: Seq) -> Vec<u8> {
        match self.random.below(10) {
            0..3 => {
                let items = (0..=self.random.below(2)).map(|_| self.item()).collect();
                self.talkers[who].subscribe(items, newest)
            }
            3..5 => {
                let item = self.item();
                self.talkers[who].unsubscribe(item, newest)
            }
            5 if self.habits.nonsense => self.talkers[who].say_nonsense(),
            _ => {
                let (channels, number) = self.keyed_or_new();
                let (payload, ttl) = self.sent[number].clone();
                let mut more = serde_json::json!({"ttl": ttl});
                if self.is_keyed(number) {
                    more["idempotency_key"] = key(number).into();
                }
                self.talkers[who].publish(channels[0], payload, &more)
            }
        }
    }

    /// A WebSocket reads.
    pub(super) fn hear(&mut self, who: usize, id: ConnId, slowly: bool) {
        let max = if slowly { [0, 1, 50, 1 << 30][self.random.below(4) as usize] } else { usize::MAX };
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "socket {who} reads {:?}", String::from_utf8_lossy(&bytes));
            self.talkers[who].take(&bytes, &view(&self.server, self.epochs, self.world.now.at));
        }
        if self.world.at_end(id) {
            let is_cut = self.is_cut(id);
            note!(self, "socket {who} sees the end");
            assert!(
                is_cut || self.talkers[who].over,
                "a WebSocket ends without a word: {:?}",
                self.talkers[who]
            );
            self.server.reset(self.world.now, id);
            self.stale.extend(self.talkers[who].leave());
        }
    }

    /// Something happens to a client of Bayeux.
    pub(super) fn speak_bayeux(&mut self) {
        let who = self.random.below(self.bayeux.len() as u64) as usize;
        let line = self.bayeux[who].choose_line(&mut self.random);
        let Some(id) = self.bayeux[who].connection(line) else {
            if self.draining {
                return;
            }
            let Some((id, _)) = self.accept() else { return };
            note!(self, "Bayeux client {who} connects as {id:?}");
            let begin = self.bayeux[who].open(line, id);
            return begin
                .into_iter()
                .for_each(|bytes| self.server.receive(self.world.now, id, bytes, &mut self.world));
        };
        if self.habits.resets && self.random.one_in(20) {
            note!(self, "Bayeux client {who} resets {id:?}");
            self.world.socket(id).broken = true;
            // The reactor may find out by writing before it is told.
            if self.random.one_in(2) {
                self.server.reset(self.world.now, id);
            }
            self.stale.extend(self.bayeux[who].lose(line, true));
        } else if self.server.find(id).is_none() || !self.bayeux[who].may_speak(line) {
            // Nothing can be said.
        } else if self.habits.half_closes && line != STREAM && self.random.one_in(30) {
            note!(self, "Bayeux client {who} half-closes {id:?}");
            self.bayeux[who].half_close(line);
            self.server.hang_up(self.world.now, id, &mut self.world);
        } else {
            let (item, channel, number) = (self.item(), self.channel(), self.sent.len());
            let filler = ["x", "é\u{2028}"][self.random.below(2) as usize];
            let payload = format!("{{\"m\":{number},\"x\":\"{filler}\"}}");
            let view = view(&self.server, self.epochs, self.world.now.at);
            let mut is_new = false;
            let message = || {
                is_new = true;
                payload.clone()
            };
            let said = self.bayeux[who].say(&mut self.random, line, &view, (item, channel), message);
            if is_new {
                self.sent.push((payload, None));
            }
            let Some(bytes) = said else { return };
            note!(self, "Bayeux client {who} says {:?}", String::from_utf8_lossy(&bytes));
            self.receive_in_pieces(id, &bytes);
            if self.server.is_waiting(id) {
                self.bayeux[who].waits(line);
            }
        }
    }

    /// A client of Bayeux reads.
    pub(super) fn hear_bayeux(&mut self, who: usize, line: usize, id: ConnId, slowly: bool) {
        let max = if slowly { [0, 1, 50, 1 << 30][self.random.below(4) as usize] } else { usize::MAX };
        let bytes = self.world.read(id, max);
        if !bytes.is_empty() {
            note!(self, "Bayeux client {who} reads {:?}", String::from_utf8_lossy(&bytes));
            self.bayeux[who].take(line, &bytes, &view(&self.server, self.epochs, self.world.now.at));
        }
        if self.world.at_end(id) {
            let is_cut = self.draining || self.is_cut(id);
            note!(self, "Bayeux client {who} sees the end of {id:?}");
            self.server.reset(self.world.now, id);
            self.stale.extend(self.bayeux[who].lose(line, is_cut));
        }
    }
}
