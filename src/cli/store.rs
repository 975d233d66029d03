//! `encke store`: looks at the history on disk of a server that does not run, and keeps it in order.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use clap::{Args, ValueEnum};

use super::settings::{self, Options};
use super::status::{bytes, grouped};
use crate::hub::Message;
use crate::id::MessageId;
use crate::log::Record;
use crate::reactor::store::{Contents, Idle, StoreError};
use crate::time::Instant;
use crate::transport::write_envelope;

/// Arguments of `encke store`.
#[derive(Debug, Args)]
#[command(
    after_help = "The directory is that of the setting store.dir: --store-dir, ENCKE_STORE_DIR, or the file of --config. \
                  Stop its server first, and run this as the server's user. Exit code 1: the history is in use, missing, \
                  damaged or of another version; nothing was changed."
)]
pub struct StoreArgs {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    #[command(flatten)]
    options: Options,
}

/// What to do with a history.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Read all of it and say what is there
    Check,
    /// Give back to the file system what the file does not need
    Compact,
    /// Rename the history, so that clients are told of a gap: for a backup that was put back
    NewEpoch,
    /// Print every message as a line of JSON
    Dump,
}

/// Runs it.
pub fn run(args: &StoreArgs) -> ExitCode {
    let loaded = match args.options.load() {
        Ok(loaded) => loaded,
        Err(problems) => return settings::report(&problems),
    };
    let Some(path) = &loaded.config.store.dir else {
        return fail("which history? Name its directory by --store-dir");
    };
    match work(args.action, path) {
        Ok(code) => code,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("encke store: {why}");
    ExitCode::FAILURE
}

fn work(action: Action, path: &Path) -> Result<ExitCode, StoreError> {
    let mut history = Idle::take(path)?;
    let said = match action {
        Action::Check => describe(&history.check()?),
        Action::Compact => {
            let (before, after) = history.compact()?;
            format!("{} before, {} after\n", bytes(before), bytes(after))
        }
        Action::NewEpoch => {
            let (old, new) = history.renew_epoch()?;
            format!("the epoch is {new}, it was {old}; who comes with an older id is told of a gap\n")
        }
        Action::Dump => return dump(&history),
    };
    Ok(super::print(&said))
}

/// One screen.
fn describe(contents: &Contents) -> String {
    let Contents { format, epoch, is_closed, is_copy, next, live, dead, bytes: size, channels, keys } =
        *contents;
    let closed = match is_closed {
        true => "in good order",
        false => "no: its server crashed, or was killed; the next one goes on from here",
    };
    let epoch = match is_copy {
        true => format!("{epoch}; it is a copy, and its first server gives it a new one"),
        false => epoch.to_string(),
    };
    let rows = [
        ("format", format.to_string()),
        ("epoch", epoch),
        ("closed", closed.to_owned()),
        ("next number", next.to_string()),
        ("messages", grouped(live)),
        ("dead messages", grouped(dead)),
        ("channels", grouped(channels as u64)),
        ("idempotency keys", grouped(keys as u64)),
        ("file", bytes(size)),
    ];
    let lines = rows.iter().map(|(name, value)| format!("{name:<18}{value}\n"));
    lines.chain(["ok: every message can be read\n".into()]).collect()
}

/// A reader that went away (`| head`) ends it, and is no failure.
fn dump(history: &Idle) -> Result<ExitCode, StoreError> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut written = Ok(());
    let mut line = Vec::new();
    history.read(|epoch, seq, record| {
        line.clear();
        write_line(&mut line, MessageId { epoch, seq }, record);
        written = out.write_all(&line);
        written.is_ok()
    })?;
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Ok(fail(&format!("cannot write to standard output: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Its envelope, as subscribers get it, and when it was accepted.
fn write_line(line: &mut Vec<u8>, id: MessageId, record: Record) {
    let Record::Message { channel, publication, at } = record else { return };
    let message = Message::new(id, Rc::from(channel), publication, Instant::default());
    write_envelope(line, &message);
    // Instead of the brace at the end.
    line.pop();
    line.extend_from_slice(format!(",\"time\":{}}}\n", at.0).as_bytes());
}
