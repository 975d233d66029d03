//! Publishes one message, or a batch of them, at a time on one connection, again and again until the server has it.
//!
//! Every request carries an `Idempotency-Key` of its own, the same in each attempt, so that an attempt whose
//! answer was lost is not published a second time. The server remembers a key for two minutes: when an
//! attempt is in doubt for longer, trying again could duplicate the message, and the person decides.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{HeaderValue, StatusCode};

use super::PublishArgs;
use super::batch::key_of;
use crate::cli::client::{Backoff, Remedy, Server, Trouble, check, encode_channel};

/// Delays between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long after an attempt in doubt another one is safe: the server's two minutes, less what a request
/// may take on its way.
const IN_DOUBT_MAX: Duration = Duration::from_secs(100);
/// Messages from this size on ask (`Expect: 100-continue`) before they are sent: a server that refuses one
/// in the middle of its body closes the connection, and its reason would be lost. Such a request has a
/// connection of its own, because ureq 3.5 sees a refusal in place of the 100 only when the connection ends.
const ASK_FIRST_BYTES: usize = 64 << 10;

/// Publishes to one channel.
pub struct Publisher {
    server: Server,
    url: String,
    content_type: Option<String>,
    key_field: Option<String>,
    bearer: Option<HeaderValue>,
    run: String,
    count: u64,
    batch_url: String,
    /// How long one request is tried; none = for ever.
    pub(super) timeout: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) in_doubt_max: Duration,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has it.
    Published {
        /// How many were listening.
        subscribers: Option<u64>,
    },
    /// The server takes no message of this size; its words.
    TooLarge(String),
}

/// What one request publishes.
#[derive(Clone, Copy)]
enum Load<'a> {
    Message(&'a [u8]),
    Batch(&'a [u8]),
}

/// The part of the server's answer that is used.
#[derive(Deserialize)]
struct Receipt {
    #[serde(rename = "id")]
    _id: String,
    subscribers: Option<u64>,
}

impl Publisher {
    /// Publishes as `args` say; `token` goes into the `Authorization` header.
    pub fn new(server: Server, args: &PublishArgs, token: Option<&str>) -> Result<Self, String> {
        let ttl = args.ttl.map(|seconds| seconds.to_string());
        let pairs: Vec<(&str, &str)> = [("event", &args.event), ("key", &args.key), ("ttl", &ttl)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        let url = server.url(&format!("/pub/{}", encode_channel(&args.channel)), &pairs);
        let batch_url = server.url("/pub", &[]);
        Ok(Self {
            server,
            url,
            content_type: args
                .content_type
                .clone()
                .or_else(|| args.key_field.as_ref().map(|_| "application/json".into())),
            key_field: args.key_field.clone(),
            bearer: token.map(bearer).transpose()?,
            run: random_name()?,
            count: 0,
            batch_url,
            timeout: None,
            backoff: BACKOFF,
            in_doubt_max: IN_DOUBT_MAX,
        })
    }

    /// Publishes `message`, however often that has to be tried; `notice` hears of each failure.
    ///
    /// The error is a sentence that says why there is no point in going on.
    pub fn publish(&mut self, message: &[u8], notice: impl FnMut(&str)) -> Result<Outcome, String> {
        match self.send(Load::Message(message), notice) {
            Ok(receipt) => Ok(Outcome::Published { subscribers: receipt.subscribers }),
            Err(Trouble { remedy: Remedy::Skip, reason, .. }) => Ok(Outcome::TooLarge(reason)),
            Err(trouble) => Err(trouble.reason),
        }
    }

    /// Publishes a batch, JSON lines as `POST /pub` takes them. None if the server does not want it as a whole: it has
    /// published nothing of it then, and the messages can go one by one.
    pub fn publish_batch(
        &mut self,
        lines: &[u8],
        notice: impl FnMut(&str),
    ) -> Result<Option<Outcome>, String> {
        match self.send(Load::Batch(lines), notice) {
            Ok(receipt) => Ok(Some(Outcome::Published { subscribers: receipt.subscribers })),
            Err(Trouble { remedy: Remedy::Skip | Remedy::GiveUp, status: Some(_), .. }) => Ok(None),
            Err(trouble) => Err(trouble.reason),
        }
    }

    /// Sends it until there is an answer that lasts.
    fn send(&mut self, load: Load<'_>, mut notice: impl FnMut(&str)) -> Result<Receipt, Trouble> {
        self.count += 1;
        let key = format!("{}-{}", self.run, self.count);
        let mut backoff = self.backoff.clone();
        let begin = Instant::now();
        let mut in_doubt_since = None;
        loop {
            let asked_at = Instant::now();
            let left = self.timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
            let trouble = match self.attempt(load, &key, left) {
                Ok(receipt) => return Ok(receipt),
                Err(trouble) => trouble,
            };
            let Remedy::Retry { after, perhaps_done } = trouble.remedy else { return Err(trouble) };
            if perhaps_done {
                in_doubt_since.get_or_insert(asked_at);
            }
            let wait = backoff.next().max(after.unwrap_or_default());
            let reason = format!("{}: {}", self.server.base(), trouble.reason);
            if in_doubt_since.is_some_and(|since| since.elapsed() + wait > self.in_doubt_max) {
                let why = "an attempt whose answer was lost is too long ago to try again without the risk of publishing \
                           twice. Look at the channel, then continue from this message";
                return Err(Trouble { reason: format!("{reason}; {why}"), ..trouble });
            }
            if let Some(timeout) = self.timeout.filter(|timeout| begin.elapsed() + wait >= *timeout) {
                let doubt = match in_doubt_since {
                    Some(_) => "; it may have been published all the same: an answer was lost",
                    None => "",
                };
                let seconds = timeout.as_secs_f64();
                let reason = format!("{reason}; given up after {seconds} s (--timeout){doubt}");
                return Err(Trouble { reason, ..trouble });
            }
            notice(&format!("{reason}; trying again in {} s", wait.as_secs_f64()));
            sleep(wait);
        }
    }

    fn attempt(&self, load: Load<'_>, key: &str, left: Option<Duration>) -> Result<Receipt, Trouble> {
        let text = self.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
        let (url, content_type, bytes) = match load {
            Load::Message(bytes) => (&self.url, text, bytes),
            Load::Batch(bytes) => (&self.batch_url, "application/x-ndjson", bytes),
        };
        let request = self.server.agent.post(url).config().timeout_global(left).build();
        let mut request = request
            .header("Accept", "application/json")
            .header("Content-Type", content_type)
            .header("Idempotency-Key", key);
        if let (Load::Message(bytes), Some(name)) = (load, &self.key_field) {
            let key = key_of(bytes, name).and_then(|key| HeaderValue::from_bytes(key.as_bytes()).ok());
            let key = key.ok_or_else(|| {
                Trouble::lasting(format!(
                    "it is no JSON object whose member {name:?} is a string or a number"
                ))
            })?;
            request = request.header("Encke-Key", key);
        }
        if let Some(bearer) = &self.bearer {
            request = request.header("Authorization", bearer);
        }
        if bytes.len() >= ASK_FIRST_BYTES {
            request = request.header("Expect", "100-continue").header("Connection", "close");
        }
        let mut response = check(request.send(bytes)).map_err(|trouble| self.with_advice(trouble))?;
        let body = response.body_mut().read_to_vec().map_err(|error| Trouble::lost(error.to_string()))?;
        let receipt = match load {
            Load::Message(_) => serde_json::from_slice(&body).ok(),
            Load::Batch(_) => serde_json::from_slice(&body).ok().and_then(|mut all: Vec<Receipt>| all.pop()),
        };
        receipt.ok_or_else(|| {
            Trouble::lasting(format!(
                "{} answered {} without the id of a message: is an Encke server there?",
                self.server.base(),
                response.status()
            ))
        })
    }

    /// Says where the token comes from, if that is what is wrong.
    fn with_advice(&self, mut trouble: Trouble) -> Trouble {
        if trouble.status == Some(StatusCode::UNAUTHORIZED) {
            trouble.reason += match self.bearer {
                Some(_) => " (the token was taken from the environment variable ENCKE_PUBLISH_TOKEN)",
                None => " (put the token into the environment variable ENCKE_PUBLISH_TOKEN)",
            };
        }
        trouble
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "ENCKE_PUBLISH_TOKEN holds characters that no token has (a line break?)")?;
    value.set_sensitive(true);
    Ok(value)
}

/// 128 random bits: two runs never share an idempotency key.
fn random_name() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}
