//! What was published and who has it: finds loss, duplicates and disorder, and counts what is under way.
//!
//! Order is defined per *lane*: the messages that one publisher sends to one channel. Lane `l` is in channel
//! `l % channels`, and comes from publisher `l % publishers`.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::error::Error;
use crate::mark::Mark;

/// One lane's messages under way: how many subscribers still lack each.
#[derive(Default)]
struct Lane {
    /// Number of the first message in `lacking`.
    base: u64,
    lacking: VecDeque<u32>,
}

/// A channel that a subscriber listens to.
pub struct Room {
    pub channel: u32,
    /// Number of the message it must get next, per lane.
    next: Box<[u64]>,
}

pub struct Ledger {
    run: u16,
    /// By channel.
    subscribers: Vec<u32>,
    lanes: Vec<Lane>,
    /// Messages that somebody lacks.
    pub under_way: u64,
    pub published: u64,
    pub deliveries: u64,
    /// Nanoseconds from publishing to reading.
    pub latency: Histogram<u64>,
}

impl Ledger {
    pub fn new(run: u16, channels: u32, publishers: u32) -> Self {
        let lanes = channels * publishers.div_ceil(channels);
        Self {
            run,
            subscribers: vec![0; channels as usize],
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            under_way: 0,
            published: 0,
            deliveries: 0,
            latency: Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("sensible bounds"),
        }
    }

    /// Forgets the counts, not what is under way.
    pub fn begin_round(&mut self) {
        self.published = 0;
        self.deliveries = 0;
        self.latency.reset();
    }

    pub fn lanes(&self) -> u32 {
        self.lanes.len() as u32
    }

    pub fn channels(&self) -> u32 {
        self.subscribers.len() as u32
    }

    /// Adds a subscriber of `channel`.
    pub fn add_subscriber(&mut self, channel: u32) -> Room {
        self.subscribers[channel as usize] += 1;
        let lanes = self.lanes.iter().skip(channel as usize).step_by(self.subscribers.len());
        let next = lanes.map(|lane| lane.base + lane.lacking.len() as u64).collect();
        Room { channel, next }
    }

    /// All subscribers left.
    pub fn forget_subscribers(&mut self) {
        self.subscribers.fill(0);
    }

    /// The mark of the next message of `lane`.
    pub fn publish(&mut self, lane: u32, time: u64) -> Mark {
        let subscribers = self.subscribers[(lane % self.channels()) as usize];
        let entry = &mut self.lanes[lane as usize];
        let number = entry.base + entry.lacking.len() as u64;
        if subscribers == 0 {
            entry.base += 1;
        } else {
            entry.lacking.push_back(subscribers);
            self.under_way += 1;
        }
        self.published += 1;
        Mark { run: self.run, lane, number, time }
    }

    /// Somebody in `rooms` read `mark` at `now`.
    pub fn deliver(&mut self, mark: Mark, rooms: &mut [Room], now: u64) -> Result<(), Error> {
        let channels = self.channels();
        let channel = mark.lane % channels;
        let room = rooms.iter_mut().find(|room| room.channel == channel);
        let Some(room) = room.filter(|_| mark.run == self.run && mark.lane < self.lanes()) else {
            let ours = self.run;
            return Err(Error::Wrong(format!(
                "a subscriber got {mark:?}, of another channel or another run (ours is {ours})"
            )));
        };
        let next = &mut room.next[(mark.lane / channels) as usize];
        if mark.number != *next {
            let what =
                if mark.number < *next { "again (a duplicate)" } else { "(others before it were lost)" };
            return Err(Error::Wrong(format!(
                "a subscriber of c{channel} who should get message {next} got {} {what}",
                mark.number
            )));
        }
        *next += 1;
        self.deliveries += 1;
        self.latency.saturating_record(now.saturating_sub(mark.time));
        let lane = &mut self.lanes[mark.lane as usize];
        let lacking = mark.number.checked_sub(lane.base).and_then(|at| lane.lacking.get_mut(at as usize));
        let Some(lacking) = lacking.filter(|lacking| **lacking > 0) else {
            return Err(Error::Wrong(format!(
                "message {} of c{channel} reached more than subscribed",
                mark.number
            )));
        };
        *lacking -= 1;
        while lane.lacking.front() == Some(&0) {
            lane.lacking.pop_front();
            lane.base += 1;
            self.under_way -= 1;
        }
        Ok(())
    }

    /// Says which messages somebody still lacks.
    pub fn missing(&self) -> String {
        let Some((at, lane)) = self.lanes.iter().enumerate().find(|(_, lane)| !lane.lacking.is_empty())
        else {
            return "every published message has arrived".into();
        };
        let channel = at % self.subscribers.len();
        let subscribers = self.subscribers[channel];
        format!(
            "{} messages lack a subscriber; message {} of c{channel} reached {} of {subscribers}",
            self.under_way,
            lane.base,
            subscribers - lane.lacking[0],
        )
    }
}
