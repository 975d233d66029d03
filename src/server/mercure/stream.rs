//! How streams of Mercure begin, or are turned away.

use super::super::Server;
use super::super::request::{Reply, envelope};
use crate::broker::access::Draft;
use crate::broker::{Client, Refusal};
use crate::conn::{Phase, Slot, Stream};
use crate::dialect::mercure::Listen;
use crate::dialect::{Holder, native};
use crate::hub::{Gap, Start, SubscriberKey};
use crate::id::MessageId;
use crate::time::Now;
use crate::transport::{self, Look, NOT_KEPT, Streaming};
use crate::wire::media;
use crate::wire::response::{self, Envelope, Response};
use std::io::Write;

impl Server {
    /// Where a subscriber begins that asks for that.
    fn mercure_start(&self, after: Option<&str>) -> Start {
        let Some(after) = after else { return Start::Now };
        if after == "earliest" {
            return Start::Oldest;
        }
        let own = after.strip_prefix('#').and_then(MessageId::parse);
        Start::After(own.or_else(|| self.broker.hub.find_id(after)).unwrap_or(MessageId::FOREIGN))
    }

    /// Attaches a subscriber and begins its stream.
    pub(super) fn begin_mercure(
        &mut self,
        now: Now,
        slot: Slot,
        listen: Listen,
        reply: &Reply,
    ) -> Result<(), Response> {
        let look = Look { stream: Streaming::Mercure, chunked: reply.head.http11 };
        if self.drain.begun {
            self.turn_mercure_away(now, slot, look, self.return_ms(slot), reply);
            return Ok(());
        }
        let Listen { selection, draft, has_any_url, grant, after, tells_start, head_only } = listen;
        let start = self.mercure_start(after.as_deref());
        let owner = Holder::Connection(slot).into();
        let client = Client::of(reply.head, self.connections[slot].peer, &self.config);
        let told = if head_only { 0 } else { selection.selectors().len() };
        let attached = self
            .may_be_told_of(now.at, client, told)
            .and_then(|()| self.broker.attach_selection(now.at, client, owner, selection, start));
        let (subscriber, selection) = match attached {
            Ok(attached) => attached,
            Err(refusal) => return self.refuse_mercure(now, slot, look, refusal, reply),
        };
        let begin = self.writer.out.len();
        let gaps = self.broker.hub.take_gaps(subscriber);
        let is_exact = matches!(start, Start::After(_)) && gaps.is_empty();
        let answered = after.as_deref().map(|after| (draft, if is_exact { after } else { "earliest" }));
        self.write_mercure_head(now, look, answered, reply);
        if head_only {
            self.broker.hub.detach(now.at, subscriber);
            self.answered(slot, reply.close);
            self.log_answer(now.at, slot, begin, false);
            return Ok(());
        }
        self.write_mercure_opening(look, &gaps, after.as_deref(), subscriber, tells_start);
        self.broker.stats.streams_started += 1;
        self.log_answer(now.at, slot, begin, true);
        self.connections[slot].enter(Phase::Streaming(Stream { subscriber, look, loud: false }), now.at);
        self.note_format(slot);
        // As with all streams, heartbeats are counted from here.
        self.wheel.clear(slot);
        self.note_listener(slot, selection, (draft, has_any_url), grant);
        Ok(())
    }

    fn write_mercure_head(&mut self, now: Now, look: Look, answered: Option<(Draft, &str)>, reply: &Reply) {
        let envelope = Envelope {
            close: !look.chunked || reply.close,
            ..envelope(self.writer.dates.at(now.unix), reply, &self.writer.cors)
        };
        self.telemetry.note_status(200);
        response::write_head(&mut self.writer.out, 200, &envelope);
        let content_type = transport::content_type(look.stream);
        let _ = write!(
            self.writer.out,
            "Content-Type: {content_type}\r\nCache-Control: {NOT_KEPT}\r\nX-Accel-Buffering: no\r\n{}",
            transport::precautions(look.stream),
        );
        if let Some((draft, answered)) = answered {
            let prefix = if draft == Draft::V1 { "Mercure-" } else { "" };
            let _ = write!(self.writer.out, "{prefix}Last-Event-ID: {answered}\r\n");
        }
        let coding: &[u8] = if look.chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" };
        self.writer.out.extend_from_slice(coding);
    }

    fn write_mercure_opening(
        &mut self,
        look: Look,
        gaps: &[Gap],
        after: Option<&str>,
        subscriber: SubscriberKey,
        tells_start: bool,
    ) {
        let position = self.broker.hub.position(subscriber);
        self.writer.out.extend(transport::opening(look, position.into(), "", &self.config));
        if self.config.mercure.gap_events {
            for gap in gaps {
                self.writer.out.extend(transport::mercure::gap_notice(look, gap, after));
            }
        }
        if tells_start {
            self.writer.out.extend(transport::mercure::start_notice(look, position));
        }
    }

    /// Answers who cannot be served now with a stream that ends at once: an EventSource takes no for ever.
    fn turn_mercure_away(&mut self, now: Now, slot: Slot, look: Look, retry_ms: u64, reply: &Reply) {
        let begin = self.writer.out.len();
        self.write_mercure_head(now, look, None, reply);
        if !reply.head_only {
            self.writer.out.extend(transport::cut_short(look, Some(retry_ms)));
        }
        self.log_answer(now.at, slot, begin, false);
        self.answered(slot, true);
    }

    #[cold]
    fn refuse_mercure(
        &mut self,
        now: Now,
        slot: Slot,
        look: Look,
        refusal: Refusal,
        reply: &Reply,
    ) -> Result<(), Response> {
        let is_stream = media::accepts(reply.head, media::EVENT_STREAM);
        match refusal.retry_seconds().filter(|_| is_stream) {
            Some((least, spread)) => {
                let retry_ms = self.retry_after(slot, least, spread) * 1000;
                self.turn_mercure_away(now, slot, look, retry_ms, reply);
                Ok(())
            }
            None => Err(self.refused(slot, refusal, native::wants_text(reply.head))),
        }
    }
}
