//! Names of things in the hub: keys of channels and subscribers, places on lists, owners.

use crate::carry::carry;
use crate::table::table_key;

table_key! {
    /// A channel in the hub.
    ChannelKey
}

/// One subscriber in a channel's list.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Who.
    pub subscriber: SubscriberKey,
    /// Which of that subscriber's memberships this is.
    pub membership: u32,
}

carry! {
    struct Entry { subscriber, membership }
}

table_key! {
    /// A subscriber in the hub. Valid from [`Hub::attach`](super::Hub::attach) until [`Hub::detach`](super::Hub::detach).
    SubscriberKey
}

/// Whom the hub's user thinks of when a subscriber is ready; opaque to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

carry! {
    struct Owner(_)
}
