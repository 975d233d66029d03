//! FDAjax, whose requests are all query: whatever it says, the server answers and nothing stays.

use crate::script::{MARK, Stage, small};

/// Checks queries, one a line, asked by a guest and by a user who is logged in.
pub fn check(data: &[u8]) {
    let mut script = LOGIN.to_vec();
    for (at, line) in data.split(|&byte| byte == b'\n').enumerate().take(20) {
        script.extend_from_slice(&[MARK, b'0' + (at % 5) as u8]);
        script.extend_from_slice(b"GET /live.fdajax?");
        script.extend(line.iter().filter(|&&byte| byte != MARK));
        let fields = format!(" HTTP/1.1\r\nHost: www{at}.x\r\nCookie: _session_id=s{}\r\n\r\n", at % 3);
        script.extend_from_slice(fields.as_bytes());
        script.extend_from_slice(&[MARK, b'.']);
    }
    Stage::new(small()).play(&script);
}

const LOGIN: &[u8] =
    b"GET /live.fdajax?cmd=login&user_id=1&ip_addr=127.0.0.1&sess_id=s1 HTTP/1.1\r\nHost: x\r\n\r\n";
