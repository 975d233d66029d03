//! What a seed does at all, and with which settings.

use crate::config::Config;
use crate::id::Random;

/// Things that a seed may do without: what is rare beside everything else is frequent on its own.
pub(super) struct Habits {
    pub(super) resets: bool,
    /// Streams are cut in the midst of what comes, more often than connections are reset.
    pub(super) cuts: bool,
    pub(super) half_closes: bool,
    pub(super) leaps: bool,
    pub(super) deletes: bool,
    pub(super) stale: bool,
    pub(super) slow: bool,
    pub(super) batches: bool,
    pub(super) ttl: bool,
    pub(super) restarts: bool,
    /// Another server takes over, and nobody notices.
    pub(super) hands_over: bool,
    pub(super) drains: bool,
    pub(super) nonsense: bool,
    pub(super) pipelines: bool,
    /// Writes are cut short, and sometimes the kernel has no memory for any of it.
    pub(super) scarce: bool,
    /// Turns are short.
    pub(super) hasty: bool,
    /// Writes find their connections broken.
    pub(super) breaks: bool,
    /// Somebody sets the wall clock.
    pub(super) skews: bool,
    /// Bare messages are known by what they say alone: then nothing is published twice.
    pub(super) raw: bool,
    /// Some speak through WebSockets.
    pub(super) sockets: bool,
    /// Some speak Bayeux.
    pub(super) bayeux: bool,
    /// What may have been published already is published again, under the same key.
    pub(super) repeats: bool,
    /// Some come from other addresses, and may publish nothing.
    pub(super) strangers: bool,
    /// Memory is short now and then.
    pub(super) presses: bool,
}

pub(super) fn habits(random: &mut Random) -> Habits {
    let mut one = || random.one_in(2);
    Habits {
        resets: one(),
        cuts: one(),
        half_closes: one(),
        leaps: one(),
        deletes: one(),
        stale: one(),
        slow: one(),
        batches: one(),
        ttl: one(),
        restarts: one() && one(),
        hands_over: one(),
        drains: one(),
        nonsense: one(),
        pipelines: one(),
        scarce: one(),
        hasty: one(),
        breaks: one(),
        skews: one(),
        raw: one(),
        sockets: one(),
        bayeux: one(),
        repeats: one(),
        strangers: one(),
        presses: one() && one(),
    }
}

pub(super) fn config(random: &mut Random) -> Config {
    let mut pick = |values: &[u64]| values[random.below(values.len() as u64) as usize];
    let mut config = Config::default();
    config.history.messages = pick(&[1, 2, 3, 5, 100]) as usize;
    config.history.grace_seconds = pick(&[0, 0, 1, 10]);
    config.history.bytes = pick(&[1, 700, 2000, 1 << 20]) as usize;
    config.history.total_bytes = pick(&[1, 3000, 10_000, 1 << 20]) as usize;
    config.history.seconds = pick(&[1, 20, 3600]);
    config.channel_idle_seconds = pick(&[1, 60]);
    config.heartbeat = pick(&[1, 15]);
    config.poll.no_news_status = pick(&[204, 304, 408]) as u16;
    config.turn.deliveries = pick(&[1, 2, 256]) as usize;
    config.limits.connections = pick(&[2, 100, 100]) as usize;
    config.limits.connections_per_address = pick(&[1, 2, 100, 100]) as usize;
    config.limits.channels = pick(&[3, 100, 100]) as usize;
    config.limits.tombstones = pick(&[1, 3, 100]) as usize;
    config.limits.idempotency_keys = pick(&[1, 10_000]) as usize;
    config.limits.stalled_seconds = pick(&[3, 60]);
    config.limits.unread_bytes_per_second = pick(&[0, 0, 20]) as usize;
    config.limits.idle_seconds = pick(&[5, 75]);
    config.limits.head_seconds = pick(&[3, 10]);
    config.limits.body_seconds = pick(&[3, 30]);
    config.limits.stream_seconds = pick(&[0, 0, 20]);
    config.bayeux.publish = vec!["**".into()];
    config.bayeux.timeout_ms = pick(&[500, 30_000]);
    config.bayeux.max_interval_ms = pick(&[1000, 10_000]);
    config.bayeux.end_session_on_gap = pick(&[0, 0, 1]) == 1;
    config.bayeux.sessions = pick(&[2, 100]) as usize;
    config.bayeux.answer_messages = pick(&[1, 3, 1000]) as usize;
    config.bayeux.answer_bytes = pick(&[1, 1 << 20]) as usize;
    config
}
