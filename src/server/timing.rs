//! Deadlines: one timer a connection, set when it begins to do something and looked at when it fires.

use super::rights::ENDED_SECONDS;
use super::surplus::SURPLUS_MS;
use super::{Server, Sink};
use crate::conn::{Phase, Slot, User};
use crate::hub::Pace;
use crate::time::{Instant, Now};
use crate::transport::{self, Look};
use crate::wire::head::Refusal;
use crate::wire::websocket::{EMPTY_PING, close};

/// Milliseconds of a body in which its pace does not matter.
pub(super) const BODY_GRACE_MS: u64 = 5000;
/// Timers that a turn looks at. Those of a crowd that came at once fire at once, each costs as much as a delivery, and
/// messages shall not wait for all of them.
const TIMERS: usize = 32;
/// Once timers fire so many milliseconds too late, a turn looks at as many as it may deliver messages.
const LATE_MS: u64 = 1000;
/// Milliseconds a connection lingers after its last answer.
pub(super) const LINGER_MS: u64 = 2000;

impl Server {
    /// Sees to it that the connection's timer fires in time; [`Server::timeout`] looks what for.
    pub(super) fn arm(&mut self, slot: Slot, now: Instant) {
        let connection = &self.connections[slot];
        let deadline = match connection.phase {
            // So it is after nearly every answer.
            Phase::Idle if connection.output.is_none() && connection.door.surplus().is_none() => {
                connection.since.plus_seconds(self.config.limits.idle_seconds)
            }
            _ => self.deadline(slot, now),
        };
        match deadline {
            Instant::NEVER => self.wheel.clear(slot),
            deadline => self.wheel.set_by(slot, deadline),
        }
    }

    /// When something must happen to the connection.
    pub(super) fn deadline(&self, slot: Slot, now: Instant) -> Instant {
        let connection = &self.connections[slot];
        let limits = &self.config.limits;
        let since = connection.since;
        let own = match &connection.phase {
            // While the client takes its answer, only stalling counts.
            Phase::Idle | Phase::Reading | Phase::Lingering if connection.output.is_some() => Instant::NEVER,
            Phase::Idle | Phase::Reading if connection.door.surplus().is_some() => since + SURPLUS_MS,
            Phase::Idle | Phase::Due => since.plus_seconds(limits.idle_seconds),
            Phase::Reading => self.reading_end(slot),
            Phase::Parked(parked) if parked.pace.is_none() => {
                since.plus_seconds(parked.timeout_seconds.into())
            }
            Phase::Parked(parked) => match self.broker.hub.wish(parked.subscriber).pace {
                Pace::HELD => since + parked.pace.period(),
                _ => since.plus_seconds(parked.timeout_seconds.into()).max(since + parked.pace.period()),
            },
            Phase::Streaming(_) => self.stream_end(since).min(self.heartbeat_at(slot, now)),
            Phase::Socket(_) => {
                let end = self.stream_end(since).min(self.message_end(slot));
                let end = end.min(self.first_subscription_end(slot));
                end.min(self.heartbeat_at(slot, now))
            }
            Phase::Lingering => since + LINGER_MS,
            // Its protocol keeps its own time.
            // The log always answers.
            // The application is given its time by the hook.
            Phase::Held(_) | Phase::Committing | Phase::Asking | Phase::Closed => Instant::NEVER,
        };
        own.min(self.unread_until(slot))
    }

    /// When the next heartbeat is due. The first comes up to a quarter earlier, everybody's at another moment: a crowd
    /// that came at once is not written to all at once, every few seconds, for as long as it stays.
    fn heartbeat_at(&self, slot: Slot, now: Instant) -> Instant {
        let interval = self.config.heartbeat * 1000;
        let is_first = now <= self.connections[slot].since;
        // Multiplied by the golden ratio, neighbouring slots lie far apart.
        let share = u64::from(slot.number().wrapping_mul(0x9E37_79B9));
        let early = if is_first { (interval / 4 * share) >> 32 } else { 0 };
        now + (interval - early)
    }

    /// Until when the request that is arriving must be complete, or go on arriving.
    fn reading_end(&self, slot: Slot) -> Instant {
        let connection = &self.connections[slot];
        match connection.input.as_ref().filter(|input| input.in_body()) {
            Some(input) => self.body_end(connection.since, input.body_len()),
            None => connection.since.plus_seconds(self.config.limits.head_seconds),
        }
    }

    /// Until when a body must be complete, or more of it than `len` bytes be here, that began to arrive at
    /// `since`.
    fn body_end(&self, since: Instant, len: usize) -> Instant {
        let limits = &self.config.limits;
        let end = since.plus_seconds(limits.body_seconds);
        match limits.body_bytes_per_second {
            0 => end,
            rate => end.min(since + BODY_GRACE_MS + len as u64 * 1000 / rate as u64),
        }
    }

    /// The same for the message that a WebSocket's client is sending.
    pub(super) fn message_end(&self, slot: Slot) -> Instant {
        // What has arrived and waits for its turn is not late.
        let incoming = self.aside.incoming.get(&slot).filter(|_| self.connections[slot].input.is_none());
        incoming
            .map_or(Instant::NEVER, |incoming| self.body_end(incoming.since, incoming.reader.payload_len()))
    }

    fn stream_end(&self, since: Instant) -> Instant {
        match self.config.limits.stream_seconds {
            0 => Instant::NEVER,
            seconds => since.plus_seconds(seconds),
        }
    }

    /// Until when a client must have taken more of what is unread.
    fn unread_until(&self, slot: Slot) -> Instant {
        match self.connections[slot].output {
            Some(_) => self.stalled_at(slot).min(self.pace_judged_at(slot)),
            None => Instant::NEVER,
        }
    }

    /// When the client has taken nothing for too long.
    fn stalled_at(&self, slot: Slot) -> Instant {
        let output = self.connections[slot].output.as_ref();
        let limit = match self.access.is_on() && self.rights.has_ended(slot) {
            true => ENDED_SECONDS.min(self.config.limits.stalled_seconds),
            false => self.config.limits.stalled_seconds,
        };
        output.map_or(Instant::NEVER, |output| output.progress.plus_seconds(limit))
    }

    /// Does what is due: timeouts and heartbeats of a few connections. The others have the next turn.
    pub fn tick(&mut self, now: Now, sink: &mut impl Sink) {
        if self.access.next_end() <= now.unix {
            self.end_grants(now, sink);
        }
        if self.rights.has_unjudged() {
            self.judge_again(now, sink);
        }
        if self.mercure.is_some() && self.next_mercure_end(now) <= now.at {
            self.end_mercure_grants(now, sink);
        }
        if self.access.hook.next_deadline() <= now.at {
            self.tick_hook(now, sink);
        }
        let is_late = self.wheel.next_deadline() + LATE_MS < now.at;
        let most = if is_late { self.config.turn.deliveries.max(TIMERS) } else { TIMERS };
        for _ in 0..most {
            let Some(slot) = self.wheel.expire(now.at) else { break };
            self.timeout(now, slot, sink);
            if !matches!(self.connections[slot].phase, Phase::Closed) {
                self.arm(slot, now.at);
            }
            if sink.is_late() {
                break;
            }
        }
        if !self.queues.abandoned.is_empty()
            || !self.queues.outbox.is_empty()
            || self.dialects.next_deadline() <= now.at
        {
            self.tick_sessions(now, sink);
        }
        if self.drain.farewell.is_some() {
            self.send_away(now, sink);
        }
        if self.telemetry.watch.next() <= now.at {
            self.tell_watchers(now);
        }
    }

    /// When the next turn must come; now, if work is left over.
    pub fn next_deadline(&self, now: Now) -> Instant {
        let work = self.broker.hub.has_ready()
            || self.broker.hub.has_bulk()
            || self.rights.has_unjudged()
            || self.has_untold_subscriptions()
            || self.queues.has_news()
            || !self.queues.put_off.is_empty()
            || !self.queues.departed.is_empty();
        let waits = self.queues.has_waiting() || self.broker.hub.has_moved();
        match work || waits && !self.broker.is_loading() {
            true => now.at,
            false => {
                let own = self.wheel.next_deadline().min(self.broker.hub.next_deadline());
                let sessions = self.dialects.next_deadline();
                let words = self.access.hook.next_deadline().min(self.broker.next_presence());
                let own = own.min(sessions).min(words).min(self.next_look_for_ends(now));
                own.min(self.next_farewell()).min(self.telemetry.watch.next()).min(self.next_mercure_end(now))
            }
        }
    }

    /// Does what the connection's timer was set for.
    #[inline(never)]
    fn timeout(&mut self, now: Now, slot: Slot, sink: &mut impl Sink) {
        if self.stalled_at(slot) <= now.at {
            return self.close_stalled(now.at, slot);
        }
        if self.unread_until(slot) <= now.at {
            self.judge_pace(now.at, slot);
            if matches!(self.connections[slot].phase, Phase::Closed) {
                return;
            }
        }
        let connection = &self.connections[slot];
        let since = connection.since;
        match &connection.phase {
            Phase::Streaming(_) | Phase::Socket(_) if self.stream_end(since) <= now.at => {
                self.broker.stats.streams_expired += 1;
                self.end_stream(now.at, slot, sink);
            }
            Phase::Socket(_) if self.first_subscription_end(slot) <= now.at => {
                self.close_socket(now.at, slot, Some(close::EXPIRED), "a token and a subscription were due");
                self.send(now.at, slot, sink);
            }
            Phase::Socket(_) if self.message_end(slot) <= now.at => {
                self.broker.stats.sockets_failed += 1;
                self.close_socket(now.at, slot, Some(close::POLICY), "the message took too long to arrive");
                self.send(now.at, slot, sink);
            }
            Phase::Streaming(_) | Phase::Socket(_) => self.heartbeat(now.at, slot, sink),
            // It was set for something that has been done since.
            _ if self.deadline(slot, now.at) > now.at => {}
            Phase::Parked(poll) => {
                let poll = *poll;
                let is_held = self.broker.hub.wish(poll.subscriber).pace == Pace::HELD;
                self.broker.hub.release(now.at, poll.subscriber);
                let goes_on = is_held && self.deadline(slot, now.at) > now.at;
                let no_news = (!goes_on).then_some(self.config.poll.no_news_status);
                self.answer_poll(now, slot, no_news, sink);
            }
            Phase::Idle | Phase::Reading if connection.door.surplus().is_some() => {
                self.turn_away(now, slot, None);
                self.send(now.at, slot, sink);
            }
            Phase::Reading => {
                self.broker.stats.heads_timed_out += 1;
                let detail = "the request took too long to arrive";
                self.refuse(now, slot, Refusal { status: 408, detail }, None);
                self.send(now.at, slot, sink);
            }
            Phase::Idle => {
                self.broker.stats.connections_idle += 1;
                self.close(now.at, slot);
            }
            Phase::Lingering => self.close(now.at, slot),
            Phase::Due => {
                self.refuse_waiting(now, slot);
                self.send(now.at, slot, sink);
            }
            Phase::Held(_) | Phase::Committing | Phase::Asking | Phase::Closed => {}
        }
    }

    fn close_stalled(&mut self, now: Instant, slot: Slot) {
        let connection = &self.connections[slot];
        let unread = connection.output.as_ref().map_or(0, |output| output.len());
        let seconds = self.config.limits.stalled_seconds;
        let why = format!(
            "the client stalled, it has read nothing for {seconds} s (limits.stalled_seconds), {unread} bytes unsent"
        );
        self.broker.stats.connections_stalled += 1;
        self.close_because(now, slot, why);
    }

    /// Shows a stream's client that we are there, and finds out whether the client is.
    fn heartbeat(&mut self, now: Instant, slot: Slot, sink: &mut impl Sink) {
        self.broker.stats.heartbeats += u64::from(self.probe(now, slot, sink));
    }

    /// Writes what a heartbeat is, to find out whether a client is still there. Returns whether it was written: a client
    /// that has not taken what came before is not probed.
    pub(super) fn probe(&mut self, now: Instant, slot: Slot, sink: &mut impl Sink) -> bool {
        let connection = &self.connections[slot];
        if connection.output.is_some() {
            return false;
        }
        let sign = match &connection.phase {
            Phase::Streaming(stream) if stream.look.stream.has_heartbeat() => {
                transport::heartbeat(stream.look, stream.loud)
            }
            Phase::Socket(user) => match *user {
                User::Subscriber { stream, loud, .. } => transport::heartbeat(Look::of_socket(stream), loud),
                User::Session(_) => EMPTY_PING.into(),
            },
            _ => return false,
        };
        self.log_bytes(slot, sign.len());
        self.send_bytes(now, slot, &sign, sink);
        true
    }
}
