//! A window of FDAjax, and what it is shown.

use super::*;

impl Sim {
    /// A window of FDAjax, which names the time up to which it has everything: all that a protocol without ids can say.
    pub(super) fn chat(&mut self) {
        let text = self.text();
        let conn = self.connect();
        let length = text.len();
        self.send(
            conn,
            &format!("POST /pub/{GROUP} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{text}"),
        );
        self.wait(conn, Kind::Http, vec![text]);
        self.look_at_window();
    }

    /// Reads what it is given, and has it wait again.
    pub(super) fn look_at_window(&mut self) {
        for _ in 0..100 {
            if let Some(conn) = self.window {
                let answer = self.read(conn);
                if answer.is_empty() {
                    return;
                }
                for text in texts_in(&answer) {
                    assert!(self.behind || self.stored.contains(text), "{text} was shown and is not stored");
                    assert!(!self.has_ended(text), "{text} has expired");
                    self.chats.insert(text.to_owned());
                }
            }
            let conn = self.connect();
            self.send(conn, "GET /live.fdajax?cmd=wait&win_id=1&types=feed&sec=1 HTTP/1.1\r\nHost: x\r\nCookie: _session_id=s\r\n\r\n");
            self.window = Some(conn);
        }
        panic!("a window is answered for ever");
    }

    /// After a restart it is a new window, and gets what is not too old for FDAjax.
    pub(super) fn check_window(&mut self) {
        self.window = None;
        self.look_at_window();
        for entry in &self.disk.entries {
            let Record::Message { channel, at, .. } = &entry.record else { continue };
            let text = &self.named[&entry.seq];
            let is_due = **channel == *GROUP && at.0 + LIVE_MS > self.line() && !self.has_ended(text);
            assert!(!is_due || self.chats.contains(text), "no window was given {text}");
        }
    }
}
