//! Signals become mail.

use super::{Mail, Mailbox};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::thread;

/// Turns SIGTERM and SIGINT into [`Mail::Shutdown`], on a thread that sleeps otherwise.
pub fn watch(mailbox: Mailbox) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in &mut signals {
            if !mailbox.send(Mail::Shutdown) {
                return;
            }
        }
    })?;
    Ok(())
}
