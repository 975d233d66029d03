//! Publishing by Bayeux clients: allowed by a rule that names who may publish, else by the channels that the settings
//! list, whoever they are.

use super::channel::Channel;
use super::message::Incoming;
use super::{Bayeux, Exchange, reply};
use crate::broker::{Once, Publishing};
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
        let (session, key) = match message.client_id() {
            None => (None, None),
            Some(id) => match self.session_of(cx, exchange, message) {
                None => return Err(reply::SESSION_UNKNOWN.into()),
                Some(key) if self.is_of_another(exchange, key) => return Err(reply::ANOTHER_SUBJECT.into()),
                Some(key) => (Some(id), Some(key)),
            },
        };
        let name = match Channel::read(channel) {
            Some(Channel::Name(name)) => name,
            Some(Channel::Meta) => return Err(reply::denied(channel, "publish").into()),
            // Between this client and the server, which has no services of its own: nobody else may see it.
            Some(Channel::Service) => return Ok(()),
            Some(Channel::Pattern(_)) | None => return Err(reply::CHANNEL_INVALID.into()),
        };
        match cx.access.judge_publish(self.bearer(cx, exchange, key), name) {
            None if self.publish.name(name) => {}
            None => return Err(reply::denied(channel, "publish").into()),
            Some(verdict) => {
                verdict.map_err(|denial| {
                    reply::denied_with(Self::status(exchange, &denial), channel, "publish")
                })?;
            }
        }
        let data = message.data.ok_or(reply::DATA_MISSING)?.get();
        json::check_valid(data).map_err(|_| reply::DATA_INVALID)?;
        let id = message.fit_id();
        let publication = Publication {
            content_type: Some(media::JSON.into()),
            ..Publication::of(Data::Json(data.into()))
        };
        let once = session.as_deref().zip(id).map(|(session, id)| Once::Message { session, id });
        let what = Publishing { once, ..Publishing::of(name, publication) };
        cx.broker
            .publish(cx.now.at, cx.client, what)
            .map(|_| ())
            .map_err(|refusal| reply::refused(refusal).into())
    }
}
