//! What the target of a request that listens says, `/sub/{channels}?{query}`, read once and remembered.
//!
//! A poll comes again and again, and after a message all pollers of a channel ask for the same: whatever the
//! header fields are, the target is the one that was read a moment ago. What it means depends on nothing but
//! the settings, so a handful of them is kept.

use super::read::{NO_ID, bad, number, read_position, read_start, select};
use super::{Refused, check_unknown};
use crate::config::Config;
use crate::hub::{Pace, Pattern, Start, Wish, place_of};
use crate::transport::{self, Transport};
use crate::wire::query;

/// Most seconds a poll may ask to wait.
pub const POLL_SECONDS_MAX: u64 = 300;
/// How many targets are remembered; each has one place where it may be.
const TARGETS_MAX: usize = 128;
/// A longer target is read anew each time.
const TARGET_BYTES_MAX: usize = 512;

/// Most messages in a batch of a client that does not say.
const BATCH_DEFAULT: usize = 100;

/// Names of what a query may ask for.
const PARAMETERS: [&str; 12] = [
    "as",
    "after",
    "last_event_id",
    "lastEventId",
    "timeout",
    "heartbeat",
    "callback",
    "max",
    "latest",
    "rate",
    "delta",
    "access_token",
];

/// What a target asks for, where header fields say nothing else.
#[derive(Debug)]
pub struct Asked {
    /// Distinct channel names.
    pub names: Vec<Box<str>>,
    /// Distinct patterns of channel names.
    pub patterns: Vec<Pattern>,
    /// `as=`.
    pub transport: Option<Transport>,
    /// Where to begin: `last_event_id=` or `lastEventId=`, which the client has reached, else `after=`.
    pub start: Option<Start>,
    /// Seconds a poll waits.
    pub timeout_seconds: u64,
    /// Signs of life are messages, which scripts see.
    pub loud: bool,
    /// The function that scripts call.
    pub callback: Option<Box<str>>,
    /// Most messages in a batch.
    pub max: u16,
    /// Whether it wants latest values, at which pace, as patches.
    pub wish: Wish,
}

/// Targets that were read lately.
#[derive(Debug, Default)]
pub struct Targets {
    places: Vec<Option<Box<Known>>>,
    /// What a target that is not remembered meant. Boxed, as all of this is moved with each request.
    latest: Option<Box<Asked>>,
}

#[derive(Debug)]
struct Known {
    target: Box<str>,
    asked: Asked,
}

impl Targets {
    /// Nothing, for a WebSocket that will say later what it wants.
    pub fn nothing(&mut self, query: &str, config: &Config) -> Result<&Asked, Refused> {
        Ok(self.latest.insert(Box::new(Asked::empty(config).with_query(query, config)?)))
    }

    /// One channel, and nothing else.
    pub fn one(&mut self, channel: &str, config: &Config) -> &Asked {
        self.latest.insert(Box::new(Asked { names: vec![channel.into()], ..Asked::empty(config) }))
    }

    /// What `target` asks for, which consists of the list `channels` below `/sub/` and of `query`.
    pub fn read(
        &mut self,
        target: &str,
        channels: &str,
        query: &str,
        config: &Config,
    ) -> Result<&Asked, Refused> {
        if target.len() > TARGET_BYTES_MAX {
            return Ok(self.latest.insert(Box::new(Asked::read(channels, query, config)?)));
        }
        if self.places.is_empty() {
            self.places.resize_with(TARGETS_MAX, || None);
        }
        // Whoever makes targets that share a place has each of them read anew, as if nothing were remembered.
        let place = &mut self.places[place_of(target.as_bytes(), TARGETS_MAX)];
        let known = match place.take().filter(|known| *known.target == *target) {
            Some(known) => known,
            None => Box::new(Known { target: target.into(), asked: Asked::read(channels, query, config)? }),
        };
        Ok(&place.insert(known).asked)
    }
}

impl Asked {
    fn empty(config: &Config) -> Self {
        Self {
            names: Vec::new(),
            patterns: Vec::new(),
            transport: None,
            start: None,
            timeout_seconds: config.poll.timeout_seconds,
            loud: false,
            callback: None,
            max: BATCH_DEFAULT.min(config.limits.batch_messages) as u16,
            wish: Wish::default(),
        }
    }

    /// The names and patterns that are asked for, as they are written.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name).chain(self.patterns.iter().map(Pattern::as_str))
    }

    fn read(channels: &str, query: &str, config: &Config) -> Result<Self, Refused> {
        let decoded = query::split(channels, b',').map(query::decode_path);
        let (names, patterns) = select(decoded, config)?;
        let names: Vec<Box<str>> = names.into_iter().map(|name| name.into_owned().into()).collect();
        Self { names, patterns, ..Self::empty(config) }.with_query(query, config)
    }

    fn with_query(mut self, query: &str, config: &Config) -> Result<Self, Refused> {
        let mut reached = None;
        for (written, pair) in query::named(query) {
            match pair {
                Some((name, value)) if is_position(&name) => reached = read_position(&value),
                Some((name, value)) => self.set(&name, &value, config)?,
                // What is not even text is no id of ours, either.
                None if is_position(written) => reached = read_position(NO_ID),
                None => return Err(bad("the query is not UTF-8")),
            }
        }
        self.start = reached.or(self.start);
        Ok(self)
    }

    /// Notes a pair of the query. What is unknown may be meant for somebody on the way, unless it is nearly known.
    fn set(&mut self, name: &str, value: &str, config: &Config) -> Result<(), Refused> {
        match name {
            "as" => self.transport = Some(transport_named(value)?),
            "after" => {
                self.start = Some(value).filter(|value| !value.is_empty()).map(read_start).transpose()?;
            }
            "timeout" => {
                self.timeout_seconds = number(value, POLL_SECONDS_MAX as usize, "timeout")? as u64;
            }
            "heartbeat" if value == "message" => self.loud = true,
            "heartbeat" => return Err(bad("heartbeat=message is the only choice there is")),
            "callback" if transport::is_callback(value) => self.callback = Some(value.into()),
            "callback" => {
                return Err(bad(
                    "callback= is the name of a function: letters, digits, _ and $, joined by dots, at most 64",
                ));
            }
            "max" => {
                let max = number(value, config.limits.batch_messages, "max")?;
                self.max = u16::try_from(max).unwrap_or(u16::MAX);
            }
            "latest" => self.wish.latest |= flag("latest", value)?,
            "delta" => self.wish.delta |= flag("delta", value)?,
            "rate" => self.wish.pace = pace(value)?,
            _ => check_unknown(name, &PARAMETERS)?,
        }
        Ok(())
    }
}

/// Whether a parameter of that name says where its client has come to.
fn is_position(name: &str) -> bool {
    matches!(name, "last_event_id" | "lastEventId")
}

/// A flag is set by its name alone.
fn flag(name: &str, value: &str) -> Result<bool, Refused> {
    match value {
        "" | "1" | "true" => Ok(true),
        _ => Err(bad(format!("{name} is a flag: {name}, {name}=1 or {name}=true"))),
    }
}

/// A number of deliveries a second: digits and perhaps a point, nothing else.
pub fn pace(value: &str) -> Result<Pace, Refused> {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && value.bytes().filter(|byte| *byte == b'.').count() <= 1
        && value.bytes().any(|byte| byte.is_ascii_digit());
    let rate: Option<f64> = value.parse().ok().filter(|_| is_plain);
    let pace = rate.and_then(Pace::at_most);
    pace.ok_or_else(|| bad("rate is a number of deliveries a second from 0.1 to 50"))
}

fn transport_named(name: &str) -> Result<Transport, Refused> {
    let unknown = || {
        bad(format!(
            "as={name}: use poll, interval, sse, sse-envelope, stream, raw, iframe, jsonp, multipart or x-mixed-replace"
        ))
    };
    Transport::by_name(name).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(targets: &mut Targets, channels: &str, query: &str) -> Result<Vec<String>, Refused> {
        let target = format!("/sub/{channels}?{query}");
        let asked = targets.read(&target, channels, query, &Config::default())?;
        Ok(asked.names.iter().map(|name| format!("{name}:{}", asked.max)).collect())
    }

    #[test]
    fn what_is_remembered_is_what_was_read() {
        let mut targets = Targets::default();
        for round in 0..3 {
            for number in 0..1000 {
                let (channel, max) = (format!("c{number}"), 1 + number % 50);
                let read = names(&mut targets, &channel, &format!("max={max}")).unwrap();
                assert_eq!(read, [format!("{channel}:{max}")], "round {round}");
            }
        }
        assert_eq!(targets.places.len(), TARGETS_MAX);
    }

    #[test]
    fn a_batch_is_at_most_as_large_as_can_be_counted() {
        let mut config = Config::default();
        config.limits.batch_messages = 100_000;
        for (asked, max) in [(65_535, 65_535), (65_536, 65_535), (100_000, 65_535)] {
            let query = format!("max={asked}");
            assert_eq!(Asked::read("a", &query, &config).unwrap().max, max);
        }
    }

    #[test]
    fn mistakes_and_long_targets_are_not_remembered() {
        let mut targets = Targets::default();
        for _ in 0..2 {
            assert_eq!(names(&mut targets, "a", "max=0").unwrap_err().0, 400);
            let long = format!("max=7&x={}", "x".repeat(TARGET_BYTES_MAX));
            assert_eq!(names(&mut targets, "a", &long).unwrap(), ["a:7"]);
        }
        assert!(targets.places.iter().all(Option::is_none));
    }
}
