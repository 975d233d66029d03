//! FDAjax: what a waiting guest costs, beside a plain parked poll.

use std::net::TcpStream;

use crate::client::request;
use crate::fdajax::Site;
use crate::harness::Crowd;
use std::io::Write;

/// Bytes of user-space memory a waiting guest may take; the original promised 1 kB and took 7.9.
const GUEST_BYTES_MAX: usize = 600;

/// Those who wait before anybody is counted: they pay for what is allocated once.
const FIRST: usize = 20;

/// Bytes of memory for each of `count` requests that wait on `channel`.
fn bytes_each(count: usize, channel: &str, target: impl Fn(usize) -> (String, String)) -> usize {
    let site = Site::start(&["--limits-idle-seconds=3600", "--poll-timeout-seconds=300"]);
    let open = |n: usize| {
        let (target, cookie) = target(n);
        let mut stream = TcpStream::connect(site.server.addr()).expect("the server accepts");
        stream.write_all(&request("GET", &target, &[&cookie], b"")).expect("the server reads");
        stream
    };
    let mut waiting: Vec<TcpStream> = (0..FIRST).map(open).collect();
    site.server.listeners(channel, FIRST as u64);
    let before = site.server.allocated_bytes();
    waiting.extend((FIRST..FIRST + count).map(open));
    site.server.listeners(channel, (FIRST + count) as u64);
    (site.server.allocated_bytes() - before) / count
}

#[test]
fn a_waiting_guest_takes_less_than_600_bytes() {
    let room = Crowd::of(FIRST + 10_000);
    for count in [2_000, room.count - FIRST] {
        let poll = bytes_each(count, "x", |_| ("/sub/x?timeout=300".into(), "Accept: */*".into()));
        let guest = bytes_each(count, "fdajax/groups/gchat", |n| {
            let win_id = 1_000_000_007 * (n + 1) % 2_147_483_647;
            let target = format!("/live.fdajax?cmd=wait&force=1&user_id=0&win_id={win_id}&types=gchat");
            (target, format!("Cookie: SID={n:032x}"))
        });
        println!("{count} waiting: {poll} bytes a parked poll, {guest} bytes a guest window");
        assert!(guest < GUEST_BYTES_MAX, "{count} guests take {guest} bytes each, a parked poll {poll}");
    }
}
