//! Delivering to a window: what lies in its channels beyond what it got, alerts, and what no window wanted.

use super::post::{Bounds, Fate};
use super::types::{self, MES, Types, UNW};
use super::windows::State;
use super::{Fdajax, answers, script};
use crate::dialect::holder::{UserKey, WindowKey};
use crate::dialect::{Act, Context};
use crate::hub::{Message, SubscriberKey};
use crate::id::Seq;
use crate::wire::shown::Shown;
use std::rc::Rc;

/// A text for a window, and what it is.
#[derive(Debug)]
struct Part {
    what: What,
    text: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// A message of that type.
    Message(u8, Seq),
    /// A message that no window wanted.
    Unwanted(Seq),
    /// An alert.
    Alert(u32),
}

impl Part {
    /// The number of the message that it is.
    const fn seq(&self) -> Option<Seq> {
        match self.what {
            What::Message(_, seq) => Some(seq),
            What::Unwanted(_) | What::Alert(_) => None,
        }
    }
}

/// What an answer will carry.
struct Gathered {
    parts: Vec<Part>,
    /// The newest message looked at.
    seen: Option<Seq>,
    /// There are newer ones, for which there is no room.
    more: bool,
}

/// Bytes that an answer has room for.
struct Room {
    left: usize,
    /// Something has been taken: it is told whatever its size.
    used: bool,
}

impl Room {
    /// Whether there is room for so many more bytes.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left || !self.used;
        (self.left, self.used) = (if fits { self.left.saturating_sub(bytes) } else { 0 }, true);
        fits
    }
}

/// What the event of a message for a user says.
fn of_event(message: &Message) -> (Types, u32) {
    message.publication.event.as_deref().map(types::of_event).unwrap_or_default()
}

/// The type of a message, and the ids that it names for it.
fn kind(message: &Message) -> (u8, Types) {
    if let Some(group) = message.channel.strip_prefix("fdajax/groups/") {
        return (types::find(group).unwrap_or(MES), Types::default());
    }
    let (named, _) = of_event(message);
    let kind = named.only().filter(|&kind| !types::is_group(kind));
    kind.map_or_else(|| (MES, Types::default()), |kind| (kind, named))
}

impl Fdajax {
    /// Sends a window that waits what it lacks. When it has only just come (`fresh`), what is too old is left
    /// out; what was published while it waited always reaches it.
    pub(super) fn deliver(&mut self, context: &mut Context, key: WindowKey, fresh: bool) {
        let user = self.windows[key].user;
        self.judge_new(context, user);
        // A judgement may have had something to tell this window already.
        let window = &self.windows[key];
        let State::Open(connection) = window.state else { return };
        if window.stream && context.is_blocked(connection) {
            return;
        }
        let is_stream = window.stream;
        self.pass_gaps(context, self.windows[key].subscriber);
        let one_only = !context.config.fdajax.merge_messages && !is_stream;
        let Gathered { mut parts, seen, more } = self.gather(context, key, fresh);
        let all = !(one_only && parts.len() > 1);
        if !all {
            parts.truncate(1);
        }
        parts.iter().for_each(|part| self.note_delivered(key, user, part.what));
        if let Some(seq) = seen.filter(|_| all) {
            let subscriber = self.windows[key].subscriber;
            context.broker.hub.advance(subscriber, seq);
            if more && is_stream {
                context.broker.hub.mark(subscriber);
            }
        }
        if !parts.is_empty() {
            context.broker.stats.messages_delivered += parts.len() as u64;
            context.broker.stats.deliveries += 1;
            self.windows[key].deliveries += 1;
            let text = script::join(parts.iter().map(|part| &part.text[..]));
            self.write(context, key, &text);
        }
    }

    /// Goes on behind messages that a limit threw away: FDAjax has no word for that.
    fn pass_gaps(&self, context: &mut Context, subscriber: SubscriberKey) {
        for gap in context.broker.hub.take_gaps(subscriber) {
            log::debug!(target: "encke::fdajax", "messages of {} are lost by a limit of history", Shown(&gap.channel));
        }
    }

    /// What a window lacks, in the order in which it is told: messages of the user, those no window wanted,
    /// alerts, groups; as much as there is room for in an answer.
    fn gather(&self, context: &Context, key: WindowKey, fresh: bool) -> Gathered {
        let window = &self.windows[key];
        let post = self.users.get(window.user).account.as_ref().map(|account| &account.post);
        let now = context.now.at;
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        context.broker.hub.pull(now, window.subscriber, usize::MAX, &mut pulled);
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        let mut room = Room { left: context.room, used: false };
        let (mut seen, mut is_full) = (None, false);
        for message in &pulled {
            let seq = message.id.seq;
            // FDAjax has no word for a key that is gone.
            if message.is_removal() {
                seen = Some(seq);
                continue;
            }
            let (kind, ids) = kind(message);
            let is_group = message.channel.starts_with("fdajax/groups/");
            let is_wanted = match is_group {
                true => window.types.has(kind),
                false => window.types.take(kind, &ids),
            };
            let is_old = fresh && message.published + context.config.fdajax.mes_live_max < now;
            let is_withdrawn = post.is_some_and(|post| post.fate(seq) == Some(Fate::Withdrawn));
            if is_wanted && !is_old && !is_withdrawn && window.lacks(kind, seq, message.published) {
                is_full = !room.take(message.publication.data.bytes().len());
                if is_full {
                    break;
                }
                let text = message.publication.data.bytes().to_vec();
                let list = if is_group { &mut groups } else { &mut parts };
                list.push((kind, Part { what: What::Message(kind, seq), text }));
            }
            seen = Some(seq);
        }
        groups.sort_by_key(|(kind, _)| *kind);
        let mut parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
        // What it takes itself comes first: what has no room waits, and is not told as unwanted meanwhile.
        if let Some(post) = post.filter(|_| window.types.has(UNW) && !is_full) {
            // What it takes by another of its types is not told once more. The user's messages are in order.
            let told: Vec<Seq> = parts.iter().filter_map(Part::seq).collect();
            let is_told = |seq: Seq| told.binary_search(&seq).is_ok();
            let unwanted =
                post.stored().filter(|stored| stored.fate == Fate::Kept && !is_told(stored.message.id.seq));
            let unwanted =
                unwanted.take_while(|stored| room.take(stored.message.publication.data.bytes().len()));
            parts.extend(unwanted.map(|stored| Part {
                what: What::Unwanted(stored.message.id.seq),
                text: self.unwanted(context, &stored.message),
            }));
            let alerts = post.alerts_after(window.last_alert).take_while(|alert| room.take(alert.text.len()));
            parts.extend(alerts.map(|alert| {
                let call = format!("{}({});\n", context.config.fdajax.js_alert_id_func, alert.number);
                Part { what: What::Alert(alert.number), text: [call.as_bytes(), &alert.text].concat() }
            }));
        }
        parts.extend(groups.into_iter().map(|(_, part)| part));
        let more = pulled.last().is_some_and(|newest| Some(newest.id.seq) != seen);
        Gathered { parts, seen, more }
    }

    /// The text of a message that no window wanted.
    fn unwanted(&self, context: &Context, message: &Message) -> Vec<u8> {
        [context.config.fdajax.unw_prefix.as_bytes(), message.publication.data.bytes()].concat()
    }

    fn note_delivered(&mut self, key: WindowKey, user: UserKey, what: What) {
        let window = &mut self.windows[key];
        let post = self.users.get_mut(user).account.as_mut().map(|account| &mut account.post);
        match (what, post) {
            (What::Message(kind, seq), post) => {
                window.got(kind, seq);
                if let Some(post) = post {
                    post.delivered(seq);
                }
            }
            (What::Unwanted(seq), Some(post)) => post.decide(seq, Fate::Shown),
            (What::Alert(number), _) => window.last_alert = number,
            (What::Unwanted(_), None) => {}
        }
    }

    /// Writes to an open window: the answer to a wait, a piece of a stream.
    pub(super) fn write(&mut self, context: &mut Context, key: WindowKey, text: &[u8]) {
        let window = &self.windows[key];
        let State::Open(connection) = window.state else { return };
        if !window.stream {
            context.act(connection, Act::Answer(answers::to_page(text, window.win_st)));
            return self.rest(context, key, State::Idle);
        }
        let mut text = text.to_vec();
        if window.win_st == 1 {
            script::end_line(&mut text);
            text = script::tagged(&text);
        }
        context.act(connection, Act::Write(text));
    }

    /// Judges what has been published for a user since the last time.
    pub(super) fn judge_new(&mut self, context: &mut Context, user: UserKey) {
        let Some(subscriber) = self.users.get(user).account.as_ref().map(|it| it.subscriber) else { return };
        self.pass_gaps(context, subscriber);
        let Some(account) = self.users.get_mut(user).account.as_mut() else { return };
        let mut pulled: Vec<&Rc<Message>> = Vec::new();
        context.broker.hub.pull(context.now.at, account.subscriber, usize::MAX, &mut pulled);
        let Some(newest) = pulled.last().map(|message| message.id.seq) else { return };
        let fdajax = &context.config.fdajax;
        account.post.expire(context.now.at, fdajax.mes_live_max);
        for message in pulled {
            let (_, amode) = of_event(message);
            account.post.store(Rc::clone(message), amode, Bounds::of(context.config));
        }
        context.broker.hub.advance(account.subscriber, newest);
        self.judge(context, user);
    }

    /// Judges again what no window has got, because there is one window less, or one wants something else.
    pub(super) fn judge_again(&mut self, context: &mut Context, user: UserKey) {
        self.judge_new(context, user);
        self.judge(context, user);
    }

    /// Decides what is to become of messages that no window wants.
    fn judge(&mut self, context: &mut Context, user: UserKey) {
        let Some(account) = self.users.get(user).account.as_ref() else { return };
        let is_wanted = |message: &Message| {
            let (kind, ids) = kind(message);
            self.users.get(user).windows().any(|key| self.windows[key].types.take(kind, &ids))
        };
        let unwanted: Vec<(Seq, u32, Vec<u8>)> = account
            .post
            .stored()
            .filter(|stored| stored.fate == Fate::Waiting && !is_wanted(&stored.message))
            .map(|stored| (stored.message.id.seq, stored.amode, self.unwanted(context, &stored.message)))
            .collect();
        if unwanted.is_empty() {
            return;
        }
        let Some(account) = self.users.get_mut(user).account.as_mut() else { return };
        for (seq, amode, text) in unwanted {
            account.post.decide(seq, if amode == 1 { Fate::Kept } else { Fate::Withdrawn });
            if amode == 0 {
                account.post.alert(text.into(), Bounds::of(context.config));
            }
        }
        self.tell_unwanted(context, user);
    }

    /// Tells the windows that ask for it of alerts, and the first of them of what no window wanted.
    pub(super) fn tell_unwanted(&mut self, context: &mut Context, user: UserKey) {
        let windows: Vec<WindowKey> = self.users.get(user).windows().collect();
        for key in windows {
            if self.windows[key].types.has(UNW) {
                self.deliver(context, key, false);
            }
        }
    }
}
