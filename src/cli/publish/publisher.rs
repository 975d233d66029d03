//! Publishes one message at a time on one connection, again and again until the server has it.
//!
//! Every message carries an `Idempotency-Key` of its own, the same in each attempt, so that an attempt whose
//! answer was lost is not published a second time. The server remembers a key for two minutes: when an
//! attempt is in doubt for longer, trying again could duplicate the message, and the person decides.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::HeaderValue;

use super::PublishArgs;
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
    bearer: Option<HeaderValue>,
    run: String,
    count: u64,
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
        Ok(Self {
            server,
            url,
            content_type: args.content_type.clone(),
            bearer: token.map(bearer).transpose()?,
            run: random_name()?,
            count: 0,
            backoff: BACKOFF,
            in_doubt_max: IN_DOUBT_MAX,
        })
    }

    /// Publishes `message`, however often that has to be tried; `notice` hears of each failure.
    ///
    /// The error is a sentence that says why there is no point in going on.
    pub fn publish(&mut self, message: &[u8], mut notice: impl FnMut(&str)) -> Result<Outcome, String> {
        self.count += 1;
        let key = format!("{}-{}", self.run, self.count);
        let mut backoff = self.backoff.clone();
        let mut in_doubt_since = None;
        loop {
            let asked_at = Instant::now();
            let trouble = match self.attempt(message, &key) {
                Ok(Receipt { subscribers, .. }) => return Ok(Outcome::Published { subscribers }),
                Err(trouble) => trouble,
            };
            let wait = match trouble.remedy {
                Remedy::GiveUp => return Err(trouble.reason),
                Remedy::Skip => return Ok(Outcome::TooLarge(trouble.reason)),
                Remedy::Retry { after, perhaps_done } => {
                    if perhaps_done {
                        in_doubt_since.get_or_insert(asked_at);
                    }
                    backoff.next().max(after.unwrap_or_default())
                }
            };
            if in_doubt_since.is_some_and(|since| since.elapsed() + wait > self.in_doubt_max) {
                return Err(format!(
                    "{}: {}; an attempt whose answer was lost is too long ago to try again without the risk \
                     of publishing twice. Look at the channel, then continue from this message",
                    self.server.base(),
                    trouble.reason
                ));
            }
            notice(&format!(
                "{}: {}; trying again in {} s",
                self.server.base(),
                trouble.reason,
                wait.as_secs_f64()
            ));
            sleep(wait);
        }
    }

    fn attempt(&self, message: &[u8], key: &str) -> Result<Receipt, Trouble> {
        let mut request = self
            .server
            .agent
            .post(&self.url)
            .header("Accept", "application/json")
            .header("Content-Type", self.content_type.as_deref().unwrap_or("text/plain; charset=utf-8"))
            .header("Idempotency-Key", key);
        if let Some(bearer) = &self.bearer {
            request = request.header("Authorization", bearer);
        }
        if message.len() >= ASK_FIRST_BYTES {
            request = request.header("Expect", "100-continue").header("Connection", "close");
        }
        let mut response = check(request.send(message))?;
        let body = response.body_mut().read_to_vec().map_err(|error| Trouble::lost(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|_| {
            Trouble::lasting(format!(
                "{} answered {} without the id of a message: is an Encke server there?",
                self.server.base(),
                response.status()
            ))
        })
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
