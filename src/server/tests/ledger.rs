//! What a client must get whose subscriptions change while messages come, and what it must not: an independent reading of
//! the contract, over the journal of all messages.

use super::client::View;
use super::oracle::matches;
use crate::hub::Message;
use crate::id::Seq;

/// Something that is listened to for a time. Between what was written and what was read lies what nobody can know.
#[derive(Debug)]
struct Member {
    item: &'static str,
    /// The newest message when it was asked for, and when the answer was read.
    asked: Seq,
    begun: Seq,
    /// The same of its end.
    left: Option<(Seq, Seq)>,
}

/// Subscriptions, and how far what they bring has come.
#[derive(Debug, Default)]
pub struct Ledger {
    members: Vec<Member>,
    /// Everything up to here was had, or is explained.
    cursor: Seq,
    /// Channels or patterns, and up to where a gap was told of them.
    gaps: Vec<(String, Seq)>,
    /// What is newer than the first and not newer than the second may have been lost on the way.
    excused: Vec<(Seq, Seq)>,
    /// Of a gap somebody is told later, by the answer to what has a higher number than this.
    told_later: Option<u64>,
    /// What has not come and is not explained yet, with that number.
    unexplained: Vec<(Seq, u64)>,
}

impl Ledger {
    /// How far it has come.
    pub const fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Whether nothing was ever subscribed.
    pub const fn is_new(&self) -> bool {
        self.members.is_empty()
    }

    /// `item` was asked for when `asked` was the newest message, and the answer was read when `begun` was.
    pub fn begin(&mut self, item: &'static str, asked: Seq, begun: Seq) {
        self.members.push(Member { item, asked, begun, left: None });
    }

    /// `item` was asked for, and nobody knows what became of that.
    pub fn perhaps_begin(&mut self, item: &'static str, asked: Seq) {
        self.begin(item, asked, Seq::MAX);
    }

    /// The same of no longer wanting it.
    pub fn end(&mut self, item: &'static str, asked: Seq, read: Seq) {
        let current = self.members.iter_mut().filter(|member| member.item == item);
        let current = current.filter(|member| member.left.is_none_or(|left| left == (asked, Seq::MAX)));
        current.for_each(|member| member.left = Some((asked, read)));
    }

    /// What was asked of `item` by [`Ledger::perhaps_end`] was refused.
    pub fn go_on(&mut self, item: &'static str, asked: Seq) {
        let current = self.members.iter_mut().filter(|member| member.item == item);
        current.filter(|member| member.left == Some((asked, Seq::MAX))).for_each(|member| member.left = None);
    }

    /// `item` is no longer asked for, and nobody knows yet, or will ever know, what becomes of that.
    pub fn perhaps_end(&mut self, item: &'static str, asked: Seq) {
        self.end(item, asked, Seq::MAX);
    }

    /// The server names the place at which all of it begins.
    pub fn begin_at(&mut self, place: Seq) {
        self.members.iter_mut().for_each(|member| (member.asked, member.begun) = (place, place));
        self.cursor = place;
    }

    /// A gap on `channel` was told, up to (at most) message `upto`.
    pub fn gap(&mut self, channel: &str, upto: Seq) {
        self.gaps.push((channel.to_owned(), upto));
    }

    /// From now on a gap may be told behind the messages that come after it: by the answer to what has a higher number than
    /// `number`. None = it is not.
    pub const fn is_told_later(&mut self, number: Option<u64>) {
        self.told_later = number;
    }

    /// What has this number is answered: it had to tell of all gaps that there were when it was asked.
    pub fn settle(&mut self, number: u64, view: &View) {
        let (due, rest) =
            std::mem::take(&mut self.unexplained).into_iter().partition(|(_, before)| *before < number);
        self.unexplained = rest;
        let due: Vec<(Seq, u64)> = due;
        for (seq, _) in due {
            let message = &view.journal[seq as usize - 1];
            assert!(self.is_explained(message), "{seq} of {} is missing: {self:?}", message.channel);
        }
    }

    /// An answer was lost that may have explained what has not come.
    pub fn forgive(&mut self) {
        self.unexplained.clear();
    }

    /// A connection was lost, and with it perhaps what is newer than the cursor, for as long as the server does not know.
    pub fn excuse(&mut self) {
        self.excused.push((self.cursor, Seq::MAX));
    }

    /// The server knows that the connection is lost: `newest` is the newest message that can have been lost there.
    pub fn excuse_up_to(&mut self, newest: Seq) {
        let open = self.excused.iter_mut().filter(|(_, upto)| *upto == Seq::MAX);
        open.for_each(|(_, upto)| *upto = newest);
    }

    /// Message `seq` came; what is `pending` was asked for when a message was the newest, and has not been answered.
    pub fn message<'a>(
        &mut self,
        seq: Seq,
        view: &View,
        pending: impl Iterator<Item = (&'a [&'static str], Seq)>,
    ) {
        let message = &view.journal[seq as usize - 1];
        assert!(seq > self.cursor, "{seq} comes twice, or too late: {self:?}");
        let pending: Vec<Seq> = pending
            .filter(|(items, _)| items.iter().any(|item| matches(item, &message.channel)))
            .map(|(_, asked)| asked)
            .collect();
        // Whoever came back before it had all that it was owed goes on where it was, be it that it has left again, or that it
        // has not read yet that it is back.
        let is_back = |other: &Member| {
            matches(other.item, &message.channel) && other.left.is_none_or(|(_, read)| seq <= read)
        };
        let again = !pending.is_empty() || self.members.iter().any(is_back);
        let is_asked = self.members.iter().any(|member| {
            matches(member.item, &message.channel)
                && seq > member.asked
                && (again || member.left.is_none_or(|(_, read)| seq <= read))
        });
        let is_pending = pending.iter().any(|asked| seq > *asked);
        assert!(is_asked || is_pending, "{seq} of {} was not asked for: {self:?}", message.channel);
        self.account(seq - 1, view);
        self.cursor = seq;
    }

    /// Everything up to `upto` has come, or is explained.
    pub fn account(&mut self, upto: Seq, view: &View) {
        let begin = self.cursor.min(upto) as usize;
        for message in &view.journal[begin..upto as usize] {
            let is_lost =
                self.has_to_come(message) && !message.expired(view.at) && !self.is_explained(message);
            match self.told_later {
                Some(number) if is_lost => self.unexplained.push((message.id.seq, number)),
                _ => assert!(!is_lost, "{} of {} is missing: {self:?}", message.id.seq, message.channel),
            }
        }
        self.cursor = self.cursor.max(upto);
    }

    fn has_to_come(&self, message: &Message) -> bool {
        let seq = message.id.seq;
        self.members.iter().any(|member| {
            let is_over = member.left.is_some_and(|(asked, _)| seq > asked);
            matches(member.item, &message.channel) && seq > member.begun && !is_over
        })
    }

    fn is_explained(&self, message: &Message) -> bool {
        let seq = message.id.seq;
        self.gaps.iter().any(|(channel, upto)| seq <= *upto && matches(channel, &message.channel))
            || self.excused.iter().any(|&(after, upto)| seq > after && seq <= upto)
    }
}
