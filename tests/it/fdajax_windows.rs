//! FDAjax: windows, their slots, streams, time-outs and ends.

use crate::fdajax::Site;
use crate::harness::until;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn host(slot: u8) -> String {
    format!("www{slot}.example.com")
}

#[test]
fn a_wait_needs_a_window_and_types() {
    let site = Site::start(&[]);
    let mut page = site.page("guest");
    for query in ["cmd=wait&win_id=1", "cmd=wait&types=feed", "cmd=stream&win_id=0&types=feed"] {
        assert_eq!(page.ask(query).status, 400, "{query}");
    }
    assert_eq!(page.ask("cmd=cancel").status, 400);
    assert_eq!(page.ask("cmd=chat_sig&types=gchat").status, 400);
    assert_eq!(page.ask("cmd=chat_sig&types=gchat|chat&mes=1").status, 400);
}

#[test]
fn a_window_has_one_connection() {
    let site = Site::start(&[]);
    let (mut first, mut second) = (site.page("guest"), site.page("guest"));
    first.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    assert_eq!(second.ask("cmd=wait&win_id=1&types=feed").status, 409);
    assert_eq!(second.ask("cmd=wait&win_id=1&types=feed&force=1").status, 409);
    site.admin("cmd=push&types=feed&mes=a");
    assert_eq!(first.text(), "a");
    second.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    site.admin("cmd=push&types=feed&mes=b");
    assert_eq!(second.text(), "b", "it goes on with any connection");
}

#[test]
fn cancel() {
    let site = Site::start(&[]);
    let (mut page, mut other) = (site.page("guest"), site.page("guest"));
    page.send("cmd=wait&win_id=5&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    assert_eq!(other.get("cmd=cancel&win_id=6"), "NOT_FOUND");
    assert_eq!(other.get("cmd=cancel&win_id=5&alert_id=1"), "CLOSED");
    assert_eq!(page.text(), "");
    assert_eq!(other.get("cmd=cancel&win_id=5"), "NOT_FOUND");
    assert_eq!(other.get("cmd=cancel&win_id=5&mes=noresult-at-all"), "");
    let tagged = other.ask("cmd=cancel&win_id=5&mes=noresult&win_st=1");
    assert_eq!(tagged.text(), "<script type=\"text/javascript\">\n</script>\n");

    page.send("cmd=stream&win_id=5&types=feed");
    assert_eq!(page.client().head().status, 200);
    page.client().chunk();
    assert_eq!(other.get("cmd=cancel&win_id=5"), "CLOSED");
    assert_eq!(page.client().chunk(), None, "a stream ends");
}

#[test]
fn an_idle_window_is_forgotten_by_cancel() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=5&types=chat");
    site.window(5, "open");
    site.admin("cmd=push&peer_id=1&types=chat&mes=a");
    assert_eq!(page.text(), "a");
    assert_eq!(site.admin("cmd=check&user_id=1"), "USER_ACTIVE", "it is remembered");
    assert_eq!(page.get("cmd=cancel&user_id=1&win_id=5"), "NOT_FOUND");
    assert_eq!(site.admin("cmd=check&user_id=1"), "LOGOUT_OK");
}

#[test]
fn slots_and_redirects() {
    let site = Site::start(&[]);
    let mut pages: Vec<_> = (0..5).map(|slot| site.page("g").at(&host(slot))).collect();
    for (slot, page) in (0..).zip(&mut pages) {
        if slot > 0 {
            let query = format!("cmd=wait&win_id=1{slot}&types=feed");
            let mut lost = site.page("g").at("www0.example.com");
            assert_eq!(lost.get(&query), format!("js_redirect_func({slot});"), "the lowest free slot");
        }
        page.send(&format!("cmd=wait&win_id=1{slot}&types=feed"));
        site.server.listeners("fdajax/groups/feed", slot + 1);
    }
    // No slot is free: the oldest window goes, and its slot is offered.
    assert_eq!(
        site.page("g").at("www3.example.com").get("cmd=wait&win_id=9&types=feed"),
        "js_redirect_func(0);"
    );
    assert_eq!(pages[0].text(), "js_maxwin_code();");
    let mut tagged = site.page("g").at("www3.example.com");
    let answer = tagged.ask("cmd=stream&win_id=9&types=feed&win_st=1");
    assert_eq!(answer.text(), "<script type=\"text/javascript\">\njs_redirect_func(0);</script>\n");
    let mut new = site.page("g").at("www0.example.com");
    new.send("cmd=wait&win_id=9&types=feed");
    site.server.listeners("fdajax/groups/feed", 5);
    // The oldest is now that of slot 1, which is asked for: the new one takes its place.
    let mut next = site.page("g").at("www1.example.com");
    next.send("cmd=wait&win_id=8&types=feed");
    assert_eq!(pages[1].text(), "js_maxwin_code();");
    site.server.listeners("fdajax/groups/feed", 5);
    site.admin("cmd=push&types=feed&mes=all");
    for page in pages.iter_mut().skip(2).chain([&mut new, &mut next]) {
        assert_eq!(page.text(), "all");
    }
}

#[test]
fn force_takes_a_slot() {
    let site = Site::start(&[]);
    let (mut old, mut new, mut secure) = (site.page("g"), site.page("g"), site.page("g"));
    old.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    new.send("cmd=wait&win_id=2&types=feed&force=1");
    assert_eq!(old.text(), "js_maxwin_code();");
    site.server.listeners("fdajax/groups/feed", 1);
    secure.host = "secure.example.com".into();
    secure.send("cmd=stream&win_id=3&types=feed&win_st=1");
    secure.client().head();
    secure.client().chunk();
    let mut again = site.page("g").at("secure.example.com");
    again.send("cmd=wait&win_id=4&types=feed");
    let last = String::from_utf8(secure.client().chunk().unwrap()).unwrap();
    assert_eq!(last, "<script type=\"text/javascript\">\njs_maxwin_code();</script>\n");
    assert_eq!(secure.client().chunk(), None);

    let site = Site::start(&["--fdajax-send-redirects=false"]);
    let (mut old, mut new) = (site.page("g"), site.page("g"));
    old.send("cmd=wait&win_id=1&types=feed");
    site.server.listeners("fdajax/groups/feed", 1);
    new.send("cmd=wait&win_id=2&types=feed");
    assert_eq!(old.text(), "js_maxwin_code();");
}

#[test]
fn a_slot_stays_taken_until_the_window_is_forgotten() {
    // One that remembers windows for longer than this lasts, and one that forgets them soon.
    for (timeout, is_forgotten) in [("--fdajax-win-timeout=60000", false), ("--fdajax-win-timeout=300", true)]
    {
        let site = Site::start(&[timeout]);
        let mut page = site.page("g");
        page.send("cmd=wait&win_id=1&types=feed");
        site.server.listeners("fdajax/groups/feed", 1);
        site.admin("cmd=push&types=feed&mes=a");
        assert_eq!(page.text(), "a");
        if is_forgotten {
            site.server.listeners("fdajax/groups/feed", 0);
        }
        // From long ago on, so that there is something for it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
        let answer = page.get(&format!("cmd=wait&win_id=2&types=feed&sec={since}"));
        assert_eq!(answer, if is_forgotten { "a" } else { "js_redirect_func(1);" });
    }
}

#[test]
fn a_client_that_left_frees_its_slot_at_once() {
    let site = Site::start(&[]);
    site.login(1);
    for win_id in 1..=8 {
        let mut page = site.page(1);
        page.send(&format!("cmd=wait&user_id=1&win_id={win_id}&types=chat"));
        site.window(win_id, "open");
        drop(page);
        site.window(win_id, "gone");
    }
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=20&types=chat");
    site.window(20, "open");
    page.client().half_close();
    site.window(20, "gone");
    assert_eq!(site.admin("cmd=check&user_id=1"), "LOGOUT_OK", "those who left do not count");
}

#[test]
fn what_came_for_a_client_that_left_waits_for_its_return() {
    let site = Site::start(&[]);
    site.login(1);
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=7&types=chat");
    site.window(7, "open");
    drop(page);
    site.window(7, "gone");
    site.admin("cmd=push&peer_id=1&types=chat&mes=kept");
    assert_eq!(site.page(1).get("cmd=wait&user_id=1&win_id=7&types=chat"), "kept");
}

#[test]
fn what_nobody_came_back_for_is_judged() {
    let site = Site::start(&["--fdajax-win-timeout=3000"]);
    site.login(1);
    let mut page = site.page(1);
    page.send("cmd=wait&user_id=1&win_id=7&types=chat");
    site.window(7, "open");
    drop(page);
    // Gone, or on a slow machine forgotten by now.
    until("it is not open", || (!site.ask("cmd=info").text().contains("<td>open</td>")).then_some(()));
    site.admin("cmd=push&peer_id=1&types=chat&mes=late");
    let mut next = site.page(1);
    next.send("cmd=wait&user_id=1&win_id=8&types=unw");
    assert_eq!(next.text(), "js_alert_id_func(1);\nunw.late");
}

#[test]
fn streams() {
    let site = Site::start(&["--fdajax-html-begin=<html><body>"]);
    let mut page = site.page("g");
    page.send("cmd=stream&win_id=1&types=feed");
    let head = page.client().head();
    assert_eq!((head.status, head.get("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(head.lists("cache-control", "no-store") && head.get("content-length").is_none(), "{head:?}");
    let mut chunk = || String::from_utf8(page.client().chunk().expect("the stream goes on")).unwrap();
    assert_eq!(chunk(), "<html><body>\n");
    for text in ["1", "2", "3"] {
        site.admin(&format!("cmd=push&types=feed&mes={text}"));
        assert_eq!(chunk(), text);
    }
    let mut tagged = site.page("h");
    tagged.send("cmd=stream&win_id=1&types=gchat&win_st=1");
    tagged.client().head();
    let mut chunk = || String::from_utf8(tagged.client().chunk().expect("the stream goes on")).unwrap();
    assert_eq!(chunk(), "<html><body>\n");
    site.admin("cmd=push&types=gchat&mes=a()");
    assert_eq!(chunk(), "<script type=\"text/javascript\">\na()\n</script>\n");
    site.admin("cmd=push&types=gchat&mes=b()%0A");
    assert_eq!(chunk(), "<script type=\"text/javascript\">\nb()\n</script>\n");
}

#[test]
fn an_old_client_gets_a_stream_without_chunks() {
    let site = Site::start(&["--fdajax-html-begin=<p>"]);
    let mut client = site.server.connect();
    client.send("GET /live.fdajax?cmd=stream&win_id=1&types=feed HTTP/1.0\r\nCookie: SID=g\r\n\r\n");
    let head = client.head();
    assert!(head.lists("connection", "close") && head.get("transfer-encoding").is_none(), "{head:?}");
    client.read_until(b"<p>\n");
    site.admin("cmd=push&types=feed&mes=a();");
    assert_eq!(client.read_until(b"a();"), b"a();");
}

#[test]
fn tags_and_the_mode_are_those_of_the_latest_request() {
    let site = Site::start(&[]);
    let mut page = site.page("g");
    page.send("cmd=wait&win_id=1&types=feed&win_st=2");
    site.server.listeners("fdajax/groups/feed", 1);
    site.admin("cmd=push&types=feed&mes=a");
    let answer = page.answer();
    assert_eq!(answer.text(), "<script type=\"text/javascript\">\na</script>\n");
    assert_eq!(answer.media_type(), "text/html");
    page.send("cmd=stream&win_id=1&types=feed");
    page.client().head();
    page.client().chunk();
    site.admin("cmd=push&types=feed&mes=b");
    assert_eq!(page.client().chunk().unwrap(), b"b");
    site.admin("cmd=push&types=feed&mes=c");
    assert_eq!(page.client().chunk().unwrap(), b"c", "it is a stream and stays one");
}

#[test]
fn pings() {
    let site = Site::start(&["--fdajax-send-pings=1"]);
    let (mut wait, mut stream) = (site.page("g"), site.page("h"));
    let begin = Instant::now();
    wait.send("cmd=wait&win_id=1&types=feed");
    stream.send("cmd=stream&win_id=1&types=feed");
    stream.client().head();
    stream.client().chunk();
    assert_eq!(wait.text(), "js_ping_code();");
    // The server's clock has whole milliseconds.
    assert!(begin.elapsed() > Duration::from_millis(990));
    assert_eq!(stream.client().chunk().unwrap(), b"js_ping_code();");
    assert_eq!(stream.client().chunk(), None);
    wait.send("cmd=wait&win_id=1&types=feed");
    assert_eq!(wait.text(), "js_ping_code();", "the window goes on");
}

#[test]
fn logout_ends_all_windows() {
    let site = Site::start(&[]);
    site.login(1);
    let (mut wait, mut stream) = (site.page(1), site.page(1).at("www1.example.com"));
    wait.send("cmd=wait&user_id=1&win_id=1&types=chat");
    site.window(1, "open");
    stream.send("cmd=stream&user_id=1&win_id=2&types=chat");
    stream.client().head();
    stream.client().chunk();
    assert_eq!(site.admin("cmd=check&user_id=1"), "USER_ACTIVE");
    assert_eq!(site.admin("cmd=logout&user_id=1"), "LOGOUT_OK");
    assert_eq!(wait.text(), "js_logout_code();");
    assert_eq!(stream.client().chunk().unwrap(), b"js_logout_code();");
    assert_eq!(stream.client().chunk(), None);
    assert_eq!(wait.get("cmd=wait&user_id=1&win_id=1&types=chat"), "js_notfound_code();");
    site.server.listeners("fdajax/users/1", 0);
}

#[test]
fn a_guest_who_logs_in_keeps_the_windows() {
    let site = Site::start(&[]);
    let mut page = site.page(1);
    page.send("cmd=wait&win_id=1&types=chat|feed");
    site.server.listeners("fdajax/groups/feed", 1);
    let login = |id: u32| site.admin(&format!("cmd=login&user_id={id}&ip_addr=127.0.0.1&sess_id=s1"));
    assert_eq!(login(7), "LOGIN_OLD_SESS");
    site.admin("cmd=push&peer_id=7&types=chat&mes=hello");
    assert_eq!(page.text(), "hello");
    assert_eq!(page.ask("cmd=wait&win_id=1&types=chat").status, 403, "no guest any more");

    // A user who is known takes over a guest's session, with its windows.
    let mut guest = site.page(2).at("www1.example.com");
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 60;
    guest.send(&format!("cmd=wait&win_id=2&types=chat|feed&sec={since}"));
    site.server.listeners("fdajax/groups/feed", 2);
    assert_eq!(site.admin("cmd=login&user_id=7&ip_addr=127.0.0.1&sess_id=s2"), "ALREADY_LOGGED");
    assert_eq!(guest.text(), "hello", "as for every new window of the user");
    guest.send("cmd=wait&user_id=7&win_id=2&types=chat");
    site.window(2, "open");
    site.admin("cmd=push&peer_id=7&types=chat&mes=again");
    assert_eq!(guest.text(), "again");
}

#[test]
fn the_server_leaves_in_good_order() {
    let mut site = Site::start(&[]);
    let (mut wait, mut stream) = (site.page("g"), site.page("h"));
    wait.send("cmd=wait&win_id=1&types=feed");
    stream.send("cmd=stream&win_id=1&types=feed");
    stream.client().head();
    stream.client().chunk();
    site.server.listeners("fdajax/groups/feed", 2);
    site.server.signal(rustix::process::Signal::TERM);
    assert_eq!(wait.text(), "", "ask again");
    assert_eq!(stream.client().chunk(), None);
    assert!(site.server.exit().success());
}

#[test]
fn a_stream_that_is_not_read_gets_everything_later() {
    let site = Site::start(&["--history-bytes=64MiB", "--history-messages=10000"]);
    let mut page = site.page("g");
    page.client().fix_window();
    page.send("cmd=stream&win_id=1&types=feed");
    page.client().head();
    page.client().chunk();
    let filler = "x".repeat(60_000);
    let mut publisher = site.server.admin();
    for n in 0..200 {
        publisher.publish("fdajax/groups/feed", &[], format!("<{n}>{filler}").as_bytes());
    }
    site.admin("cmd=push&types=feed&mes=END");
    let (mut all, mut end) = (Vec::new(), false);
    while !end {
        all.extend(page.client().chunk().expect("the stream goes on"));
        end = all.ends_with(b"END");
    }
    let text = String::from_utf8(all).unwrap();
    let mut from = 0;
    for n in 0..200 {
        from += text[from..].find(&format!("<{n}>")).unwrap_or_else(|| panic!("{n} is missing or late"));
    }
    assert_eq!(text.matches('<').count(), 200, "nothing twice");
}
