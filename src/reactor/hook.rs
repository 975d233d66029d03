//! Threads that ask the application and may wait for it, as the reactor never does.
//!
//! There are as many as questions under way, at most `hook.concurrency`, and they end when there is nothing to ask. Each
//! question has one deadline for resolving, connecting, the answer and its body. Redirects are not followed and proxies
//! of the environment are not used: what is handed on are the client's cookies.

use super::{Mail, Mailbox};
use crate::config::Config;
use crate::dialect::hook::{Ask, BODY_BYTES_MAX, Reply};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use ureq::Agent;

/// How long a thread without questions stays.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait before an application is tried again that is not there, as while it starts anew.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a thread's stack.
const STACK_BYTES: usize = 256 << 10;

/// Those who ask.
pub struct Askers {
    mailbox: Mailbox,
    url: Arc<str>,
    agent: Agent,
    max: usize,
    desk: Arc<Desk>,
}

/// Where questions lie that no thread has taken yet.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// A question, and where to ask it.
struct Job {
    number: u64,
    body: Vec<u8>,
    deadline: Instant,
    agent: Agent,
    url: Arc<str>,
}

impl Askers {
    /// Nobody asks yet.
    pub fn new(config: &Config, mailbox: Mailbox) -> Self {
        let (url, agent) = target(config);
        Self { mailbox, url, agent, max: config.hook.concurrency, desk: Arc::default() }
    }

    /// Takes other settings, for what is asked from now on.
    pub fn reconfigure(&mut self, config: &Config) {
        (self.url, self.agent) = target(config);
        self.max = config.hook.concurrency;
    }

    /// Has a question asked, whose answer is of use for `within`.
    pub fn ask(&self, ask: Ask, within: Duration) {
        let Ask { number, body, .. } = ask;
        let (agent, url) = (self.agent.clone(), Arc::clone(&self.url));
        let mut state = self.desk.lock();
        state.jobs.push_back(Job { number, body, deadline: Instant::now() + within, agent, url });
        if state.idle < state.jobs.len() && state.threads < self.max {
            state.threads += usize::from(self.begin());
        }
        drop(state);
        self.desk.bell.notify_one();
    }

    /// Begins a thread. Returns whether there is one.
    fn begin(&self) -> bool {
        let (desk, mailbox) = (Arc::clone(&self.desk), self.mailbox.clone());
        let builder = thread::Builder::new().name("hook".into()).stack_size(STACK_BYTES);
        let begun = builder.spawn(move || work(&desk, &mailbox));
        if let Err(error) = &begun {
            log::error!("hook: cannot begin a thread: {error}");
        }
        begun.is_ok()
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next question; `None` when there has been none for a while, and the thread has been signed off.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        let until = Instant::now() + IDLE;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
    }
}

/// Asks one question after the other, until there has been none for a while.
fn work(desk: &Desk, mailbox: &Mailbox) {
    while let Some(job) = desk.next() {
        // A reactor that is no more takes no mail, and has no more questions.
        _ = mailbox.send(Mail::Word { number: job.number, reply: ask(&job) });
    }
}

/// Where and how questions are asked.
fn target(config: &Config) -> (Arc<str>, Agent) {
    let settings = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("encke/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections(config.hook.concurrency)
        .max_idle_connections_per_host(config.hook.concurrency)
        .build();
    (config.hook.url.as_deref().unwrap_or_default().into(), settings.new_agent())
}

/// Asks until there is an answer or no time left. An application that starts anew refuses connections for a moment, and
/// closes those that were kept: it is tried again.
fn ask(job: &Job) -> Reply {
    loop {
        let left = job.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Reply::Late;
        }
        let error = match ask_once(job, left) {
            Ok(reply) => return reply,
            Err(error) => error,
        };
        match &error {
            ureq::Error::Timeout(_) => return Reply::Late,
            ureq::Error::BodyExceedsLimit(_) => {
                return Reply::Failed("its answer is longer than 64 KiB".into());
            }
            ureq::Error::ConnectionFailed if PAUSE < left => thread::sleep(PAUSE),
            ureq::Error::Io(fault) if is_passing(fault.kind()) && PAUSE < left => thread::sleep(PAUSE),
            error => return Reply::Failed(format!("there is no answer: {error}")),
        }
    }
}

/// Whether an application may be there again in a moment.
const fn is_passing(fault: ErrorKind) -> bool {
    matches!(
        fault,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
    )
}

fn ask_once(job: &Job, within: Duration) -> Result<Reply, ureq::Error> {
    let request = job.agent.post(&*job.url).header("content-type", "application/json");
    let mut response = request.config().timeout_global(Some(within)).build().send(&job.body[..])?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(BODY_BYTES_MAX as u64).read_to_vec()?;
    Ok(Reply::Answer { status, body })
}
