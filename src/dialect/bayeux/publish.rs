//! Publishing by Bayeux clients: allowed by channel patterns alone, whoever they are.

use super::channel::Channel;
use super::message::Incoming;
use super::{Bayeux, Exchange, Visitor, reply};
use crate::dialect::Context;
use crate::hub::{Data, Publication};
use crate::wire::{json, media};
use std::borrow::Cow;

impl Bayeux {
    /// Publishes a message, or says why not. A message without a client id is welcome, one with an unknown
    /// client id is not.
    pub(super) fn publish(
        &mut self,
        cx: &mut Context,
        exchange: &Exchange,
        message: &Incoming,
        channel: &str,
    ) -> Result<(), Cow<'static, str>> {
        let session = match message.client_id() {
            None => None,
            Some(id) => match self.session_of(cx, exchange, message) {
                None => return Err(reply::SESSION_UNKNOWN.into()),
                Some(_) => Some(id),
            },
        };
        let name = match Channel::read(channel) {
            Some(Channel::Name(name)) => name,
            Some(Channel::Meta) => return Err(reply::denied(channel, "publish").into()),
            // Between this client and the server, which has no services of its own: nobody else may see it.
            Some(Channel::Service) => return Ok(()),
            Some(Channel::Pattern(_)) | None => return Err(reply::CHANNEL_INVALID.into()),
        };
        if !self.publish.name(name) {
            return Err(reply::denied(channel, "publish").into());
        }
        if !self.may_publish_now(cx, exchange.visitor) {
            return Err(reply::TOO_MANY_MESSAGES.into());
        }
        let data = message.data.ok_or(reply::DATA_MISSING)?.get();
        json::check_valid(data).map_err(|_| reply::DATA_INVALID)?;
        let id = message.id().unwrap_or_default();
        if let Some((session, id)) = session.zip(id)
            && !self.repeats.is_new(cx.now.at, (session, id, name, data))
        {
            cx.hub.stats.messages_repeated += 1;
            return Ok(());
        }
        let publication = Publication {
            content_type: Some(media::JSON.into()),
            ..Publication::of(Data::Json(data.into()))
        };
        match cx.hub.publish(cx.now.at, name, publication) {
            Ok(_) => Ok(()),
            Err(_) => Err(reply::TOO_MANY_CHANNELS.into()),
        }
    }

    /// Counts a message to be published. False if its address has published too many in this second.
    fn may_publish_now(&mut self, cx: &mut Context, visitor: Visitor) -> bool {
        let max = cx.config.limits.publishes_per_second;
        let admits = visitor.exempt || self.published.count(cx.now.at, visitor.address) <= max;
        cx.hub.stats.publications_refused += u64::from(!admits);
        admits
    }
}
