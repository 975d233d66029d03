//! Follows channels over as many connections as it takes.
//!
//! What makes it exact is one value, `after`: the id of the last message that was printed (before the first
//! one, where the server said the stream begins). Only a line that is complete counts; one that a lost
//! connection cut is sent again by the server, because its id was never taken over.

use std::io::{self, BufReader, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ureq::Body;
use ureq::http::Response;

use super::SubscribeArgs;
use super::envelope::{Event, Values};
use crate::cli::client::{
    Backoff, Line, Remedy, Server, Trouble, check, encode_channel, full_jitter, printable, read_line,
};

/// Ceilings of the delays between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// A connection that lasted this long, or brought a message, makes the delays begin anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Prints messages to `out` and says what happens on `err`.
pub struct Follower<O: Write, E: Write> {
    server: Server,
    path: String,
    json: bool,
    /// What is asked for beside the place: `latest`, `rate`, `delta`.
    wishes: Vec<(&'static str, String)>,
    /// What the connection gave last, if it may send patches.
    values: Option<Values>,
    /// Messages of several channels may come: each is printed behind its channel.
    named: bool,
    after: After,
    /// Messages still to print; none = no end.
    left: Option<u64>,
    link: Link,
    pub(super) backoff: Backoff,
    out: O,
    err: E,
}

/// Where the next connection begins.
#[derive(Debug)]
enum After {
    /// As asked for; none = the server's default.
    Asked(Option<String>),
    /// Behind this id.
    Id(String),
}

/// What the person knows about the connection.
#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Nothing yet.
    New,
    /// That it works.
    Up,
    /// That it could not be made so far.
    Unreachable,
    /// That it was lost.
    Lost,
}

/// Why a connection is over.
enum End {
    /// There is nothing more to do: all messages printed, or nobody reads them.
    Done,
    /// Something went wrong.
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl<O: Write, E: Write> Follower<O, E> {
    /// Follows what `args` name.
    pub fn new(server: Server, args: &SubscribeArgs, out: O, err: E) -> Self {
        let channels: Vec<String> = args.channels.iter().map(|name| encode_channel(name)).collect();
        Self {
            server,
            path: format!("/sub/{}", channels.join(",")),
            json: args.json,
            wishes: wishes(args),
            values: args.delta.then(Values::new),
            named: args.channels.len() > 1 || args.channels.iter().any(|name| has_wildcard(name)),
            after: After::Asked(args.after.clone()),
            left: args.count,
            link: Link::New,
            backoff: BACKOFF,
            out,
            err,
        }
    }

    /// Returns when the messages asked for are printed or nobody reads them any more.
    ///
    /// The error is a sentence that says why there is no point in going on.
    pub fn follow(&mut self) -> Result<(), String> {
        loop {
            let begin = Instant::now();
            let ended = self.connect().and_then(|response| self.read(response));
            let trouble = match ended {
                Ok(()) | Err(End::Done) => return Ok(()),
                Err(End::Trouble(trouble)) => trouble,
            };
            let Remedy::Retry { after, .. } = trouble.remedy else { return Err(trouble.reason) };
            if begin.elapsed() >= GOOD_AFTER && self.link == Link::Up {
                self.backoff.reset();
            }
            self.say_lost(&trouble.reason);
            sleep(full_jitter(self.backoff.next(), random()?).max(after.unwrap_or_default()));
        }
    }

    fn connect(&mut self) -> Result<Response<Body>, End> {
        let mut query = vec![("as", "stream")];
        query.extend(self.wishes.iter().map(|(name, value)| (*name, &**value)));
        if let Some(values) = &mut self.values {
            values.clear();
        }
        if let After::Asked(Some(after)) | After::Id(after) = &self.after {
            query.push(("after", after));
        }
        let url = self.server.url(&self.path, &query);
        let response = check(self.server.agent.get(url).header("Accept", "application/x-ndjson").call())?;
        if response.body().mime_type() != Some("application/x-ndjson") {
            let base = self.server.base();
            let reason =
                format!("{base} answered with something that is no stream: is an Encke server there?");
            return Err(Trouble::lasting(reason).into());
        }
        self.say_up();
        let next = response.headers().get("encke-next").and_then(|value| value.to_str().ok());
        if let (After::Asked(_), Some(next)) = (&self.after, next) {
            self.after = After::Id(next.into());
        }
        Ok(response)
    }

    /// Prints what comes until the stream ends, which is always a reason to come back.
    fn read(&mut self, response: Response<Body>) -> Result<(), End> {
        let mut reader = BufReader::with_capacity(64 << 10, response.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            match read_line(&mut reader, &mut line) {
                Ok(Line::Complete) => {}
                Ok(Line::Cut | Line::End) => {
                    return Err(Trouble::lost("the server ended the stream".into()).into());
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Trouble::lasting(error.to_string()).into());
                }
                Err(error) => return Err(Trouble::lost(error.to_string()).into()),
            }
            self.take(&line)?;
            // At once, but not one by one when many came together.
            if !reader.buffer().contains(&b'\n') {
                self.out.flush().map_err(cannot_print)?;
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), End> {
        let event = Event::parse(line).map_err(|error| {
            let line: String = String::from_utf8_lossy(line).chars().take(80).collect();
            Trouble::lasting(format!(
                "the server sent a line that is no envelope ({error}): {}",
                printable(&line)
            ))
        })?;
        let mut envelope = match event {
            Event::Place(place) => {
                self.after = After::Id(place.into_owned());
                return Ok(());
            }
            Event::Heartbeat | Event::Other => return Ok(()),
            Event::Gap(gap) => {
                self.say(&gap.describe());
                return Ok(());
            }
            Event::Message(envelope) => envelope,
        };
        if let Some(values) = &mut self.values
            && let Err(reason) = envelope.resolve(values)
        {
            return Err(Trouble::lost(reason).into());
        }
        let printed = match envelope.channel.as_ref().filter(|_| self.named) {
            _ if self.json => self.out.write_all(line),
            Some(channel) => write!(self.out, "{}\t", printable(channel))
                .and_then(|()| envelope.write_payload(&mut self.out)),
            None => envelope.write_payload(&mut self.out),
        };
        printed.and_then(|()| self.out.write_all(b"\n")).map_err(cannot_print)?;
        self.after = After::Id(envelope.id.into_owned());
        self.backoff.reset();
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.out.flush().map_err(cannot_print)?;
                return Err(End::Done);
            }
        }
        Ok(())
    }

    fn say_up(&mut self) {
        match self.link {
            Link::New | Link::Up => {}
            Link::Unreachable => self.say("connected"),
            Link::Lost => self.say("connected again"),
        }
        self.link = Link::Up;
    }

    /// Once, however many attempts fail after it.
    fn say_lost(&mut self, reason: &str) {
        let base = self.server.base();
        match self.link {
            Link::New => {
                self.say(&format!("{base}: {reason}; trying until it answers"));
                self.link = Link::Unreachable;
            }
            Link::Up => {
                self.say(&format!("{base}: connection lost ({reason}); reconnecting"));
                self.link = Link::Lost;
            }
            Link::Unreachable | Link::Lost => {}
        }
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.err, "encke sub: {}", printable(text));
    }
}

/// What a query says of latest values.
fn wishes(args: &SubscribeArgs) -> Vec<(&'static str, String)> {
    let rate = args.rate.map(|rate| ("rate", rate.to_string()));
    let flags = [("latest", args.latest), ("delta", args.delta)];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, "1".to_owned()));
    flags.chain(rate).collect()
}

/// Whether a name stands for several channels.
fn has_wildcard(name: &str) -> bool {
    name.split('/').any(|segment| matches!(segment, "*" | "**"))
}

/// A reader that went away is no failure: it had enough.
fn cannot_print(error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::BrokenPipe => End::Done,
        _ => Trouble::lasting(format!("cannot write to standard output: {error}")).into(),
    }
}

fn random() -> Result<u32, String> {
    getrandom::u32().map_err(|error| format!("the system gives no random numbers: {error}"))
}
