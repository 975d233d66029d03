//! What was published: the id of every message, by channel and number, so that any client can go on from the last one
//! it had, whatever technique told it.

use std::collections::VecDeque;

/// Ids remembered per channel: more than the server's history, so that whoever was away for long names one it forgot.
const IDS_MAX: usize = 1000;

#[derive(Default)]
struct Channel {
    /// Messages published.
    count: u64,
    /// Number of the first id remembered.
    base: u64,
    ids: VecDeque<Box<str>>,
}

pub struct Book {
    channels: Vec<Channel>,
}

impl Book {
    pub fn new(channels: usize) -> Self {
        Self { channels: (0..channels).map(|_| Channel::default()).collect() }
    }

    /// The number of the next message of `channel`.
    pub fn publish(&mut self, channel: usize) -> u64 {
        let channel = &mut self.channels[channel];
        channel.count += 1;
        channel.count - 1
    }

    /// The server has given the next message of `channel` its id.
    pub fn answer(&mut self, channel: usize, id: &str) {
        let channel = &mut self.channels[channel];
        channel.ids.push_back(id.into());
        if channel.ids.len() > IDS_MAX {
            channel.ids.pop_front();
            channel.base += 1;
        }
    }

    /// The id of message `number`, or of the oldest one remembered; none while the server has not answered.
    pub fn id(&self, channel: usize, number: u64) -> Option<&str> {
        let channel = &self.channels[channel];
        let at = number.saturating_sub(channel.base) as usize;
        channel.ids.get(at).map(|id| &**id)
    }

    /// Messages published on `channel`.
    pub fn count(&self, channel: usize) -> u64 {
        self.channels[channel].count
    }
}
