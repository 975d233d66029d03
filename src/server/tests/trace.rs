//! What happened in the run of a seed, and how to replay it if it fails.

use crate::config::Config;
use crate::time::Instant;
use std::fmt::{self, Write};

/// Says how to replay the seed, and what happened, unless the run came to its end.
pub struct Trace {
    seed: u64,
    /// None: nobody wants to read it.
    text: Option<String>,
    is_finished: bool,
}

impl Trace {
    /// Of a run that begins.
    pub fn new(seed: u64, is_wanted: bool, config: &Config) -> Self {
        Self { seed, text: is_wanted.then(|| format!("{config:#?}\n")), is_finished: false }
    }

    /// Notes what happens.
    pub fn note(&mut self, now: Instant, what: fmt::Arguments) {
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{:>9} {what}", now.as_millis());
        }
    }

    /// The run has come to its end.
    pub fn finish(&mut self) {
        self.is_finished = true;
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if !self.is_finished {
            eprintln!("{}", self.text.as_deref().unwrap_or_default());
            eprintln!("seed {}: replay it with ENCKE_SIM_SEED={}", self.seed, self.seed);
        }
    }
}

/// Notes what happens in a simulation that has a `trace` and a `world`.
macro_rules! note {
    ($sim:expr, $($text:tt)*) => {
        $sim.trace.note($sim.world.now.at, format_args!($($text)*))
    };
}
pub(super) use note;
